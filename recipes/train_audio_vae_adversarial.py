"""Train the audio autoencoder on corpus speech, against discriminators.

    python -m recipes.train_audio_vae_adversarial                        the whole network, from nothing
    python -m recipes.train_audio_vae_adversarial --run runs/audio_vae_adversarial_decoder \\
        --freeze-encoder runs/audio_vae                                  the decoder alone, from another run's
    python -m recipes.train_audio_vae_adversarial --config release \\
        --whisper large-v3.pt                                            the published form and its losses
    python -m recipes.export audio_vae_adversarial RUN FOLDER            write the averaged weights

`recipes.train_audio_vae` compares spectra, and the best guess of what a spectrum leaves open is its average.
Discriminators of waveforms and spectra (`audio_vae.discriminator`) learn meanwhile what speech is like, and
the decoder learns to pass for it: least-squares losses and matching features, beside the same spectral loss
and divergence. With a Whisper branch, decoded frames must also still tell Whisper's features.

Both sides learn in one step, each from the other as it was before: one module, one optimiser, one checkpoint.
"""

from __future__ import annotations

import dataclasses
import math
import pickle
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from audio_vae.bottleneck import sample
from audio_vae.config import AudioVAEConfig, WhisperConfig
from audio_vae.conv import fold_weights
from audio_vae.discriminator import Discriminator, DiscriminatorConfig
from audio_vae.losses import MeaningLoss, SpectralLoss, divergence, feature_matching, least_squares
from audio_vae.model import AudioVAE
from recipes import ranks, train_audio_vae
from recipes.arguments import arguments, started
from recipes.checkpoints import averaged_weights
from recipes.configs.run import Optim
from recipes.launch import Engine, fast_arithmetic, generator
from recipes.record import fingerprint, record, recorded_model
from recipes.train_audio_vae import AudioVAERun, build, crops, normal, own_draws, slips, speech, validate
from talker.checkpoint import CheckpointError, load_strict


@dataclass(frozen=True, kw_only=True)
class AdversarialRun(AudioVAERun):
    """A training of the audio autoencoder against discriminators.

    Args:
        discriminator: all of them.
        discriminator_lr: theirs, beside the autoencoder's `optim.lr`.
        judged: latent frames of a crop that the discriminators see.
        adversarial, matching, meaning: weights beside the spectral loss's 1.
    """

    discriminator: DiscriminatorConfig
    discriminator_lr: float = 5e-4
    judged: int = 9  # 0.36 s, about as long as HiFi-GAN's crops
    # About HiFi-GAN's 1 and 2 beside 45 (X-Codec's 5 beside 15), which are sums over discriminators, layers
    # and windows where ours are means.
    adversarial: float = 0.2
    matching: float = 2.0
    meaning: float = 0.1


# Adam divides by the gradients' size: to clip two rivals by the norm of both would only let each disturb the
# other. A step that is not finite is still skipped.
UNCLIPPED = math.inf


def puppet() -> AdversarialRun:
    """The embedded default's network, and discriminators for a CPU."""
    return AdversarialRun(
        model=AudioVAEConfig.puppet(),
        discriminator=DiscriminatorConfig.puppet(),
        steps=4000,
        optim=Optim(lr=5e-4, betas=(0.8, 0.98), decay=0.01, warmup=100, floor=0.02, clip=UNCLIPPED),
    )


def release() -> AdversarialRun:
    """The published form, WhisperX-VAE, which needs the weights of Whisper Large-v3.

    Published: the sizes of both sides, and which losses there are. Ours: all else; rate, Adam's betas and the
    proportion of the losses, a third of the spectral one's weight for Whisper's features among them, are
    those of published relatives.
    """
    plain = train_audio_vae.release()
    return AdversarialRun(
        model=AudioVAEConfig.base(),
        discriminator=DiscriminatorConfig.base(),
        steps=plain.steps,
        optim=plain.optim,
        discriminator_lr=plain.optim.lr,
        rows=plain.rows,
        meaning=1 / 3,
        clips=plain.clips,
        validate_every=plain.validate_every,
        save_seconds=plain.save_seconds,
    )


def tiny() -> AdversarialRun:
    """For tests: seconds."""
    few = dataclasses.replace(puppet(), steps=4, rows=2, clips=4, heldout=2, log_every=1, validate_every=2)
    return dataclasses.replace(few, model=AudioVAEConfig.tiny(), discriminator=DiscriminatorConfig.tiny())


PRESETS = {preset.__name__: preset for preset in (puppet, release, tiny)}


