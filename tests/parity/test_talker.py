"""The talker computes what the public model code computed: training pass, step and generation."""

from __future__ import annotations

import json
from dataclasses import replace

import torch
import torch.nn.functional as F
from sequences import generated
from torch import nn

from heads.config import TwoDiTHeadsConfig
from heads.flow import DROP_CONTEXT, DROP_HIDDEN, Draws, logit_normal
from heads.layers import ffn_width
from heads.sampling import Sampling
from heads.streams import Streams
from parity.harness import MANIFESTS, Fixture, fixtures
from talker.generation.request import Noise, TokenRequest
from talker.model.cache import KVCache
from talker.model.config import BackboneConfig, PatchEncoderConfig, TalkerConfig
from talker.model.defaults import StopRule
from talker.model.layout import IGNORED, Layout, stop_ignored, stop_labels
from talker.model.model import TalkerModel
from talker.model.patch_encoder import PatchEncoder
from talker.model.tasks import RELEASE_TASKS, Task
from talker.model.training_batch import Sample, TrainingBatch, collate
from talker.weights.talker import TIED, native_key, official, published_motion_stats

NAMES = {"speech": "audio", "motion": "motion"}


def talker_config(case: Fixture) -> TalkerConfig:
    c, width = case.config, case.config["hidden_size"]
    globals_ = {n: case.manifest[f"{n}_cfm.estimator.global_cond_proj.weight"]["shape"][1] for n in NAMES}
    ffn = case.manifest["speech_cfm.estimator.decoder.blocks.0.mlp.fc1.weight"]["shape"][0]
    return TalkerConfig(
        patch_frames=c["patch_size"],
        backbone=BackboneConfig(
            vocab=c["vocab_size"],
            width=width,
            layers=c["llm_layers"],
            heads=c["llm_heads"],
            kv_heads=c["llm_kv_heads"],
            head_dim=c["llm_head_dim"],
            ffn=c["llm_intermediate"],
            rope_theta=c["rope_theta"],
            eps=c["rms_norm_eps"],
        ),
        patch_encoder=PatchEncoderConfig(
            layers=c["patch_encoder_layers"], heads=c["patch_encoder_heads"], ffn=ffn_width(width)
        ),
        heads=TwoDiTHeadsConfig.both(
            audio=(c["speech_dim"], globals_["speech"]),
            motion=(c["motion_dim"], globals_["motion"]),
            hidden_width=width,
            width=width,
            layers=c["dit_layers"],
            heads=c["dit_heads"],
            ffn=ffn,
        ),
        tasks=RELEASE_TASKS,
    )


def load_talker(case: Fixture) -> TalkerModel:
    model = TalkerModel(talker_config(case))
    stats, model.stats = model.stats, None  # not part of the published file
    case.load(model, native_key)
    model.stats = stats
    return model.eval()


@fixtures("patch_encoder")
def test_patch_encoder_computes_the_recorded_tokens(case: Fixture) -> None:
    c = case.config
    own = PatchEncoderConfig(layers=c["n_layer"], heads=c["n_head"], ffn=ffn_width(c["hidden_size"]))
    encoder = PatchEncoder(c["input_dim"], c["hidden_size"], own)
    del encoder.projector
    encoder.input_proj = nn.Linear(c["input_dim"], c["hidden_size"])  # the talker's has equal sides
    case.load(encoder)
    x = case.inputs["x"]
    case.close("y", encoder.encode(x.flatten(0, 1)).unflatten(0, x.shape[:2]), 1e-5)


@fixtures("stop_labels")
def test_stop_labels_equal_the_recorded_labels(case: Fixture) -> None:
    size = case.config["patch_size"]
    labels, weight = stop_labels(
        case.inputs["start"], case.inputs["length"], case.config["T"], stop_ignored(size)
    )
    assert torch.equal(labels, case.expected["labels"])
    assert weight.view(1).equal(case.expected["pos_weight"])


