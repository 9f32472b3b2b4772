"""Laws of every head in training and sampling. Two independent DiTs and a joint head pass the same tests."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from sequences import TASKS, alone, model_of, request_of, same
from toy_head import ToyJointConfig, ToyJointHead

from heads.config import TwoDiTHeadsConfig
from heads.dit import TwoDiTHeads
from heads.flow import draws
from heads.head import Condition
from heads.sampling import Sampling
from heads.streams import NAMES, Streams
from talker.generation.running_batch import RunningBatch
from talker.model.config import TalkerConfig
from talker.model.layout import Layout
from talker.model.model import TalkerModel
from talker.model.tasks import task_named
from talker.model.training_batch import Sample, TrainingBatch, collate

PATCH = 4
HEADS = {
    "two": lambda: TwoDiTHeads(TwoDiTHeadsConfig.tiny()),
    "joint": lambda: ToyJointHead(ToyJointConfig.tiny()),
}
HALF = torch.tensor([True, False, True]), torch.tensor([False, True, True])


@pytest.fixture(params=HEADS)
def head(request: pytest.FixtureRequest) -> torch.nn.Module:
    torch.manual_seed(0)
    return HEADS[request.param]().eval()


def model_with(head: torch.nn.Module) -> TalkerModel:
    torch.manual_seed(0)
    config = dataclasses.replace(TalkerConfig.tiny(), heads=head.config, layout=Layout(text_per_patch=2.0))
    return TalkerModel(config, head).eval()


def inputs(head: torch.nn.Module, rows: int) -> tuple[Condition, Streams]:
    """A condition and noise (or data) for `rows` rows."""
    widths, globals_ = head.config.widths, head.config.global_widths

    def patches() -> Streams:
        return Streams.of(NAMES, lambda name: torch.randn(rows, PATCH, widths[name]))

    condition = Condition(
        torch.randn(rows, 64), patches(), Streams.of(NAMES, lambda name: torch.randn(rows, globals_[name]))
    )
    return condition, patches()


# -- training ------------------------------------------------------------------------------------------------


def test_errors_have_a_value_for_each_row_and_frame(head: torch.nn.Module) -> None:
    condition, data = inputs(head, 3)
    for _, errors in head.errors(condition, data, draws(data)).items():
        assert errors.shape == (3, PATCH)
        assert (errors > 0).all()


def test_rows_that_do_not_predict_a_stream_have_no_error(head: torch.nn.Module) -> None:
    condition, data = inputs(head, 3)
    drawn, predicted = draws(data), Streams(*HALF)
    masked = head.errors(dataclasses.replace(condition, predicted=predicted), data, drawn)
    for name, errors in head.errors(condition, data, drawn).items():
        torch.testing.assert_close(masked[name], errors * predicted[name][:, None])


def test_errors_of_a_row_do_not_depend_on_the_others(head: torch.nn.Module) -> None:
    condition, data = inputs(head, 3)
    drawn = draws(data, drop_hidden=0, drop_context=0)
    whole = head.errors(condition, data, drawn)
    condition.hidden[1:] += 1
    for name, errors in head.errors(condition, data, drawn).items():
        torch.testing.assert_close(errors[0], whole[name][0])
        assert not torch.allclose(errors[1], whole[name][1])


def sample_of(task: str, seed: int = 0) -> Sample:
    config, g = TalkerConfig.tiny(), torch.Generator().manual_seed(seed)
    row = task_named(config.tasks, task)
    known = row.given + row.predicted
    return Sample(
        text=[1, 2, 3],
        task=row,
        latents=Streams.of(known, lambda name: torch.randn(18, config.widths[name], generator=g)),
        global_=Streams.of(known, lambda name: torch.randn(config.global_widths[name], generator=g)),
        read=torch.linspace(0, 3, 5),
    )


def errors_of(model: TalkerModel, batch: TrainingBatch) -> dict[str, torch.Tensor]:
    return model(batch, model.draws(batch, torch.Generator().manual_seed(0), 2))


def test_training_reduces_the_errors_of_every_task(head: torch.nn.Module) -> None:
    model = model_with(head).train()
    batch = collate([sample_of(task, seed) for seed, task in enumerate(TASKS)], model.config)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    curve = []
    for _ in range(5):
        found = errors_of(model, batch)
        loss = torch.stack([found[name].mean() for name in NAMES]).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        curve.append(loss.item())
    assert curve[-1] < 0.9 * curve[0]


@pytest.mark.parametrize("task", ["a2v", "v2a"])
def test_training_gives_a_joint_head_the_given_patch_with_the_same_index(task: str) -> None:
    """Patch j of the given stream is a condition of patch j of the predicted one, for every delay."""
    joint = ToyJointHead(ToyJointConfig.tiny())
    model, sample, seen = model_with(joint), sample_of(task), []
    errors = joint.errors
    joint.errors = lambda condition, target, draws, given: (  # type: ignore[method-assign]
        seen.append((condition, target, given)) or errors(condition, target, draws, given)
    )
    errors_of(model, collate([sample], model.config))
    (condition, target, given), own = seen[0], sample.task
    known, made = own.given[0], own.predicted[0]
    frames = torch.nn.functional.pad(sample.latents[known], (0, 0, 0, 2)).unflatten(0, (-1, PATCH))
    for patch in range(5):
        rows = slice(2 * patch, 2 * patch + 2)  # each patch is drawn twice
        assert condition.predicted[made][rows].all()
        assert condition.known[known][rows].all()
        torch.testing.assert_close(given[known][rows], frames[patch].expand(2, -1, -1))
        padded = torch.nn.functional.pad(sample.latents[made], (0, 0, 0, 2)).unflatten(0, (-1, PATCH))
        torch.testing.assert_close(target[made][rows], padded[patch].expand(2, -1, -1))


# -- sampling ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("capacity", [4, 8])
def test_a_row_has_identical_values_alone_and_in_a_batch(head: torch.nn.Module, capacity: int) -> None:
    """For every task, in the last row, next to requests of other tasks."""
    model = model_with(head)
    for number, task in enumerate(TASKS):
        request = request_of(model.config, task, seed=number, frames=8)
        expected = alone(model, request, capacity)
        batch, rows = RunningBatch(model, capacity), []
        for other in range(capacity - 1):
            batch.join(request_of(model.config, TASKS[other % 4], seed=50 + other, frames=40))
        rows.append(batch.join(request))
        while rows[0].finish_reason is None:
            batch.step()
        assert same(list(rows[0].patches), expected)


def test_only_the_streams_of_the_noise_are_sampled(head: torch.nn.Module) -> None:
    condition, noise = inputs(head, 2)
    sample = head.sample(condition, noise.only(("motion",)), Sampling(steps=2))
    assert sample.names == ("motion",)
    assert sample["motion"].shape == noise["motion"].shape


def test_generation_gives_a_joint_head_the_given_patch(head: torch.nn.Module) -> None:
    """The condition holds the given patch with the index of the predicted one, and marks it as known."""
    model = model_with(head)
    request = request_of(model.config, "a2v", seed=1, frames=12)
    seen: list[tuple[Condition, Streams]] = []
    sample = head.sample

    def watched(condition, noise, sampling, given, constants):
        known, predicted = condition.known.map(torch.clone), condition.predicted.map(torch.clone)
        kept = dataclasses.replace(condition, known=known, predicted=predicted)
        seen.append((kept, given.map(torch.clone)))
        return sample(condition, noise, sampling, given, constants)

    head.sample = watched
    alone(model, request, 1)
    assert len(seen) == 3
    for number, (condition, given) in enumerate(seen):
        assert condition.known["audio"].all()
        assert condition.predicted["motion"].all()
        assert torch.equal(given["audio"][0], request.given["audio"][4 * number : 4 * number + 4])


def test_a_joint_head_needs_both_streams_at_one_position() -> None:
    with pytest.raises(ValueError, match="arrangement"):
        dataclasses.replace(TalkerConfig.tiny(), heads=ToyJointConfig.tiny(), layout=Layout(arrangement="av"))


def test_the_model_builds_the_heads_of_its_config() -> None:
    assert isinstance(model_of().heads, TwoDiTHeads)
