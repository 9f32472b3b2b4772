"""The two DiT heads: rows are independent, and dropped conditions have no influence."""

import dataclasses
import itertools

import pytest
import torch

from heads.config import TwoDiTHeadsConfig
from heads.dit import DiT, TwoDiTHeads
from heads.flow import draws
from heads.head import Condition
from heads.sampling import Sampling
from heads.streams import Streams

PATCH = 4


def random_inputs(config: TwoDiTHeadsConfig, rows: int) -> tuple[Condition, Streams]:
    """A condition and noise (or data) for `rows` rows."""
    sizes = {"audio": config.audio, "motion": config.motion}
    patch = lambda: Streams(**{n: torch.randn(rows, PATCH, s.channels) for n, s in sizes.items()})  # noqa: E731
    global_ = Streams(**{name: torch.randn(rows, size.global_channels) for name, size in sizes.items()})
    return Condition(torch.randn(rows, config.audio.hidden_width), patch(), global_), patch()


def put_in_batch(condition: Condition, noise: Streams, capacity: int, index: int, fill: str):
    """Copy row 0 of the inputs to row `index` of a batch. The other rows hold zeros or noise."""

    def put(row: torch.Tensor) -> torch.Tensor:
        make = torch.zeros if fill == "zeros" else torch.randn
        batch = make(capacity, *row.shape[1:])
        batch[index] = row[0]
        return batch

    moved = Condition(put(condition.hidden), condition.context.map(put), condition.global_.map(put))
    return moved, noise.map(put)


@pytest.mark.parametrize(
    ("preset", "capacity"),
    [
        *itertools.product(("tiny",), (1, 4, 8, 16)),
        *itertools.product(("puppet",), (1, 4, 8)),
        pytest.param("puppet", 16, marks=pytest.mark.long),
    ],
)
def test_row_has_identical_values_in_every_batch(preset, capacity):
    """The values depend neither on the other rows nor on the index of the row."""
    config = getattr(TwoDiTHeadsConfig, preset)()
    heads = TwoDiTHeads(config).eval()
    condition, noise = random_inputs(config, 1)
    sampling = Sampling(steps=2)  # zero-star skips the first step
    with torch.inference_mode():
        alone = heads.sample(*put_in_batch(condition, noise, capacity, 0, "zeros"), sampling)
        for index in range(capacity):
            batch = heads.sample(*put_in_batch(condition, noise, capacity, index, "noise"), sampling)
            for name, patch in batch.items():
                assert patch[index].equal(alone[name][0]), (name, index)


def test_equal_widths_need_no_projection_and_zero_states_stay_zero():
    assert not any("hidden_proj" in key for key in TwoDiTHeads(TwoDiTHeadsConfig.tiny(64)).state_dict())
    heads = TwoDiTHeads(TwoDiTHeadsConfig.tiny(96))
    assert heads.audio.hidden_proj(torch.zeros(1, 96)).equal(torch.zeros(1, 64))


def test_puppet_heads_have_at_most_two_million_parameters_each():
    heads = TwoDiTHeads(TwoDiTHeadsConfig.puppet())
    for head in (heads.audio, heads.motion):
        assert sum(parameter.numel() for parameter in head.parameters()) <= 2_000_000


def test_precomputed_constants_do_not_change_the_samples():
    config, sampling = TwoDiTHeadsConfig.tiny(), Sampling(steps=3)
    heads = TwoDiTHeads(config)
    condition, noise = random_inputs(config, 2)
    with torch.inference_mode():
        again = heads.sample(condition, noise, sampling, constants=heads.constants(sampling))
        for name, patch in heads.sample(condition, noise, sampling).items():
            assert patch.equal(again[name])


@pytest.mark.parametrize(("drop_hidden", "drop_context"), [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0)])
def test_only_dropped_conditions_have_no_influence(drop_hidden, drop_context):
    config = TwoDiTHeadsConfig.tiny()
    heads = TwoDiTHeads(config)
    condition, data = random_inputs(config, 2)
    drawn = draws(data, drop_hidden=drop_hidden, drop_context=drop_context)
    errors = heads.errors(condition, data, drawn)
    for dropped, other in (
        (drop_hidden, dataclasses.replace(condition, hidden=condition.hidden + 1)),
        (drop_context, dataclasses.replace(condition, context=condition.context.map(torch.neg))),
    ):
        for name, found in heads.errors(other, data, drawn).items():
            assert found.equal(errors[name]) == (dropped == 1)


def test_the_hidden_state_is_also_added_to_the_noisy_tokens_on_request():
    """Without the token of the hidden state, only the added projection depends on it."""
    sizes = dataclasses.replace(TwoDiTHeadsConfig.tiny().audio, hidden_width=96, hidden_to_tokens=True)
    dit = DiT(sizes)
    torch.nn.init.zeros_(dit.hidden_proj.weight)
    hidden, time = torch.randn(2, 96), torch.full((2,), 0.5)
    patch = torch.randn(1, PATCH, 8).expand(2, -1, -1)
    velocity = dit(patch, time, hidden, patch, torch.zeros(2, 16))
    assert (velocity[0] - velocity[1]).abs().max() > 1e-3


def test_unguided_samples_are_the_limit_of_guided_samples():
    config = TwoDiTHeadsConfig.tiny()
    heads = TwoDiTHeads(config)
    condition, noise = random_inputs(config, 2)
    plain = heads.sample(condition, noise, Sampling(steps=4, guidance=1.0))
    nearly = heads.sample(condition, noise, Sampling(steps=4, guidance=1.0 + 1e-6))
    for name, patch in plain.items():
        torch.testing.assert_close(patch, nearly[name], atol=1e-4, rtol=0)


@pytest.mark.parametrize("guidance", [0.0, 0.5])
def test_guidance_below_one_weakens_the_condition(guidance):
    """With guidance 0 the hidden state has no influence; with 0.5 it has less than with 1."""
    config = TwoDiTHeadsConfig.tiny()
    heads = TwoDiTHeads(config)
    condition, noise = random_inputs(config, 2)
    other = dataclasses.replace(condition, hidden=condition.hidden + 1)
    settings = [Sampling(steps=3, guidance=value, zero_star=False) for value in (guidance, 1.0)]
    with torch.inference_mode():
        weak, full = (
            (heads.sample(condition, noise, s)["audio"] - heads.sample(other, noise, s)["audio"]).abs().max()
            for s in settings
        )
    assert weak < (1e-5 if guidance == 0 else 0.9 * full)


def test_guidance_below_one_mixes_in_the_unconditional_velocity():
    heads = TwoDiTHeads(TwoDiTHeadsConfig.tiny()).eval()
    condition, noise = random_inputs(heads.config, 2)
    with torch.inference_mode():
        half, one = (
            heads.sample(condition, noise, Sampling(steps=2, guidance=g, zero_star=False)) for g in (0.5, 1)
        )
    for name, patch in half.items():
        assert (patch - one[name]).abs().max() > 1e-3