@torch.no_grad()
@fixtures("talker_step")
def test_backbone_computes_the_recorded_layers_and_step(case: Fixture) -> None:
    model = load_talker(case)
    ids, mask = case.inputs["input_ids"], case.inputs["attention_mask"].bool()
    layers: list[torch.Tensor] = []
    for layer in model.backbone.layers[:-1]:
        finish = layer.finish
        layer.finish = lambda *x, finish=finish: layers.append(finish(*x)) or layers[-1]
    x = model.backbone.embed_tokens(ids)
    positions = torch.arange(ids.shape[1]).expand_as(ids)
    hidden = model.backbone(x, positions)
    for number, value in enumerate([x, *layers, hidden]):
        case.close(f"hidden_{number}", value * mask[..., None], 2e-5)

    row = int(mask.sum(1).argmax())
    length = int(mask[row].sum())
    cache = KVCache.empty(model.config.backbone)
    last = model.backbone.prefill(x[row : row + 1, :length], positions[:1, :length], cache, 0)
    case.close("prefill_last_hidden", last[None], 2e-5)
    at = torch.tensor([length])
    stepped = model.backbone.step(case.inputs["next_embed"][0], at, at, cache)
    case.close("step_hidden", stepped, 2e-5)
    case.close("step_stop_logit", model.stop_head(stepped)[None], 2e-5)

    for name, own in NAMES.items():
        frames = case.inputs[f"{name}_frames"]
        tokens = model.patch_encoders[own](frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        case.close(f"{name}_tokens", tokens, 2e-5)
    case.close("task_tokens", model.task_embedding.weight, 2e-5)


def training_samples(case: Fixture) -> list[Sample]:
    """The recorded batch. Our sequences end with the span; the recorded text after it enters no loss."""
    samples = []
    for i, (start, _) in enumerate(case.inputs["speech_span"].tolist()):
        speech, motion = int(case.inputs["mel_len"][i]), int(case.inputs["motion_len"][i])
        row = int(case.inputs["task_tag"][i])
        predicted = ("audio", "motion") if motion else ("audio",)
        task = Task(
            name="recorded",
            row=row,
            given=(),
            predicted=predicted,
            delay=case.config["delay"] if motion else 0,
        )
        latents = Streams(
            audio=case.inputs["speech_latent"][i, :speech],
            motion=case.inputs["motion"][i, :motion] if motion else None,
        )
        global_ = Streams(
            audio=case.inputs["spk_emb"][i], motion=case.inputs["motion"][i, 0] if motion else None
        )
        text = case.inputs["input_ids"][i, :start].tolist()
        samples.append(Sample(text=text, task=task, latents=latents, global_=global_))
    return samples


def recorded_draws(case: Fixture) -> Draws:
    def each(key: str) -> Streams:
        return Streams(**{own: case.inputs[f"draw_{name}_{key}"] for name, own in NAMES.items()})

    return Draws(
        time=each("t_normal").map(logit_normal),
        noise=each("z").map(lambda z: z.transpose(1, 2)),
        keep_hidden=each("cfg_uniform").map(lambda u: u > DROP_HIDDEN),
        keep_context=each("cond_uniform").map(lambda u: u > DROP_CONTEXT),
    )


@fixtures("train_forward", "train_forward_delay")
def test_training_pass_computes_the_recorded_losses_and_gradients(case: Fixture) -> None:
    model = load_talker(case)
    seen: dict[str, torch.Tensor] = {}
    heads_errors = model.heads.errors

    def errors(condition, target, draws, given):
        for name, data in target.items():
            recorded = {own: name for name, own in NAMES.items()}[name]
            repeat = case.config["cfm_k_repeat"]
            own = condition.predicted[name]
            seen[f"{recorded}_target"] = data[own][::repeat].transpose(1, 2)
            seen[f"{recorded}_mu"] = condition.hidden[own][::repeat]
            seen[f"{recorded}_cond"] = condition.context[name][own][::repeat].transpose(1, 2)
            seen[f"{recorded}_global_cond"] = condition.global_[name][own][::repeat]
        return heads_errors(condition, target, draws, given)

    model.heads.errors = errors
    batch = collate(training_samples(case), model.config)
    found = model(batch, recorded_draws(case))
    for name, value in seen.items():
        case.close(name, value, 3e-5)
    check_sequences(case, model, batch)
    case.close("stop_pos_weight", batch.stop_weight[None], 1e-6)
    case.close("stop_pos_weight_used", model.stop_weight(batch)[None], 1e-6)

    speech, motion = (found[name].sum() / max(1, found[name].numel()) for name in NAMES.values())
    stop = found["stop"].sum() / (batch.stop_label >= 0).sum()
    total = speech + case.config["motion_cfm_weight"] * motion + stop
    losses = {"speech_cfm": speech, "motion_cfm": motion, "stop": stop, "total": total}
    for name, value in losses.items():
        case.close(f"loss_{name}", value[None], 1e-4, relative=True)
    total.backward()
    parameters = dict(model.named_parameters())
    for key in case.config["grad_keys"]:
        gradient = parameters[native_key(key)].grad
        gradient = torch.zeros(1) if gradient is None else gradient
        case.close(f"grad_norm/{key}", gradient.norm()[None], 1e-4, relative=True)


@torch.no_grad()
def check_sequences(case: Fixture, model: TalkerModel, batch: TrainingBatch) -> None:
    """Compare our sequences with the recorded ones, after appending the recorded text after the span."""
    spans, embeds = case.inputs["speech_span"].tolist(), model.embed(batch)
    given = case.inputs["attention_mask"]
    mask = torch.cat([torch.ones_like(given[:, :1]), given], dim=1)  # our sequences start with the task token
    case.close("attention_mask_used", mask, 0)
    whole = F.pad(model.backbone.embed_tokens(case.inputs["input_ids"]), (0, 0, 1, 0))
    labels = torch.full(mask.shape, IGNORED)
    for row, (_, end) in enumerate(spans):
        whole[row, : end + 1] = embeds[row, : end + 1]
        known = batch.stop_label[row] != IGNORED
        labels[row, batch.stop_positions[row, known]] = batch.stop_label[row, known]
    hidden = model.backbone(whole, torch.arange(mask.shape[1]).expand_as(mask))
    case.close("inputs_embeds", whole, 3e-5)
    case.close("hidden", hidden * mask[..., None], 3e-5)
    case.close("stop_logits", model.stop_head(hidden) * mask, 3e-5)
    case.close("stop_labels", labels, 0)


def noise_of(case: Fixture) -> Noise:
    kinds = {own: case.inputs[f"noise_{name}"] for name, own in NAMES.items()}
    return lambda patch, stream, shape: kinds[stream][patch, 0].T


@torch.no_grad()
def check_generation(case: Fixture, model: TalkerModel, request: TokenRequest) -> list[Streams]:
    """Generate, compare every patch, hidden state, token and logit with the recording, return the patches."""
    hidden, tokens, prefill = [], [], []
    sample, step = model.heads.sample, model.backbone.step
    whole = model.backbone.prefill

    def watched_sample(condition, noise, sampling, given, constants):
        hidden.append(
            replace(condition, hidden=condition.hidden.clone(), context=condition.context.map(torch.clone))
        )
        return sample(condition, noise, sampling, given, constants)

    def watched_step(x, *rest):
        tokens.append(x)
        return step(x, *rest)

    def watched_prefill(x, *rest):
        prefill.append(x)
        return whole(x, *rest)

    model.heads.sample, model.backbone.step = watched_sample, watched_step
    model.backbone.prefill = watched_prefill
    raw, _ = generated(model, request, noise_of(case))
    patches = [model.stats.normalise(patch) for patch in raw]
    case.close("prefill_embeds", prefill[0], 2e-4)
    case.close("hidden", torch.cat([c.hidden for c in hidden]), 2e-4)
    if len(tokens) < len(patches):  # at the length limit, generation does not encode the last patch
        encoded = [model.patch_encoders[name](patch[None]) for name, patch in patches[-1].items()]
        tokens.append(torch.stack(encoded).sum(0))
    fed = torch.stack(tokens, 1)
    case.close("next_token_embeds", fed, 2e-4)
    sequence = torch.cat([prefill[0], fed], dim=1)
    states = model.backbone(sequence, torch.arange(sequence.shape[1])[None])[0, -len(tokens) - 1 :]
    case.close("stop_logits", model.stop_head(states), 2e-4)
    for name, own in NAMES.items():
        case.close(f"{name}_cond", torch.cat([c.context[own] for c in hidden]).transpose(1, 2), 2e-4)
        case.close(f"{name}_latents", torch.cat([p[own] for p in patches])[None], 2e-4)
    return patches


def sampling_of(case: Fixture) -> Sampling:
    c = case.config
    return Sampling(steps=c["cfm_steps"], temperature=c["cfm_temperature"], guidance=c["cfm_cfg"])


@fixtures("talker_generate", "talker_generate_prefix", "talker_generate_stop")
def test_model_class_generation_computes_the_recorded_patches(case: Fixture) -> None:
    c, size = case.config, case.config["patch_size"]
    rule = StopRule.never()
    if c["use_stop"]:
        rule = StopRule(threshold=c["stop_threshold"], hits=c["stop_k"], first=c["min_gen_patches"])
    prefix = case.inputs.get("speech_latent_prefix")
    start = int(case.inputs["speech_span"][0, 0])
    request = TokenRequest(
        text_ids=case.inputs["input_ids"][0, :start].tolist(),
        task="t2av",
        speaker=case.inputs["spk_emb"][0],
        first_motion=case.inputs["first_motion"],
        sampling=sampling_of(case),
        prefix=None if prefix is None else Streams(audio=prefix[0].unflatten(0, (-1, size))),
        max_patches=c["n_steps"],
        stop=rule,
    )
    check_generation(case, load_talker(case), request)


@fixtures("talker_continuation", "talker_continuation_noprefix")
def test_command_line_generation_computes_the_recorded_patches(case: Fixture) -> None:
    """The published command line: no task token, audio and motion in the prefix, published statistics."""
    c, size = case.config, case.config["patch_size"]
    model = load_talker(case)
    model.config = replace(model.config, layout=Layout(task_token="first_patch"))
    model.stats.set(*(Streams(motion=value[: c["motion_dim"]]) for value in published_motion_stats()))
    frames = int(c["prefix_seconds"] * 25) // size * size
    prefix = Streams(
        audio=case.inputs["speech_latent"][0, :frames], motion=case.inputs["motion_normalized"][:frames]
    )
    request = TokenRequest(
        text_ids=case.inputs["input_ids"][0, : int(case.inputs["speech_span"][0])].tolist(),
        task="t2av",
        speaker=case.inputs["spk_emb"][0],
        first_motion=case.inputs["motion_normalized"][0],
        sampling=sampling_of(case),
        prefix=prefix.map(lambda x: x.unflatten(0, (-1, size))) if frames else None,
        max_patches=-(-c["speech_frames"] // size) - frames // size + 15,
        stop=StopRule.release(),
    )
    raw = check_generation(case, model, request)
    assert len(raw) == int(case.expected["n_patches"])
    motion = model.stats.denormalise(
        Streams(motion=torch.cat([prefix["motion"], *(patch["motion"] for patch in raw)])[None])
    )
    case.close("motion_raw", motion["motion"][0], 2e-4)
    case.close("decoded_latents", torch.cat([prefix["audio"], *(p["audio"] for p in raw)])[None], 2e-4)


def test_key_table_covers_the_published_checkpoint() -> None:
    """Every published key maps to one of ours and back, with the same shape."""
    manifest = json.loads((MANIFESTS / "talker.json").read_text())
    with torch.device("meta"):
        model = TalkerModel(TalkerConfig.base())
    own = {k: tuple(v.shape) for k, v in model.state_dict().items() if not k.startswith("stats.")}
    expected = {native_key(key): tuple(entry["shape"]) for key, entry in manifest.items() if native_key(key)}
    assert own == expected
    assert {official(key) for key in own} == set(manifest) - {TIED}
    assert len(expected) == 537
