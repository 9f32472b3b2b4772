"""Train the audio autoencoder on corpus speech, against discriminators.

    python -m recipes.train_audio_vae_adversarial                        the whole network
    python -m recipes.train_audio_vae_adversarial --run runs/audio_vae_adversarial_decoder \\
        --freeze-encoder runs/audio_vae                                  only the decoder, from another run
    python -m recipes.train_audio_vae_adversarial --config release \\
        --whisper large-v3.pt                                            the published network and losses
    python -m recipes.export audio_vae_adversarial RUN FOLDER            write the averaged weights

`recipes.train_audio_vae` compares spectra. A spectrum leaves details of the signal open, and the decoder
learns their average, which sounds blurred. Here discriminators of waveforms and spectra
(`audio_vae.discriminator`) learn to tell decoded from real speech, and the decoder learns to deceive them:
least-squares adversarial losses and feature matching are added to the spectral loss and the KL divergence.
With a Whisper branch, a loss requires that Whisper's features can be predicted from the decoder's input.

Autoencoder and discriminators are updated in the same step, from gradients that are computed before either
update.
"""

from __future__ import annotations

import dataclasses
import math
import pickle
from dataclasses import dataclass
from pathlib import Path

from talker.signals import announce

if __name__ == "__main__":  # before imports that take seconds
    announce("recipes.train_audio_vae_adversarial")

import torch
from torch import Tensor, nn

from audio_vae.bottleneck import sample
from audio_vae.config import AudioVAEConfig, WhisperConfig
from audio_vae.conv import fold_weights
from audio_vae.discriminator import Discriminator, DiscriminatorConfig
from audio_vae.losses import MeaningLoss, SpectralLoss, divergence, feature_matching, least_squares
from audio_vae.model import AudioVAE
from recipes import ranks, train_audio_vae
from recipes.checkpoints import averaged_weights
from recipes.configs.run import Optim
from recipes.device import bfloat16_autocast
from recipes.draws import generator
from recipes.engine import Engine
from recipes.launch import argument_parser, launch
from recipes.record import fingerprint, read_model_config, write_record
from recipes.train_audio_vae import (
    AudioVAERun,
    build,
    crop_generators,
    crops,
    latent_noise,
    normal_like,
    spoken_clips,
    validate,
)
from talker.checkpoint import CheckpointError, load_strict


@dataclass(frozen=True, kw_only=True)
class AdversarialRun(AudioVAERun):
    """A training of the audio autoencoder against discriminators.

    Args:
        discriminator: config of all discriminators.
        discriminator_lr: learning rate of the discriminators; `optim.lr` is the autoencoder's.
        judged: latent frames of a crop that the discriminators get.
        adversarial, matching, meaning: weights of the losses; the spectral loss has weight 1.
    """

    discriminator: DiscriminatorConfig
    discriminator_lr: float = 5e-4
    judged: int = 9  # 0.36 s, about the length of HiFi-GAN's crops
    # Comparable to HiFi-GAN's weights 1 and 2 with a spectral weight of 45 (X-Codec: 5 with 15): theirs are
    # sums over discriminators, layers and windows, ours are means.
    adversarial: float = 0.2
    matching: float = 2.0
    meaning: float = 0.1

    def without_zero(self) -> str:
        """Return why this training cannot run under DeepSpeed's ZeRO."""
        return "two networks are trained against each other, each with its own backward pass"


# Adam normalises the size of gradients. Clipping both networks by their common norm would only let one
# disturb the other. Steps with a gradient that is not finite are still skipped.
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
    """The published network, WhisperX-VAE, which needs the weights of Whisper Large-v3.

    Published: the sizes of all networks and the kinds of losses. Ours: everything else; learning rate, Adam's
    betas and the weights of the losses are those of similar published models.
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
    """For tests: tiny networks; seconds."""
    few = dataclasses.replace(puppet(), steps=4, rows=2, bank="", clips=4, heldout=2)
    few = dataclasses.replace(few, log_every=1, validate_every=2)
    return dataclasses.replace(few, model=AudioVAEConfig.tiny(), discriminator=DiscriminatorConfig.tiny())


PRESETS = {preset.__name__: preset for preset in (puppet, release, tiny)}


def posterior(model: AudioVAE, pcm: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return mean and log standard deviation of the latents, and Whisper's features if `model` uses them.

    Args:
        model: the autoencoder.
        pcm: (B, samples) speech.

    Returns:
        mean, log_std: (B, T, C) each; features: (B, T, width), or None.
    """
    if model.whisper is None:
        return *model.posterior(pcm), None
    count = pcm.shape[1] // model.hop
    features = model.whisper(pcm, count)
    return *model.bottleneck.posterior(model.encoder(pcm)[:, :count] + features), features


