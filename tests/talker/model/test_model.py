"""Laws of the talker's training pass and of its backbone."""

import dataclasses

import pytest
import torch

from heads.streams import Streams
from talker.checkpoint import config_from_dict, read_config
from talker.model.attention import causal_attention
from talker.model.backbone import Backbone
from talker.model.cache import KVCache
from talker.model.config import BackboneConfig, TalkerConfig
from talker.model.layout import Layout
from talker.model.model import TalkerModel
from talker.model.stats import LatentStats
from talker.model.tasks import task_named
from talker.model.training_batch import Sample, collate
from talker.shipped import PUPPET
from talker.speaker.encoder import SpeakerEncoderConfig

TINY = TalkerConfig.tiny()


def sample(name: str, frames: int = 18, text: int = 7, seed: int = 0, read: bool = True) -> Sample:
    g = torch.Generator().manual_seed(seed)
    task = task_named(TINY.tasks, name)
    known = task.given + task.predicted
    return Sample(
        text=torch.randint(1, TINY.backbone.vocab, (text,), generator=g).tolist(),
        task=task,
        latents=Streams(**{n: torch.randn(frames, TINY.widths[n], generator=g) for n in known}),
        global_=Streams(**{n: torch.randn(TINY.global_widths[n], generator=g) for n in known}),
        read=torch.linspace(0, text, -(-frames // TINY.patch_frames)) if read else None,
    )


def model_of(config: TalkerConfig = TINY) -> TalkerModel:
    torch.manual_seed(0)
    return TalkerModel(config).eval()


def arranged(arrangement: str) -> TalkerConfig:
    return dataclasses.replace(TINY, layout=Layout(arrangement=arrangement, text_per_patch=2.0))


def errors_of(model: TalkerModel, samples: list[Sample], row: int) -> dict[str, torch.Tensor]:
    """Errors of one row of a batch. Its draws do not depend on the other rows."""
    # The weight of positive stop labels is the only value that depends on the whole batch.
    batch = dataclasses.replace(collate(samples, model.config), stop_weight=torch.tensor(5.0))
    draws = model.draws(batch, torch.Generator().manual_seed(0), 2)
    alone = collate([samples[row]], model.config)
    own = model.draws(alone, torch.Generator().manual_seed(0), 2)
    rows = {n: mask.nonzero()[:, 0].repeat_interleave(2) == row for n, mask in batch.predicted.items()}
    for field in dataclasses.fields(draws):
        for name, mask in rows.items():
            getattr(draws, field.name)[name][mask] = getattr(own, field.name)[name]
    found = model(batch, draws)
    picked = {}
    for name, value in found.items():
        stream = name.removeprefix("forecast_")
        if stream in rows:
            picked[name] = value[rows[stream][::2]]
        else:
            picked[name] = value[row, : alone.stop_label.shape[1]]
    return picked


@pytest.mark.parametrize("arrangement", ["sum", "av", "va"])
def test_errors_of_a_row_do_not_depend_on_the_other_rows(arrangement):
    model = model_of(arranged(arrangement))
    samples = [sample("t2av"), sample("tts", 26, 12), sample("a2v", 31, 0, read=False), sample("v2a", 16)]
    for row in range(len(samples)):
        alone = errors_of(model, [samples[row]], 0)
        for name, value in errors_of(model, samples, row).items():
            torch.testing.assert_close(value.flatten(), alone[name].flatten(), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("arrangement", ["sum", "av", "va"])
@pytest.mark.parametrize("task", ["tts", "t2av", "a2v", "v2a"])
def test_a_hidden_state_does_not_depend_on_the_patch_that_it_predicts(task, arrangement):
    """Its gradient with respect to this patch and all later ones is zero."""
    model = model_of(arranged(arrangement))
    batch = collate([sample(task)], model.config)
    fed = batch.fed.map(lambda x: x.clone().requires_grad_())
    hidden = model.backbone(model.embed(dataclasses.replace(batch, fed=fed)), model.rotary(batch))
    for name in task_named(TINY.tasks, task).predicted:
        for slot in batch.predicted[name][0].nonzero()[1:, 0].tolist():
            source = hidden[0, batch.positions[name][0, slot] - 1].square().sum()
            gradient = torch.autograd.grad(source, fed[name], retain_graph=True)[0].abs().sum((0, 2, 3))
            assert gradient[slot:].sum() == 0
            assert gradient[slot - 1] > 0


@pytest.mark.parametrize("task", ["a2v", "v2a"])
def test_a_predicted_patch_depends_on_the_given_patch_with_the_same_index(task):
    model = model_of()
    batch = collate([sample(task)], model.config)
    fed = batch.fed.map(lambda x: x.clone().requires_grad_())
    hidden = model.backbone(model.embed(dataclasses.replace(batch, fed=fed)), model.rotary(batch))
    own = task_named(TINY.tasks, task)
    made, given = own.predicted[0], own.given[0]
    plan = model.config.layout.plan(0, own.delay)
    for slot in batch.predicted[made][0].nonzero()[:, 0].tolist():
        given_slot = plan.patch(made, slot) + plan.shift(given)
        source = hidden[0, batch.positions[made][0, slot] - 1].square().sum()
        gradient = torch.autograd.grad(source, fed[given], retain_graph=True)[0].abs().sum((0, 2, 3))
        assert gradient[given_slot] > 0


def test_given_and_absent_streams_have_no_loss():
    batch = collate([sample("tts"), sample("a2v"), sample("v2a"), sample("t2av")], TINY)
    assert batch.predicted["audio"].any(1).tolist() == [True, False, True, True]
    assert batch.predicted["motion"].any(1).tolist() == [False, True, False, True]
    assert (batch.stop_label >= 0).any(1).tolist() == [True, False, True, True]
    assert batch.absent["motion"].any(1).tolist() == [True, False, False, False]


def test_streams_of_a_single_patch_have_no_loss():
    batch = collate([sample("t2av", frames=4), sample("t2av", frames=5)], TINY)
    for _, mask in batch.predicted.items():
        assert mask.any(1).tolist() == [False, True]


def test_gradient_reaches_every_parameter_of_a_mixed_batch():
    model = model_of().train()
    batch = collate([sample("tts"), sample("a2v"), sample("v2a"), sample("t2av")], TINY)
    errors = model(batch, model.draws(batch, torch.Generator().manual_seed(0)))
    sum(value.mean() for value in errors.values()).backward()
    untouched = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert untouched == []


def test_missing_frames_of_the_last_patch_differ_from_zero_latents():
    model = model_of()
    short, filled = sample("t2av", 18), sample("t2av", 18)
    longer = filled.latents.map(lambda x: torch.cat([x, x.new_zeros(2, x.shape[1])]))
    filled = dataclasses.replace(filled, latents=longer)
    a, b = (model.embed(collate([s], TINY)) for s in (short, filled))
    torch.testing.assert_close(a[:, :-1], b[:, :-1])
    assert (a[:, -1] - b[:, -1]).abs().max() > 1e-3


@pytest.mark.parametrize(("arrangement", "stride"), [("sum", 1), ("av", 2)])
def test_known_text_positions_change_only_the_rotary_positions_of_slots(arrangement, stride):
    model = model_of(arranged(arrangement))
    batch = collate([sample("t2av"), sample("t2av", read=False)], model.config)
    rotary = model.rotary(batch)
    slots = batch.stop_positions[0]
    for behind in range(stride):
        torch.testing.assert_close(rotary[0, slots - behind], 1 + batch.placed[0])
    first = int(slots[0]) - stride + 1
    assert torch.equal(rotary[0, :first], torch.arange(float(first)))
    assert torch.equal(rotary[1], batch.rotary[1])


def test_presets_have_the_expected_numbers_of_parameters():
    def millions(module: torch.nn.Module) -> float:
        return sum(p.numel() for p in module.parameters()) / 1e6

    assert millions(TalkerModel(TINY)) < 1
    with torch.device("meta"):
        puppet = TalkerModel(TalkerConfig.puppet(vocab=150))
        base = TalkerModel(TalkerConfig.base())
    assert millions(puppet) < 11
    assert base.reading is None
    assert base.forecast is None
    assert 590 < millions(base.backbone) < 600


def test_channels_that_never_vary_are_normalised_to_zero():
    stats = LatentStats(3, 2)
    mean = Streams(audio=torch.tensor([1.0, -2.0, 0.5]), motion=torch.ones(2))
    stats.set(mean, mean.map(torch.zeros_like))
    for _, values in stats.normalise(mean).items():
        assert values.equal(torch.zeros_like(values))


def test_denormalising_inverts_normalising():
    stats = LatentStats(3, 2)
    stats.set(
        Streams(audio=torch.tensor([1.0, 2, 3]), motion=torch.ones(2)), Streams(audio=torch.ones(3) * 2)
    )
    raw = Streams(audio=torch.randn(5, 3), motion=torch.randn(5, 2))
    normal = stats.normalise(raw)
    torch.testing.assert_close(normal["audio"], (raw["audio"] - torch.tensor([1.0, 2, 3])) / 2)
    for name, value in stats.denormalise(normal).items():
        torch.testing.assert_close(value, raw[name])


# -- backbone ------------------------------------------------------------------------------------------------


def test_backbone_equals_qwen3_of_transformers():
    transformers = pytest.importorskip("transformers")
    config = TINY.backbone
    torch.manual_seed(0)
    ours = Backbone(config)
    reference = transformers.Qwen3Model(
        transformers.Qwen3Config(
            vocab_size=config.vocab,
            hidden_size=config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.kv_heads,
            head_dim=config.head_dim,
            intermediate_size=config.ffn,
            rms_norm_eps=config.eps,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
        )
    )
    reference.load_state_dict(ours.state_dict())
    ids = torch.randint(0, config.vocab, (2, 11))
    found = ours(ours.embed_tokens(ids), torch.arange(11).expand(2, -1))
    torch.testing.assert_close(found, reference(input_ids=ids).last_hidden_state, rtol=1e-5, atol=1e-5)


def test_prefill_and_steps_equal_the_training_pass():
    torch.manual_seed(0)
    backbone = Backbone(TINY.backbone)
    x, positions = torch.randn(1, 9, TINY.backbone.width), torch.arange(9.0)[None] * 1.3
    whole = backbone(x, positions)[0]
    cache = KVCache.empty(TINY.backbone)
    found = [backbone.prefill(x[:, :4], positions[:, :4], cache, 0)]
    for cell in range(4, 9):
        found.append(backbone.step(x[:, cell], positions[:, cell], torch.tensor([cell]), cache)[0])
    torch.testing.assert_close(torch.stack(found), whole[3:], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("capacity", [4, 8])
def test_a_row_has_identical_values_at_every_index(capacity):
    """The values depend neither on the other rows nor on old values in the cache."""
    torch.manual_seed(0)
    config = dataclasses.replace(TalkerConfig.puppet(40).backbone, layers=2, max_positions=128)
    backbone = Backbone(config)
    prompt, steps = torch.randn(1, 7, config.width), torch.randn(3, config.width)
    found = []
    for slot in (0, capacity - 1):
        cache = KVCache.empty(config, capacity)
        for cells in cache.keys + cache.values:
            cells.normal_()
        last = backbone.prefill(prompt, torch.arange(7.0)[None], cache, slot)
        states = [last]
        for number, step in enumerate(steps):
            rows = torch.randn(capacity, config.width)
            cells = torch.randint(1, 60, (capacity,))
            rows[slot], cells[slot] = step, 7 + number
            states.append(backbone.step(rows, cells.float(), cells, cache)[slot])
        found.append(torch.stack(states))
    assert torch.equal(*found)


def test_a_prompt_longer_than_the_cache_is_refused():
    backbone = Backbone(TINY.backbone)
    length = TINY.backbone.max_positions + 1
    with pytest.raises(ValueError, match="shorten the text"):
        backbone.prefill(
            torch.zeros(1, length, TINY.backbone.width),
            torch.zeros(1, length),
            KVCache.empty(TINY.backbone),
            0,
        )


def test_config_with_invalid_sizes_is_refused():
    sizes = dict(vocab=4, width=64, layers=1, head_dim=32, ffn=64)
    with pytest.raises(ValueError, match="share"):
        BackboneConfig(heads=3, kv_heads=2, **sizes)
    with pytest.raises(ValueError, match="architecture 'joint' is not supported"):
        dataclasses.replace(TINY, architecture="joint")
    with pytest.raises(ValueError, match=r"set layout\.task_token to 'prepend'"):
        collate([sample("tts")], dataclasses.replace(TINY, layout=Layout(task_token="first_patch")))
    with pytest.raises(ValueError, match="multiple of 64"):
        BackboneConfig(heads=2, kv_heads=2, max_positions=100, **sizes)


def test_filling_a_row_of_the_cache_removes_nan_of_an_earlier_request():
    """A masked cell has the weight 0, but 0 times NaN is NaN."""
    cache = KVCache.empty(TINY.backbone, 2)
    for cells in cache.keys + cache.values:
        cells.fill_(torch.nan)
    new = [torch.ones(1, TINY.backbone.kv_heads, 5, TINY.backbone.head_dim)] * TINY.backbone.layers
    cache.fill(1, new, new)
    for cells in cache.keys + cache.values:
        assert cells[1, :, :5].eq(1).all()
        assert cells[1, :, 5:].eq(0).all()
        assert cells[0].isnan().all()


def test_no_text_is_read_before_the_first_patch_of_speech():
    """In V2A audio starts a slot later than motion; its first slot has read 0 tokens."""
    own = dataclasses.replace(sample("v2a"), read=torch.linspace(2, 7, 5))
    batch = collate([own], TINY)
    assert batch.read[0, :2].tolist() == [0.0, 2.0]


def test_reading_error_counts_tokens_from_the_placed_position_of_the_slot_before():
    """With an alignment head that predicts 0, it is the smooth L1 norm of `read` minus that position."""
    model = model_of()
    for parameter in model.reading.parameters():
        torch.nn.init.zeros_(parameter)
    batch = collate([sample("tts")], TINY)
    batch = dataclasses.replace(batch, placed=batch.read + torch.randn(batch.read.shape))
    found = model(batch, model.draws(batch, torch.Generator().manual_seed(0)))["reading"]
    slots = batch.reads[0].nonzero()[:, 0].tolist()
    assert len(slots) > 3
    for slot in slots:
        step = abs(batch.read[0, slot] - (batch.placed[0, slot - 1] if slot else 0.0))
        assert found[0, slot].item() == pytest.approx(
            float(step**2 / 2 if step < 1 else step - 0.5), abs=1e-5
        )


def test_the_preset_of_the_default_has_the_sizes_of_the_shipped_weights():
    held = config_from_dict(TalkerConfig, read_config(PUPPET / "talker"))
    assert held == dataclasses.replace(TalkerConfig.puppet(held.backbone.vocab), forecast=0)
    speaker = config_from_dict(SpeakerEncoderConfig, read_config(PUPPET / "speaker"))
    assert speaker == SpeakerEncoderConfig.puppet()


def test_attention_follows_autocast():
    q, k, v = (torch.randn(1, heads, 5, 16) for heads in (4, 2, 2))
    expected = causal_attention(q, k, v)
    assert expected.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        half = causal_attention(q, k, v)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, atol=0.03, rtol=0)


def test_batches_and_draws_are_moved_with_all_their_streams():
    batch = collate([sample("t2av")], TINY)
    drawn = model_of().draws(batch, torch.Generator())
    for moved in (batch.to("meta"), drawn.to("meta")):
        for field in dataclasses.fields(moved):
            value = getattr(moved, field.name)
            tensors = [x for _, x in value.items()] if isinstance(value, Streams) else [value]
            assert all(x.is_meta for x in tensors), field.name
