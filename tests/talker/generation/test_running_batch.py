"""The values of a request do not depend on its row, on the other rows, or on when it joined."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from sequences import ALIGNED, TASKS, alone, finish, model_of, prefixed, request_of, same

from heads.sampling import Sampling
from heads.streams import Streams
from talker.checkpoint import load_component
from talker.generation.guards import Guard
from talker.generation.request import TokenRequest
from talker.generation.running_batch import RunningBatch
from talker.model.config import TalkerConfig
from talker.model.defaults import GuardRule, StopRule
from talker.model.layout import Layout
from talker.model.model import TalkerModel
from talker.shipped import PUPPET

LONG = pytest.mark.long
RELEASED = Layout(task_token="first_patch")


# -- requests ------------------------------------------------------------------------------------------------


def of_every_kind(config: TalkerConfig) -> dict[str, TokenRequest]:
    """Requests with prefixes, without text, with a guard, and with each stop rule. Some end early."""

    def of(name: str, seed: int, **changes: object) -> TokenRequest:
        return request_of(config, name, seed, frames=12, **changes)

    def voice_before(request: TokenRequest) -> TokenRequest:
        """Add a prefix: audio only, as of a cloned voice, or audio and the last patch of motion."""
        prefix = prefixed(config, request).prefix
        assert prefix is not None
        motion = None if prefix.motion is None or request.seed % 2 else prefix.motion[1:]
        return dataclasses.replace(request, prefix=Streams(audio=prefix["audio"], motion=motion))

    quiet = torch.zeros(config.widths["audio"])
    guard = Guard(quiet=quiet, rule=GuardRule(near_quiet=9.0, silent_seconds=0.3))
    often = StopRule(threshold=0.4, hits=2)
    return {
        "cloned": voice_before(of("t2av", 1)),
        "carried": voice_before(of("t2av", 2)),
        "cloned voice alone": voice_before(of("tts", 3)),
        "recording": of("a2v", 11),
        "prefix, no text": prefixed(config, of("a2v", 4, text_ids=[])),
        "prefix, given face": prefixed(config, of("v2a", 5)),
        "paper": of("t2av", 6, stop=StopRule.paper(), min_patches=1),
        "release": of("tts", 7, stop=dataclasses.replace(StopRule.release(), first=1)),
        "often": of("t2av", 8, stop=often),
        "guarded": of("t2av", 9, guard=guard),
        "no guidance": of("t2av", 10, sampling=Sampling(steps=3, guidance=1.0)),
    }


@pytest.mark.parametrize(
    ("capacity", "layout", "stride"),
    [(8, ALIGNED, 3), pytest.param(4, ALIGNED, 1, marks=LONG), pytest.param(4, RELEASED, 1, marks=LONG)],
)
def test_every_kind_of_request_has_identical_values_in_every_row(
    capacity: int, layout: Layout, stride: int
) -> None:
    """In each round, the requests use other rows. They join one step after the other."""
    model = model_of(layout)
    with torch.no_grad():  # stop probabilities around one half
        model.stop_head.head.weight.normal_()
    kinds = list(of_every_kind(model.config).values())
    lone = [RunningBatch(model, capacity) for _ in kinds]
    rows = [batch.join(request) for batch, request in zip(lone, kinds, strict=True)]
    expected = [(finish(batch, row), row.finish_reason) for batch, row in zip(lone, rows, strict=True)]
    assert {"stop", "silence", "length"} <= {reason for _, reason in expected}
    for first in range(0, len(kinds), stride):
        batch, rows = RunningBatch(model, capacity), []
        chosen = [k % len(kinds) for k in range(first, first + capacity)]
        for k in chosen:
            rows.append(batch.join(kinds[k]))
            batch.step()
        for k, row in zip(chosen, rows, strict=True):
            assert same(finish(batch, row), expected[k][0])
            assert row.finish_reason == expected[k][1]


@pytest.mark.parametrize(
    "arrangement", ["sum", pytest.param("av", marks=LONG), pytest.param("va", marks=LONG)]
)
def test_requests_that_join_pause_and_leave_have_the_values_they_have_alone(arrangement: str) -> None:
    """Thirteen requests of different lengths in four rows, with random pauses. One request leaves early."""
    model, g = model_of(Layout(arrangement=arrangement, text_per_patch=2.0)), torch.Generator().manual_seed(3)
    requests = [request_of(model.config, TASKS[k % 4], seed=k, frames=5 + 3 * (k * 5 % 7)) for k in range(13)]
    requests = [prefixed(model.config, r) if k % 3 == 1 else r for k, r in enumerate(requests)]
    batch, waiting, rows = RunningBatch(model, 4), list(requests), []
    while waiting or batch.free < batch.capacity:
        while waiting and batch.free and torch.rand((), generator=g) < 0.7:
            rows.append(batch.join(waiting.pop(0)))
        for row in rows:
            row.paused = bool(torch.rand((), generator=g) < 0.3)
        if len(rows) > 5 and rows[5].finish_reason is None and rows[5].patches:
            batch.leave(rows[5])
        batch.step()
    for row, request in zip(rows, requests, strict=True):
        made, expected = list(row.patches), alone(model, request, 4)
        cut = row is rows[5]
        assert row.finish_reason in (("interrupted",) if cut else ("length", "overflow"))
        assert same(made, expected[: len(made)] if cut else expected)


def test_batches_of_different_capacities_differ_only_by_rounding() -> None:
    model = model_of()
    for name in TASKS:
        request = request_of(model.config, name, seed=2)
        close = zip(alone(model, request, 1), alone(model, request, 8), strict=True)
        for a, b in close:
            for stream, value in a.items():
                torch.testing.assert_close(value, b[stream], rtol=1e-3, atol=1e-4)


def test_each_row_has_its_own_sampling() -> None:
    model = model_of()
    kinds = [
        Sampling(steps=2),
        Sampling(steps=3),
        Sampling(steps=2, guidance=1.0),
        Sampling(steps=2, sway=0.0),
    ]
    kinds.append(Sampling(steps=2, temperature=0.1))
    requests = [request_of(model.config, "t2av", seed=4, sampling=kind) for kind in kinds]
    batch = RunningBatch(model, 8)
    rows = [batch.join(request) for request in requests]
    made = [finish(batch, row) for row in rows]
    for request, patches in zip(requests, made, strict=True):
        assert same(patches, alone(model, request, 8))
    assert not any(same(a, b) for a, b in itertools.combinations(made, 2))


def test_rows_with_the_same_solver_settings_share_one_call_of_the_head(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, batches = model_of(), []
    sample = model.heads.sample
    monkeypatch.setattr(
        model.heads,
        "sample",
        lambda c, noise, *rest: batches.append(len(c.hidden)) or sample(c, noise, *rest),
    )
    batch = RunningBatch(model, 4)
    for k in range(4):
        sampling = Sampling(steps=2, temperature=0.1 * k)
        batch.join(request_of(model.config, "t2av", seed=k, frames=8, sampling=sampling))
    while batch.free < 4:
        batch.step()
    assert batches == [4, 4]


def test_nan_in_one_request_does_not_change_other_requests() -> None:
    """Neither requests in other rows, nor later requests in the same row."""
    model = model_of()
    sound = request_of(model.config, "t2av", seed=1)
    broken = dataclasses.replace(request_of(model.config, "t2av", seed=2), speaker=sound.speaker * torch.nan)
    expected, batch = alone(model, sound, 4), RunningBatch(model, 4)
    with_nan, other = batch.join(broken), batch.join(sound)
    assert same(finish(batch, other), expected)
    assert with_nan.patches[0]["audio"].isnan().all()
    again = [batch.join(sound) for _ in range(4)]
    assert all(same(finish(batch, row), expected) for row in again)


# -- joining and pausing -------------------------------------------------------------------------------------


def test_a_full_batch_and_an_unsupported_capacity_are_refused() -> None:
    model = model_of()
    with pytest.raises(ValueError, match=r"choose a capacity of \(1, 4, 8, 16\)"):
        RunningBatch(model, 3)
    batch = RunningBatch(model)
    sequence = batch.join(request_of(model.config, "tts", seed=1))
    with pytest.raises(ValueError, match="wait until one ends"):
        batch.join(request_of(model.config, "tts", seed=2))
    batch.leave(sequence)
    assert sequence.finish_reason == "interrupted"
    assert batch.free == 1


def test_a_paused_row_does_not_advance() -> None:
    model = model_of()
    batch, request = RunningBatch(model, 4), request_of(model.config, "t2av", seed=1)
    paused, running = batch.join(request), batch.join(request_of(model.config, "t2av", seed=2))
    paused.paused = True
    finish(batch, running)
    assert not paused.patches
    assert paused.finish_reason is None
    paused.paused = False
    assert same(finish(batch, paused), alone(model, request, 4))


# -- the shipped weights -------------------------------------------------------------------------------------


@pytest.mark.parametrize("capacity", [pytest.param(4, marks=LONG), 8])
def test_rows_of_the_shipped_model_do_not_depend_on_other_rows(capacity: int) -> None:
    """Two patches of each task, alone in the first row, and in the last rows of a full batch."""
    model = load_component(TalkerModel, TalkerConfig, PUPPET / "talker")
    requests = [request_of(model.config, name, seed=k, frames=8) for k, name in enumerate(TASKS)]
    expected = [alone(model, request, capacity) for request in requests]
    batch, rows = RunningBatch(model, capacity), []
    fillers = [request_of(model.config, "t2av", seed=k, frames=40) for k in range(capacity - 4)]
    for request in fillers + requests[::-1]:
        rows.append(batch.join(request))
        batch.step()
    for row, patches in zip(rows[:-5:-1], expected, strict=True):
        assert same(finish(batch, row), patches)
