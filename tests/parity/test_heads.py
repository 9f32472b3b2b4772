"""The diffusion heads: one estimator call, the sampler, the training objective."""

from __future__ import annotations

import torch
from torch import Tensor

from heads.config import DiTConfig, TwoDiTHeadsConfig
from heads.dit import DiT, Fixed, TwoDiTHeads, sinusoid
from heads.flow import DROP_CONTEXT, DROP_HIDDEN, Draws, logit_normal, on_path, velocity_target
from heads.head import Condition
from heads.layers import ffn_width
from heads.sampling import Sampling
from heads.solver import schedule
from heads.streams import Streams
from parity.harness import Fixture, fixtures


def head_config(case: Fixture) -> DiTConfig:
    """The recorded sizes. The published heads have the width of the language model."""
    sizes = case.config
    return DiTConfig(
        channels=sizes["in_channels"],
        global_channels=sizes["global_cond_channels"],
        hidden_width=sizes["hidden_size"],
        width=sizes["hidden_size"],
        layers=sizes["n_layer"],
        heads=sizes["n_head"],
        ffn=ffn_width(sizes["hidden_size"]),
    )


def motion_heads(case: Fixture) -> TwoDiTHeads:
    """`TwoDiTHeads` with the recorded head as its motion head."""
    heads = TwoDiTHeads(TwoDiTHeadsConfig(audio=None, motion=head_config(case)))
    rename = {
        key: f"motion.{key.removeprefix(case.prefix).removeprefix('estimator.')}" for key in case.manifest
    }
    return case.load(heads, rename.get)


def frames(recorded: Tensor) -> Tensor:
    """Recorded layout to ours: (..., C, P) -> (..., P, C)."""
    return recorded.transpose(-1, -2)


def condition(case: Fixture) -> Condition:
    inputs = case.inputs
    context, global_ = Streams(motion=frames(inputs["cond"])), Streams(motion=inputs["global_cond"])
    return Condition(inputs["mu"], context, global_)


@fixtures("dit_head")
@torch.no_grad()
def test_estimator_computes_the_recorded_velocity(case: Fixture) -> None:
    head = case.load(DiT(head_config(case)))
    inputs = case.inputs
    assert not inputs["dt"].any(), "the published code passes only zeros to the second time MLP"
    case.close("time_embedding", sinusoid(inputs["t"], case.config["hidden_size"]), 1e-4)
    case.close("time_token", head.time_token(inputs["t"]), 3e-5)
    velocity = head(
        frames(inputs["x"]), inputs["t"], inputs["mu"], frames(inputs["cond"]), inputs["global_cond"]
    )
    case.close("velocity", frames(velocity), 3e-5)


@fixtures("cfm_sample")
@torch.no_grad()
def test_sampler_computes_the_recorded_samples(case: Fixture) -> None:
    heads = motion_heads(case)
    calls: list[tuple[Tensor, Tensor, Tensor]] = []
    velocity_of = heads.motion.velocity

    def watched(x: Tensor, token: Tensor, fixed: Fixed) -> Tensor:
        made = velocity_of(x, token, fixed)
        time = next(time for time, known in constants["motion"].items() if known is token)
        calls.append((x, torch.tensor([time]), made))
        return made

    heads.motion.velocity = watched
    noise = Streams(motion=frames(case.inputs["noise"]))
    for variant in case.config["variants"]:
        calls.clear()
        sampling = Sampling(
            steps=variant["n_timesteps"],
            guidance=variant["cfg_value"],
            temperature=variant["temperature"],
            sway=variant["sway"],
            zero_star=variant["zero_star"],
        )
        name = variant["name"]
        constants = heads.constants(sampling)
        sample = heads.sample(condition(case), noise, sampling, constants=constants)
        case.close(f"{name}/x", frames(sample["motion"]), 5e-5)
        case.close(f"{name}/t_span", schedule(sampling.steps, sampling.sway), 1e-6)
        if f"{name}/t_calls" in case.expected:
            times = [time for _, time, _ in calls]
            case.close(f"{name}/t_calls", torch.cat(times) if times else torch.zeros(0), 1e-6)
        if f"{name}/x_calls" in case.expected and calls:
            rows = len(case.inputs["noise"])
            case.close(f"{name}/x_calls", frames(torch.stack([x[:rows] for x, _, _ in calls])), 5e-5)
            recorded = case.expected[f"{name}/velocity_calls"]
            velocity = frames(torch.stack([v for _, _, v in calls]))
            if sampling.guidance == 1:  # our sampler skips the unconditional half, which has no effect
                recorded = recorded[:, :rows]
            assert (velocity - recorded).abs().max() <= 5e-5


@fixtures("cfm_loss")
@torch.no_grad()
def test_training_objective_computes_the_recorded_losses(case: Fixture) -> None:
    heads, inputs = motion_heads(case), case.inputs
    data, noise = frames(inputs["x1"]), frames(inputs["draw_z"])
    time = logit_normal(inputs["draw_t_normal"])
    case.close("t", time, 1e-6)
    case.close("x_t", frames(on_path(data, noise, time)), 3e-5)
    case.close("velocity_target", frames(velocity_target(data, noise)), 3e-5)
    draws = Draws(
        time=Streams(motion=time),
        noise=Streams(motion=noise),
        keep_hidden=Streams(motion=inputs["draw_cfg_uniform"] > DROP_HIDDEN),
        keep_context=Streams(motion=inputs["draw_cond_uniform"] > DROP_CONTEXT),
    )
    calls: list[tuple[Tensor, Tensor, Tensor]] = []
    heads.motion.register_forward_hook(lambda _, given, out: calls.append((given[2], given[3], out)))
    errors = heads.errors(condition(case), Streams(motion=data), draws)["motion"]
    (hidden, context, velocity), mask = calls[0], inputs["tgt_mask"][:, 0]
    assert not case.expected["dt"].any(), "the published code passes only zeros to the second time MLP"
    case.close("mu_used", hidden, 0)
    case.close("cond_used", frames(context), 0)
    case.close("velocity", frames(velocity), 3e-5)
    case.close("per_frame_loss", errors, 3e-5)
    case.close("loss_masked", ((errors * mask).sum() / mask.sum())[None], 1e-5)
    case.close("loss_no_mask", errors.mean()[None], 1e-5)