def heard(model: AudioVAE, pcm: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """`AudioVAE.posterior` of pcm (B, samples), and Whisper's features (B, T, width) where they are part."""
    if model.whisper is None:
        return *model.posterior(pcm), None
    count = pcm.shape[1] // model.hop
    features = model.whisper(pcm, count)
    return *model.bottleneck.posterior(model.encoder(pcm)[:, :count] + features), features


def rivals(model: AudioVAE, run: AdversarialRun) -> nn.ModuleDict:
    """All that is trained: the autoencoder, its discriminators, and what reads Whisper's features."""
    torch.manual_seed(run.seed + 1)
    modules = {"vae": model, "discriminator": Discriminator(run.discriminator)}
    if model.whisper is not None:
        modules["meaning"] = MeaningLoss(model.decoder.width, model.encoder.width)
    return nn.ModuleDict(modules)


def optimiser_of(modules: nn.ModuleDict, run: AdversarialRun) -> torch.optim.Optimizer:
    """One AdamW over everything that is not frozen; the discriminators have their own rate."""
    groups = [
        {
            "params": [parameter for parameter in module.parameters() if parameter.requires_grad],
            "lr": run.discriminator_lr if name == "discriminator" else run.optim.lr,
        }
        for name, module in modules.items()
    ]
    return torch.optim.AdamW(groups, betas=run.optim.betas, weight_decay=run.optim.decay)


def train(
    folder: Path,
    run: AdversarialRun,
    model: AudioVAE,
    clips: tuple[list[Tensor], list[Tensor]],
    minutes: float = float("inf"),
    device: torch.device | str = "cpu",
) -> Engine:
    """Train on `clips` (training, held out) up to `run.steps`, or until the run has taken `minutes`."""
    modules = rivals(model, run).to(device)
    discriminator, frozen = modules["discriminator"], not model.bottleneck.project.weight.requires_grad
    loss, samples = SpectralLoss(model.sample_rate, model.hop).to(device), run.frames * model.hop
    optimiser, schedule = optimiser_of(modules, run), run.optim.factor(run.steps)
    engine = Engine(modules, optimiser, folder, schedule, run.optim.clip, run.optim.ema, averaged="vae")
    heldout = torch.stack([clip[:samples] for clip in clips[1]]).to(device) / 32767
    engine.load()
    record(folder, "audio_vae_adversarial", run, fingerprint(clip.numpy() for clip in clips[0]))
    for step in engine.steps(run.steps, minutes, run.save_seconds):
        each = own_draws(run, step)
        pcm = crops(clips[0], samples, each).to(device)
        mean, log_std, features = heard(model, pcm)
        latents = sample(mean, log_std, normal(mean, each))
        if frozen:
            latents = latents + slips(mean, run.slip, each)
        frames = model.bottleneck.expand(latents)
        made = model.decoder(frames)
        place = generator(run.seed + 1, step)
        first = model.hop * int(torch.randint(run.frames - run.judged + 1, (), generator=place))
        spoken, copy = (signal[:, first : first + model.hop * run.judged] for signal in (pcm, made))

        with fast_arithmetic(device):
            real, detached = discriminator(spoken), discriminator(copy.detach())
        judged = least_squares(real, 1.0) + least_squares(detached, 0.0)
        engine.backward(judged)

        discriminator.requires_grad_(False)  # it does not learn to be deceived
        with fast_arithmetic(device):
            fake = discriminator(copy)
        nats = divergence(mean, log_std)
        pushed = ranks.average(nats) > run.free_nats
        parts = {
            "spectral": loss(made, pcm),
            "adversarial": run.adversarial * least_squares(fake, 1.0),
            "matching": run.matching * feature_matching(fake, real),
            "kl": run.kl * nats[pushed].sum(),
        }
        if features is not None:
            parts["meaning"] = run.meaning * modules["meaning"](frames, features)
        engine.backward(torch.stack(list(parts.values())).sum())
        discriminator.requires_grad_(True)

        engine.step(pcm, **parts, judged=judged, nats=nats.sum())
        if engine.step_count % run.log_every == 0:
            engine.log(**engine.means(), **engine.meter(run.rows))
        if engine.step_count % run.validate_every == 0 and ranks.rank() == 0:
            assert isinstance(engine.ema_module, AudioVAE)
            engine.log(**validate(engine.ema_module, loss, heldout))
    return engine


def whisper_weights(path: Path) -> tuple[WhisperConfig, dict[str, Tensor]]:
    """The sizes of the encoder of an openai-whisper file, and its weights.

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
    return config, {
        k.removeprefix("encoder."): v.float() for k, v in state.items() if k.startswith("encoder.")
    }


def beside(whisper: WhisperConfig, run: AdversarialRun) -> AdversarialRun:
    """`run` with another Whisper's sizes.

    Raises:
        ValueError: its network has no Whisper branch.
    """
    form = run.model.convolutional
    if form is None or form.whisper is None:
        raise ValueError("this network has no Whisper branch: --whisper goes with --config release")
    form = dataclasses.replace(form, hidden=whisper.width, whisper=whisper)
    return dataclasses.replace(run, model=dataclasses.replace(run.model, convolutional=form))


def averaged(folder: Path) -> AudioVAE:
    """The averaged autoencoder of a run, for use."""
    model = build(recorded_model(folder, AudioVAEConfig, AudioVAEConfig.puppet()), None)
    model.load_state_dict(averaged_weights(folder, "vae"))
    fold_weights(model)
    return model


def main() -> None:
    """Train."""
    parser = arguments("audio_vae_adversarial", __doc__, PRESETS)
    parser.add_argument(
        "--freeze-encoder", type=Path, metavar="RUN", help="train the decoder alone, from this run's weights"
    )
    parser.add_argument("--whisper", type=Path, metavar="FILE", help="weights of the Whisper branch")
    with started(parser) as (options, run, device):
        ranks.check_share(run.rows)
        weights: dict[str, Tensor] | None = None
        if options.whisper is not None:
            whisper, weights = whisper_weights(options.whisper)
            run = beside(whisper, run)
        model = build(run.model, options.freeze_encoder, run.seed)
        if model.whisper is not None:
            if weights is None:
                raise ValueError("this network has a Whisper branch: give its weights with --whisper")
            load_strict(model.whisper.get_submodule("encoder"), weights, str(options.whisper))
        samples = run.frames * model.hop
        clips = speech("train", run.clips, samples), speech("heldout", run.heldout, samples)
        train(options.run, run, model, clips, options.minutes, device)


if __name__ == "__main__":
    main()
