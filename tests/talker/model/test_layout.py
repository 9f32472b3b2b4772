"""Positions of tokens and patches, for every arrangement, delay and task."""

import pytest
import torch

from talker.model.layout import ARRANGEMENTS, IGNORED, Layout, stop_labels
from talker.model.tasks import PUPPET_TASKS, RELEASE_TASKS, Task, task_named

DELAYS = (-2, -1, 0, 1, 3)


@pytest.fixture(params=sorted(ARRANGEMENTS))
def layout(request):
    return Layout(arrangement=request.param)


@pytest.mark.parametrize("delay", DELAYS)
def test_slots_cover_the_sequence_without_gaps_or_overlaps(layout, delay):
    plan = layout.plan(text=5, delay=delay)
    slots = plan.slots({"audio": 7, "motion": 7})
    assert slots == 7 + abs(delay)
    covered = [plan.token(group[0], slot) for slot in range(slots) for group in plan.groups]
    assert covered == list(range(plan.start, plan.length(slots)))


@pytest.mark.parametrize("delay", DELAYS)
def test_motion_lags_by_the_delay(layout, delay):
    plan = layout.plan(text=5, delay=delay)
    for slot in range(5, 9):
        assert plan.patch("audio", slot) - plan.patch("motion", slot) == delay


def test_the_second_stream_of_an_interleaved_slot_is_predicted_from_the_first():
    for name, second, first in (("av", "motion", "audio"), ("va", "audio", "motion")):
        plan = Layout(arrangement=name).plan(text=3, delay=0)
        assert plan.token(second, 4) - 1 == plan.token(first, 4)
        assert plan.token(first, 4) - 1 == plan.token(second, 3)


def test_a_given_patch_is_fed_before_the_predicted_patch_with_the_same_index():
    a2v, v2a = (task_named(PUPPET_TASKS, name) for name in ("a2v", "v2a"))
    for task, given, made in ((a2v, "audio", "motion"), (v2a, "motion", "audio")):
        plan = Layout().plan(text=4, delay=task.delay)
        for patch in range(6):
            position = plan.token(given, patch + plan.shift(given))
            assert position < plan.token(made, patch + plan.shift(made))


def test_first_patch_layout_has_no_position_for_the_task():
    plan = Layout(task_token="first_patch").plan(text=4, delay=0)
    assert (plan.text_start, plan.start) == (0, 4)


def test_rotary_positions_of_slots_advance_by_text_per_patch():
    plain = Layout().plan(text=4, delay=0)
    assert torch.equal(plain.rotary(9), torch.arange(9.0))
    stretched = Layout(text_per_patch=2.5).plan(text=4, delay=0).rotary(8)
    assert torch.equal(stretched, torch.tensor([0, 1, 2, 3, 4, 1, 3.5, 6]))
    interleaved = Layout(text_per_patch=2.0, arrangement="av").plan(text=2, delay=0).rotary(6)
    assert torch.equal(interleaved, torch.tensor([0, 1, 2, 1, 2, 3.0]))


def test_spans_of_more_than_187_positions_have_no_end_label():
    labels, _ = stop_labels(torch.tensor([0, 0]), torch.tensor([187, 188]), 200, ignored=0)
    assert labels.sum(1).tolist() == [1 + IGNORED * 13, IGNORED * 12]


def test_stop_labels_are_one_only_at_the_end_of_a_whole_span():
    labels, weight = stop_labels(torch.tensor([1, 0]), torch.tensor([3, 9]), 6, ignored=0)
    assert labels.tolist() == [[IGNORED, 0, 0, 1, IGNORED, IGNORED], [0] * 6]
    assert weight == 2


def test_tasks_have_the_expected_rows_and_invalid_ones_are_refused():
    assert [task.row for task in PUPPET_TASKS] == [0, 1, 2, 3]
    assert {task.row for task in RELEASE_TASKS} == {0, 1}
    assert all(task.delay == 0 for task in RELEASE_TASKS)
    with pytest.raises(ValueError, match="choose one of tts, t2av"):
        task_named(PUPPET_TASKS, "sing")
    with pytest.raises(ValueError, match="no audio"):
        Task(name="mime", row=0, given=(), predicted=("motion",))
    with pytest.raises(ValueError, match="at most once"):
        Task(name="echo", row=0, given=("audio",), predicted=("audio",))
    with pytest.raises(ValueError, match="choose one of"):
        Layout(arrangement="random")
    with pytest.raises(ValueError, match="choose prepend or first_patch"):
        Layout(task_token="append")