def trained_modules(model: AudioVAE, run: AdversarialRun) -> nn.ModuleDict:
    """Return autoencoder, discriminators and, with a Whisper branch, the predictor of its features."""
    torch.manual_seed(run.seed + 1)
    modules = {"vae": model, "discriminator": Discriminator(run.discriminator)}
    if model.whisper is not None:
        modules["meaning"] = MeaningLoss(model.decoder.width, model.encoder.width)
    return nn.ModuleDict(modules)


def optimiser_of(modules: nn.ModuleDict, run: AdversarialRun) -> torch.optim.Optimizer:
    """Return one AdamW for all parameters that are not frozen.

    The discriminators have their own learning rate.
    """
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
    """Train until `run.steps` steps are done or the run has taken `minutes`; continues from the run folder.

    Args:
        folder: the run folder.
        run: the config.
        model: the autoencoder that `train_audio_vae.build` returns.
        clips: int16 PCM to train on and to validate on.
        minutes: training time of the run, over all resumes.
        device: where to train.
    """
    modules = trained_modules(model, run).to(device)
    discriminator, frozen = modules["discriminator"], not model.bottleneck.project.weight.requires_grad
    loss, samples = SpectralLoss(model.sample_rate, model.hop).to(device), run.frames * model.hop
    optimiser, schedule = optimiser_of(modules, run), run.optim.factor(run.steps)
    engine = Engine(modules, optimiser, folder, schedule, run.optim.clip, run.optim.ema, averaged="vae")
    heldout = torch.stack([clip[:samples] for clip in clips[1]]).to(device) / 32767
    engine.load()
    write_record(folder, "audio_vae_adversarial", run, fingerprint(clip.numpy() for clip in clips[0]))
    for step in engine.steps(run.steps, minutes, run.save_seconds):
        each = crop_generators(run, step)
        pcm = crops(clips[0], samples, each).to(device)
        mean, log_std, features = posterior(model, pcm)
        latents = sample(mean, log_std, normal_like(mean, each))
        if frozen:
            latents = latents + latent_noise(mean, run.latent_noise, each)
        frames = model.bottleneck.expand(latents)
        decoded = model.decoder(frames)
        draws = generator(run.seed + 1, step)
        first = model.hop * int(torch.randint(run.frames - run.judged + 1, (), generator=draws))
        spoken, copy = (signal[:, first : first + model.hop * run.judged] for signal in (pcm, decoded))

        with bfloat16_autocast(device):
            real, detached = discriminator(spoken), discriminator(copy.detach())
        judged = least_squares(real, 1.0) + least_squares(detached, 0.0)
        engine.backward(judged)

        discriminator.requires_grad_(False)  # the losses below train the autoencoder alone
        with bfloat16_autocast(device):
            fake = discriminator(copy)
        nats = divergence(mean, log_std)
        above = ranks.average(nats) > run.free_nats
        parts = {
            "spectral": loss(decoded, pcm),
            "adversarial": run.adversarial * least_squares(fake, 1.0),
            "matching": run.matching * feature_matching(fake, real),
            "kl": run.kl * nats[above].sum(),
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
    """Return the sizes and the weights of the encoder in a model file of openai-whisper.

    Raises:
        CheckpointError: `path` is not such a file.
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


def with_whisper(whisper: WhisperConfig, run: AdversarialRun) -> AdversarialRun:
    """Return `run` with the sizes of another Whisper encoder.

    Raises:
        ValueError: the network of `run` has no Whisper branch.
    """
    form = run.model.convolutional
    if form is None or form.whisper is None:
        raise ValueError("this network has no Whisper branch: leave out --whisper, or use --config release")
    form = dataclasses.replace(form, hidden=whisper.width, whisper=whisper)
    return dataclasses.replace(run, model=dataclasses.replace(run.model, convolutional=form))


def averaged(folder: Path) -> AudioVAE:
    """Return the averaged autoencoder of a run."""
    model = build(read_model_config(folder, AudioVAEConfig, AudioVAEConfig.puppet()), None)
    model.load_state_dict(averaged_weights(folder, "vae"))
    fold_weights(model)
    return model


def main() -> None:
    """Run the command line."""
    parser = argument_parser("audio_vae_adversarial", __doc__, PRESETS)
    parser.add_argument(
        "--freeze-encoder",
        type=Path,
        metavar="RUN",
        help="train only the decoder: the run folder to start from",
    )
    parser.add_argument(
        "--whisper", type=Path, metavar="FILE", help="openai-whisper model file for the Whisper branch"
    )
    with launch(parser) as (options, run, device):
        ranks.check_divisible(run.rows)
        weights: dict[str, Tensor] | None = None
        if options.whisper is not None:
            whisper, weights = whisper_weights(options.whisper)
            run = with_whisper(whisper, run)
        model = build(run.model, options.freeze_encoder, run.seed)
        if model.whisper is not None:
            if weights is None:
                raise ValueError("this network has a Whisper branch: give its weights with --whisper")
            load_strict(model.whisper.get_submodule("encoder"), weights, str(options.whisper))
        train(options.run, run, model, spoken_clips(run), options.minutes, device)


if __name__ == "__main__":
    main()
