"""The step of a batch: it reads no value on the host, runs in any dtype, and can be exported."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from sequences import TASKS, alone, generated, model_of, request_of, same
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from heads.sampling import Sampling
from heads.streams import Streams
from talker.generation import running_batch
from talker.generation.running_batch import RunningBatch
from talker.generation.step import BatchState, Columns, PatchStep, Solver, Variant
from talker.model.cache import KVCache
from talker.model.model import TalkerModel

DRAWS = Variant(
    solvers=(Solver(Sampling(steps=2, temperature=1.0), ("audio", "motion")),),
    encoded=("audio", "motion"),
    absent=True,
    feeds=True,
)


def step_of(model: TalkerModel, variant: Variant = DRAWS) -> PatchStep:
    return PatchStep(model, variant, tuple(model.heads.constants(s.sampling) for s in variant.solvers))


def inputs(model: TalkerModel, rows: int) -> Tensor:
    return torch.zeros(rows, Columns.width(Columns.of(model.config).inputs))


class Operators(TorchDispatchMode):
    """Counts operators by name."""

    def __init__(self) -> None:
        super().__init__()
        self.count: dict[str, int] = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.__name__.split(".")[0]
        self.count[name] = self.count.get(name, 0) + 1
        return function(*args, **(kwargs or {}))


LONG = pytest.mark.long


@pytest.mark.parametrize(
    "dtype",
    [pytest.param(torch.float32, marks=LONG), torch.bfloat16, pytest.param(torch.float16, marks=LONG)],
)
def test_a_step_reads_no_value_and_builds_no_tensor_from_lists(dtype: torch.dtype) -> None:
    """Under FakeTensorMode there are no values: .item(), .tolist(), .numpy() and bool() raise."""
    model = model_of().cast(dtype)
    step_of(model)  # solver settings are prepared with a step, before it runs
    with FakeTensorMode() as mode, torch.no_grad():
        for module in model.modules():
            for held in (module._parameters, module._buffers):
                held |= {name: mode.from_tensor(x) for name, x in held.items() if x is not None}
        step, state = step_of(model), BatchState.empty(model, 4)
        with Operators() as operators:
            outputs = step(inputs(model, 4), state)
        assert outputs.shape == (4, Columns.width(Columns.of(model.config).outputs))
    assert "lift_fresh" not in operators.count
    assert "_local_scalar_dense" not in operators.count


def test_fake_tensor_mode_detects_reads_and_tensors_built_from_lists() -> None:
    with FakeTensorMode():
        with pytest.raises(RuntimeError):
            torch.zeros(1).item()
        with Operators() as operators:
            torch.tensor([1.0, 2.0])
    assert operators.count == {"lift_fresh": 1}


def test_a_step_reuses_its_state_and_buffers() -> None:
    model = model_of()
    batch = RunningBatch(model, 4)
    batch.join(request_of(model.config, "t2av", seed=1))
    held = [batch._state.hidden, batch._state.spoken, *batch._state.cache.keys, batch._inbox, batch._outbox]
    before = [tensor.data_ptr() for tensor in held]
    for _ in range(3):
        batch.step()
    after = [batch._state.hidden, batch._state.spoken, *batch._state.cache.keys, batch._inbox, batch._outbox]
    assert [tensor.data_ptr() for tensor in after] == before


class Flat(torch.nn.Module):
    """A step whose state is a list of tensors, as exported programs take it."""

    def __init__(self, step: PatchStep, layers: int) -> None:
        super().__init__()
        self.step, self.layers = step, layers

    def forward(self, inbox: Tensor, state: list[Tensor]) -> Tensor:
        hidden, spoken, text, audio, motion, *cache = state
        keys, values = tuple(cache[: self.layers]), tuple(cache[self.layers :])
        return self.step(
            inbox, BatchState(hidden, spoken, text, Streams(audio, motion), KVCache(keys, values))
        )


@pytest.mark.long
def test_a_step_can_be_exported() -> None:
    """The exported program computes what the step computes, its changes of the state included."""
    torch.manual_seed(0)
    model = model_of()
    state = BatchState.empty(model, 4)
    flat = [state.hidden, state.spoken, state.text, state.global_["audio"], state.global_["motion"]]
    flat += [*state.cache.keys, *state.cache.values]
    for tensor in flat:
        tensor.normal_()
    inbox = inputs(model, 4).uniform_()
    inbox[:, 3] = torch.tensor([5.0, 6.0, 7.0, 8.0])  # cells
    whole = Flat(step_of(model), len(state.cache.keys)).eval()
    with torch.no_grad():
        program = torch.export.export(whole, (inbox, copy.deepcopy(flat)))
        ours, theirs = copy.deepcopy(flat), copy.deepcopy(flat)
        torch.testing.assert_close(program.module()(inbox, ours), whole(inbox, theirs))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_generates_every_task(dtype: torch.dtype) -> None:
    """Close to float32 where the state is the same: at the first patch."""
    model = model_of()
    half = copy.deepcopy(model).cast(dtype)
    for number, name in enumerate(TASKS):
        request = request_of(model.config, name, seed=number, frames=8)
        wide, _ = generated(model, request)
        narrow, reason = generated(half, request)
        assert reason in ("length", "overflow")
        for stream, patch in narrow[0].items():
            assert patch.dtype == torch.float32
            assert (patch - wide[0][stream]).square().mean().sqrt() < 0.1 * wide[0][stream].std()


def test_rows_in_bfloat16_do_not_depend_on_other_rows() -> None:
    model = model_of().cast(torch.bfloat16)
    requests = [request_of(model.config, name, seed=k, frames=8) for k, name in enumerate(TASKS)]
    batch = RunningBatch(model, 4)
    rows = [batch.join(request) for request in requests[::-1]][::-1]
    while batch.free < 4:
        batch.step()
    for row, request in zip(rows, requests, strict=True):
        assert same(list(row.patches), alone(model, request, 4))


def test_casting_keeps_statistics_and_single_number_networks_in_float32() -> None:
    model = model_of().cast(torch.bfloat16)
    kinds = {name: parameter.dtype for name, parameter in model.state_dict().items()}
    for name, kind in kinds.items():
        wide = name.split(".")[0] in ("stats", "stop_head", "reading")
        assert kind == (torch.float32 if wide or name.endswith("rope.w") else torch.bfloat16), name


@pytest.mark.parametrize("name", ["tts", "t2av"])
def test_normalising_the_tail_of_a_request_restores_the_generated_values_exactly(name: str) -> None:
    model = model_of()
    model.stats.set(
        Streams(audio=torch.linspace(-9, 9, 8), motion=torch.linspace(0.1, 3, 6)),
        Streams(audio=torch.linspace(0.01, 4, 8), motion=torch.linspace(0.3, 0.7, 6)),
    )
    batch = RunningBatch(model)
    sequence = batch.join(request_of(model.config, name, seed=3, frames=16))
    while sequence.finish_reason is None:
        batch.step()
    again = model.stats.normalise(sequence.tail(8)).map(Tensor.float)
    made = {stream: torch.cat(patches)[-8:] for stream, patches in sequence._made.items()}
    assert again.names == tuple(made)
    assert all(torch.equal(again[stream], made[stream]) for stream in made)


def test_requests_with_other_temperatures_share_the_cached_steps() -> None:
    model = model_of()
    batch = RunningBatch(model, 1)
    for seed in range(3):
        request = request_of(model.config, "t2av", seed=seed, frames=12)
        batch.join(dataclasses.replace(request, sampling=Sampling(steps=2, temperature=0.1 * seed)))
        while not batch.free:
            batch.step()
    assert len(batch._steps) <= 3


def test_steps_of_the_last_settings_are_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running_batch, "MOST_VARIANTS", 2)
    model = model_of()
    batch, request = RunningBatch(model), request_of(model.config, "tts", seed=0, frames=4)
    for steps in (1, 2, 3, 2):
        batch.join(dataclasses.replace(request, sampling=Sampling(steps=steps)))
        while not batch.free:
            batch.step()
        last = list(batch._steps)[-2:]
        assert len(batch._steps) == min(steps, 2)
    assert sorted(variant.solvers[0].sampling.steps for variant in last) == [2, 3]


def test_spoken_tokens_never_exceed_the_text() -> None:
    """An alignment head that predicts 3 tokens per slot reads a text of 5 tokens in two slots."""
    model = model_of()
    assert model.reading is not None
    torch.nn.init.zeros_(model.reading.head.weight)
    torch.nn.init.constant_(model.reading.head.bias, 3.0)
    batch = RunningBatch(model)
    sequence = batch.join(request_of(model.config, "tts", seed=0, frames=16, text_ids=[1, 2, 3, 4, 5]))
    while sequence.finish_reason is None:
        batch.step()
    assert sequence._spoken == [3.0, 5.0, 5.0, 5.0]
