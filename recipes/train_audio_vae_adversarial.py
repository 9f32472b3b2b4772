"""Train the audio autoencoder on corpus speech, against discriminators.

    python -m recipes.train_audio_vae_adversarial                        the whole network, from nothing
    python -m recipes.train_audio_vae_adversarial --run runs/audio_vae_adversarial_decoder \\
        --freeze-encoder runs/audio_vae                                  the decoder alone, from another run's
    python -m recipes.train_audio_vae_adversarial --whisper large-v3.pt  the published form and its losses
    python -m recipes.export audio_vae_adversarial RUN FOLDER            write the averaged weights

`recipes.train_audio_vae` compares spectra, and the best guess of what a spectrum leaves open is its average.
Discriminators of waveforms and spectra (`audio_vae.discriminator`) learn meanwhile what speech is like, and
the decoder learns to pass for it: least-squares losses and matching features, beside the same spectral loss
and divergence. With a Whisper branch, decoded frames must also still tell Whisper's features.

Both sides learn in one step, each from the other as it was before: one module, one optimiser, one checkpoint.
"""

from __future__ import annotations

import argparse
import math
import pickle
from pathlib import Path

import torch
from torch import Tensor, nn

from audio_vae.bottleneck import sample
from audio_vae.config import AudioVAEConfig, ConvolutionalConfig, WhisperConfig
from audio_vae.conv import fold_weights
from audio_vae.discriminator import Discriminator, DiscriminatorConfig
from audio_vae.losses import MeaningLoss, SpectralLoss, divergence, feature_matching, least_squares
from audio_vae.model import AudioVAE
from recipes import ranks
from recipes.launch import Engine, fast_arithmetic, generator, warmup_cosine
from recipes.record import fingerprint, record, recorded
from recipes.train_audio_vae import (
    CROPS,
    FRAMES,
    FREE_NATS,
    HELDOUT_CLIPS,
    KL_WEIGHT,
    build,
    crops,
    normal,
    own_draws,
    slips,
    speech,
    validate,
)
from talker.checkpoint import CheckpointError, load_strict

RATE, JUDGE_RATE, BETAS, DECAY = 5e-4, 5e-4, (0.8, 0.98), 0.01
WARMUP = 100
JUDGED = 9  # latent frames of a crop that the discriminators see: 0.36 s, about as long as HiFi-GAN's crops
# Beside the spectral loss's 1. About HiFi-GAN's 1 and 2 beside 45 (X-Codec's 5 beside 15), which are sums
# over discriminators, layers and windows where ours are means.
ADVERSARIAL, MATCHING, MEANING = 0.2, 2.0, 0.1
LOG_EVERY, LOOK_EVERY = 50, 250


