"""The talker, step by step, as recorded from the public model code."""

from __future__ import annotations

import torch

from heads.config import TwoDiTHeadsConfig
from heads.flow import Draws, logit_normal
from heads.layers import ffn_width
from heads.streams import Streams
from parity.harness import Fixture, fixtures
from talker.cache import KVCache
from talker.config import BackboneConfig, PatchEncoderConfig, TalkerConfig
from talker.layout import stop_ignored, stop_labels
from talker.model import TalkerModel
from talker.patch_encoder import PatchEncoder
from talker.tasks import RELEASE_TASKS, Task
from talker.training_batch import Sample, collate
from talker.weights.talker import ours

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
            max_positions=256,
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
    case.load(model, ours)
    model.stats = stats
    return model.eval()


@fixtures("patch_encoder")
def test_patch_encoder(case: Fixture) -> None:
    c = case.config
    own = PatchEncoderConfig(layers=c["n_layer"], heads=c["n_head"], ffn=ffn_width(c["hidden_size"]))
    encoder = PatchEncoder(c["input_dim"], c["hidden_size"], own)
    del encoder.projector
    case.load(encoder)
    x = case.inputs["x"]
    case.close("y", encoder.encode(x.flatten(0, 1)).unflatten(0, x.shape[:2]), 1e-5)


@fixtures("stop_labels")
def test_stop_labels(case: Fixture) -> None:
    size = case.config["patch_size"]
    labels, weight = stop_labels(
        case.inputs["start"], case.inputs["length"], case.config["T"], stop_ignored(size)
    )
    assert torch.equal(labels, case.expected["labels"])
    assert weight.view(1).equal(case.expected["pos_weight"])


@torch.no_grad()
@fixtures("talker_step")
def test_talker_step(case: Fixture) -> None:
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

    for official, own in NAMES.items():
        frames = case.inputs[f"{official}_frames"]
        tokens = model.patch_encoders[own](frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        case.close(f"{official}_tokens", tokens, 2e-5)
    case.close("task_tokens", model.task_embedding.weight, 2e-5)


def training_samples(case: Fixture) -> list[Sample]:
    """The recorded batch; text behind the span is not part of our sequences, and no loss sees it."""
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
        keep_hidden=each("cfg_uniform").map(lambda u: u > 0.1),
        keep_context=each("cond_uniform").map(lambda u: u > 0.05),
    )


@fixtures("train_forward", "train_forward_delay")
def test_train_forward(case: Fixture) -> None:
    model = load_talker(case)
    seen: dict[str, torch.Tensor] = {}
    heads_errors = model.heads.errors

    def errors(condition, target, draws, given=()):
        for name, data in target.items():
            official = {own: name for name, own in NAMES.items()}[name]
            repeat = case.config["cfm_k_repeat"]
            seen[f"{official}_target"] = data[::repeat].transpose(1, 2)
            seen[f"{official}_mu"] = condition.hidden[::repeat]
            seen[f"{official}_cond"] = condition.context[name][::repeat].transpose(1, 2)
            seen[f"{official}_global_cond"] = condition.global_[name][::repeat]
        return heads_errors(condition, target, draws, given)

    model.heads.errors = errors
    batch = collate(training_samples(case), model.config)
    embeds = model.embed(batch)
    hidden = model.backbone(embeds, batch.rotary)
    found = model(batch, recorded_draws(case))
    for name, value in seen.items():
        case.close(name, value, 3e-5)

    labels = case.expected["stop_labels"]
    for i, (_, end) in enumerate(case.inputs["speech_span"].tolist()):
        for name, value in (("inputs_embeds", embeds), ("hidden", hidden)):
            error = (value[i, : end + 1] - case.expected[name][i, : end + 1]).abs().max()
            assert error < 3e-5, f"{name}[{i}]: off by {error}"
        at = batch.stop_at[i][batch.stop_label[i] >= 0]
        assert torch.equal(labels[i, at], batch.stop_label[i][batch.stop_label[i] >= 0])
        assert int((labels[i] >= 0).sum()) == len(at)
    case.close("stop_pos_weight", batch.stop_weight[None], 1e-6)
    case.close("stop_pos_weight_used", model.stop_weight(batch)[None], 1e-6)

    speech, motion = found["audio"].mean(), found["motion"].mean()
    stop = found["stop"].sum() / (batch.stop_label >= 0).sum()
    total = speech + case.config["motion_cfm_weight"] * motion + stop
    losses = {"speech_cfm": speech, "motion_cfm": motion, "stop": stop, "total": total}
    for name, value in losses.items():
        case.close(f"loss_{name}", value[None], 1e-4, relative=True)
    total.backward()
    parameters = dict(model.named_parameters())
    for key in case.config["grad_keys"]:
        gradient = parameters[ours(key)].grad
        case.close(f"grad_norm/{key}", gradient.norm()[None], 1e-4, relative=True)