def heard(model: AudioVAE, pcm: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """`AudioVAE.posterior` of pcm (B, samples), and Whisper's features (B, T, width) where they are part."""
    if model.whisper is None:
        return *model.posterior(pcm), None
    count = pcm.shape[1] // model.hop
    features = model.whisper(pcm, count)
    return *model.bottleneck.posterior(model.encoder(pcm)[:, :count] + features), features


def rivals(model: AudioVAE, judges: DiscriminatorConfig) -> nn.ModuleDict:
    """All that is trained: the autoencoder, its discriminators, and what reads Whisper's features."""
    torch.manual_seed(1)
    modules = {"vae": model, "discriminator": Discriminator(judges)}
    if model.whisper is not None:
        modules["meaning"] = MeaningLoss(model.decoder.width, model.encoder.width)
    return nn.ModuleDict(modules)


def optimiser_of(modules: nn.ModuleDict) -> torch.optim.Optimizer:
    """One AdamW over everything that is not frozen; the discriminators have their own rate."""
    groups = [
        {
            "params": [parameter for parameter in module.parameters() if parameter.requires_grad],
            "lr": JUDGE_RATE if name == "discriminator" else RATE,
        }
        for name, module in modules.items()
    ]
    return torch.optim.AdamW(groups, betas=BETAS, weight_decay=DECAY)


def train(
    run: Path,
    model: AudioVAE,
    judges: DiscriminatorConfig,
    steps: int,
    minutes: float,
    clips: tuple[list[Tensor], list[Tensor]],
    device: torch.device | str = "cpu",
) -> Engine:
    """Train on `clips` (training, held out) for `steps` steps or `minutes` minutes, whichever comes first."""
    modules = rivals(model, judges).to(device)
    discriminator, frozen = modules["discriminator"], not model.bottleneck.project.weight.requires_grad
    loss, samples = SpectralLoss(model.sample_rate, model.hop).to(device), FRAMES * model.hop
    optimiser, schedule = optimiser_of(modules), warmup_cosine(WARMUP, steps, floor=0.02)
    # Adam divides by the gradients' size: to clip both sides by the norm of both would only let each disturb
    # the other. A step that is not finite is still skipped.
    engine = Engine(modules, optimiser, run, schedule, clip=math.inf, ema=0.999)
    heldout = torch.stack([clip[:samples] for clip in clips[1]]).to(device) / 32767
    recent: list[Tensor] = []
    engine.load()
    record(run, "audio_vae_adversarial", model.config, fingerprint(clip.numpy() for clip in clips[0]))
    for step in engine.steps(steps, minutes):
        each = own_draws(step)
        pcm = crops(clips[0], samples, each).to(device)
        mean, log_std, features = heard(model, pcm)
        latents = sample(mean, log_std, normal(mean, each))
        if frozen:
            latents = latents + slips(mean, each)
        frames = model.bottleneck.expand(latents)
        made = model.decoder(frames)
        first = model.hop * int(torch.randint(FRAMES - JUDGED + 1, (), generator=generator(1, step)))
        spoken, copy = (signal[:, first : first + model.hop * JUDGED] for signal in (pcm, made))

        with fast_arithmetic():
            real, detached = discriminator(spoken), discriminator(copy.detach())
        judged = least_squares(real, 1.0) + least_squares(detached, 0.0)
        engine.backward(judged)

        discriminator.requires_grad_(False)  # it does not learn to be deceived
        with fast_arithmetic():
            fake = discriminator(copy)
        nats = divergence(mean, log_std)
        pushed = ranks.total(nats) / ranks.size() > FREE_NATS
        parts = {
            "spectral": loss(made, pcm),
            "adversarial": ADVERSARIAL * least_squares(fake, 1.0),
            "matching": MATCHING * feature_matching(fake, real),
            "kl": KL_WEIGHT * nats[pushed].sum(),
        }
        if features is not None:
            parts["meaning"] = MEANING * modules["meaning"](frames, features)
        engine.backward(torch.stack(list(parts.values())).sum())
        discriminator.requires_grad_(True)

        shown = parts | {"judged": judged, "nats": nats.sum(), "grad": nats.new_tensor(engine.step())}
        recent.append(torch.stack([value.detach() for value in shown.values()]))
        if engine.step_count % LOG_EVERY == 0:
            means = (ranks.total(torch.stack(recent).mean(0)) / ranks.size()).tolist()
            values = dict(zip(shown, means, strict=True))
            if engine.step_count % LOOK_EVERY == 0 and ranks.rank() == 0:
                vae = engine.ema_module.get_submodule("vae")
                assert isinstance(vae, AudioVAE)
                values |= validate(vae, loss, heldout)
            engine.log(**values, **engine.meter(CROPS))
            recent.clear()
    return engine


def whisper_weights(path: Path) -> tuple[AudioVAEConfig, dict[str, Tensor]]:
    """The published form beside the encoder of an openai-whisper file, and that encoder's weights.

    Raises:
        CheckpointError: it is no such file.
    """
    try:
        held = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
        dims, state = held["dims"], held["model_state_dict"]
    except (OSError, RuntimeError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{path} is not a model file of openai-whisper: give one such as large-v3.pt"
        ) from error
    config = WhisperConfig(
        mels=dims["n_mels"],
        positions=dims["n_audio_ctx"],
        width=dims["n_audio_state"],
        heads=dims["n_audio_head"],
        layers=dims["n_audio_layer"],
    )
    weights = {k.removeprefix("encoder."): v.float() for k, v in state.items() if k.startswith("encoder.")}
    return AudioVAEConfig(convolutional=ConvolutionalConfig(hidden=config.width, whisper=config)), weights


def averaged(run: Path) -> AudioVAE:
    """The averaged autoencoder of a run, for use."""
    model = build(recorded(run, AudioVAEConfig, AudioVAEConfig.puppet()), None)
    state = torch.load(run / "state.pt", weights_only=True, map_location="cpu")["ema"]
    model.load_state_dict({k.removeprefix("vae."): v for k, v in state.items() if k.startswith("vae.")})
    fold_weights(model)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, default=Path("runs/audio_vae_adversarial"))
    parser.add_argument("--steps", type=int, default=4000, help="the learning rate reaches its floor here")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop earlier, by the clock")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clips", type=int, default=1000, help="corpus clips held in memory")
    parser.add_argument(
        "--freeze-encoder", type=Path, metavar="RUN", help="train the decoder alone, from this run's weights"
    )
    parser.add_argument(
        "--whisper", type=Path, metavar="FILE", help="the published form, beside this Whisper"
    )
    parser.add_argument("--local_rank", help=argparse.SUPPRESS)  # the deepspeed launcher's
    options = parser.parse_args()
    device = ranks.join(options.threads)
    if CROPS % ranks.size():
        raise SystemExit(
            f"train_audio_vae_adversarial: {CROPS} crops a step do not divide among {ranks.size()} ranks"
        )
    config, judges = AudioVAEConfig.puppet(), DiscriminatorConfig.puppet()
    if options.whisper is not None:
        (config, weights), judges = whisper_weights(options.whisper), DiscriminatorConfig.base()
    model = build(config, options.freeze_encoder)
    if model.whisper is not None:
        load_strict(model.whisper.get_submodule("encoder"), weights, str(options.whisper))
    clips = speech("train", options.clips, config.hop), speech("heldout", HELDOUT_CLIPS, config.hop)
    train(options.run, model, judges, options.steps, options.minutes, clips, device)


if __name__ == "__main__":
    main()
