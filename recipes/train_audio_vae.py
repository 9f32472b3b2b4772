"""Train the audio autoencoder on corpus speech.

    python -m recipes.train_audio_vae [--config puppet] [--set steps=3000]     stage one: the whole network
    torchrun --nproc-per-node 2 -m -- recipes.train_audio_vae                 the same, shared
    python -m recipes.train_audio_vae --run runs/audio_vae_decoder \\
        --freeze-encoder runs/audio_vae                                      stage two: decoder refinement
    python -m recipes.export audio_vae runs/audio_vae FOLDER                  write the averaged weights

Stage one trains encoder, bottleneck and decoder. It ends when a talker is trained on the latents: the encoder
must not change afterwards. Stage two starts from the averaged weights of another run and trains only the
decoder, so the latents stay valid. The decoder learns from samples of the posterior, not from its means, and
in stage two with additional noise: the latents that a talker generates are slightly wrong, too.

Objective: differences of log-mel spectrograms (`audio_vae.losses`) and the KL divergence from a standard
normal.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from talker.signals import announce

if __name__ == "__main__":  # before imports that take seconds
    announce("recipes.train_audio_vae")

import torch
from torch import Tensor

from audio_vae.bottleneck import sample
from audio_vae.config import AudioVAEConfig, ConvolutionalConfig
from audio_vae.conv import fold_weights, normalise_weights
from audio_vae.losses import SpectralLoss, divergence
from audio_vae.model import AudioVAE
from evaluation.speech import Errors, phoneme_errors, recogniser
from puppet.corpus import corpus
from puppet.sentences import Split
from recipes import ranks
from recipes.checkpoints import averaged_weights
from recipes.configs.run import Optim, Run
from recipes.draws import generator
from recipes.engine import Engine
from recipes.launch import argument_parser, launch
from recipes.record import fingerprint, read_model_config, write_record


@dataclass(frozen=True, kw_only=True)
class AudioVAERun(Run):
    """A training of the audio autoencoder.

    Args:
        model: the network.
        rows: crops in a step, over all ranks.
        frames: latent frames in a crop.
        kl: weight of the KL divergence, summed over dimensions.
        free_nats: the divergence of a dimension is not reduced below this value, so that no dimension
            collapses.
        latent_noise: stage two: largest noise on the latents, as a share of their standard deviation.
        bank: folder of the bank of speech; empty for espeak.
        clips, heldout: clips of the corpus to train on and to validate on; they are held in memory.
    """

    model: AudioVAEConfig
    rows: int = 8
    frames: int = 24
    kl: float = 1.5e-3
    free_nats: float = 0.3
    latent_noise: float = 0.2
    bank: str = "runs/speech"
    clips: int = 1000
    heldout: int = 24


def puppet() -> AudioVAERun:
    """The embedded default."""
    return AudioVAERun(
        model=AudioVAEConfig.puppet(),
        steps=4000,
        optim=Optim(lr=1e-3, betas=(0.8, 0.98), decay=0.01, warmup=100, floor=0.02),
    )


def release() -> AudioVAERun:
    """The published convolutional network, without its Whisper branch, which the adversarial recipe trains.

    Published: the sizes. Ours: everything else; the learning rate and Adam's betas are those of similar
    published models.
    """
    return AudioVAERun(
        model=AudioVAEConfig(convolutional=ConvolutionalConfig()),
        steps=400_000,
        optim=Optim(lr=1e-4, betas=(0.8, 0.99), decay=0.01, warmup=1000, floor=0.02),
        rows=32,
        clips=12_000,
        validate_every=1000,
        save_seconds=1200.0,
    )


def tiny() -> AudioVAERun:
    """For tests: a tiny network; seconds."""
    few = dataclasses.replace(puppet(), model=AudioVAEConfig.tiny(), steps=4, rows=2, clips=4, heldout=2)
    return dataclasses.replace(few, bank="", log_every=1, validate_every=2)


PRESETS = {preset.__name__: preset for preset in (puppet, release, tiny)}


def spoken_clips(run: AudioVAERun) -> tuple[list[Tensor], list[Tensor]]:
    """Return the clips of a run to train on and to validate on: the first that are spoken and not too short.

    Each is int16 PCM, to save memory. Errors as `puppet.corpus.corpus`.
    """
    return _spoken(run, "train", run.clips), _spoken(run, "heldout", run.heldout)


def _spoken(run: AudioVAERun, split: Split, count: int) -> list[Tensor]:
    clips, found, index = corpus(split, run.bank), list[Tensor](), 0
    while len(found) < count:
        clip = clips.clip(index)
        index += 1
        if not clip.idle and len(clip.pcm) >= run.frames * run.model.hop:
            found.append((torch.from_numpy(clip.pcm) * 32767).to(torch.int16))
    return found


def crop_generators(run: AudioVAERun, step: int) -> list[torch.Generator]:
    """Return one generator for each of this rank's crops of a step."""
    return [generator(run.seed, step, number) for number in ranks.own(run.rows)]


def crops(clips: list[Tensor], samples: int, each: list[torch.Generator]) -> Tensor:
    """Return a random crop of a random int16 clip for each generator: (B, samples) in [-1, 1]."""
    rows = []
    for draws in each:
        clip = clips[int(torch.randint(len(clips), (), generator=draws))]
        start = int(torch.randint(len(clip) - samples + 1, (), generator=draws))
        rows.append(clip[start : start + samples])
    return torch.stack(rows) / 32767


def normal_like(like: Tensor, each: list[torch.Generator]) -> Tensor:
    """Return standard normal noise of the shape of `like` (B, ...), one generator for each row."""
    return torch.stack([torch.randn(like.shape[1:], generator=draws) for draws in each]).to(like)


def latent_noise(mean: Tensor, strength: float, each: list[torch.Generator]) -> Tensor:
    """Return noise (B, T, C) like the error of generated latents.

    Its standard deviation is that of `mean` (B, T, C) over all ranks, times a random factor of each crop, at
    most `strength`.
    """
    factor = strength * torch.stack([torch.rand(1, 1, generator=draws) for draws in each])
    return factor.to(mean) * ranks.gather(mean.detach()).std(dim=(0, 1)) * normal_like(mean, each)


@torch.no_grad()
def validate(model: AudioVAE, loss: SpectralLoss, heldout: Tensor) -> dict[str, float]:
    """Encode and decode held-out speech and measure it.

    Args:
        model: the averaged autoencoder.
        loss: the spectral loss.
        heldout: (B, samples) speech.

    Returns:
        heldout: spectral loss;
        heldout_phonemes: PER of the decoded speech against the recogniser's transcript of the original;
        heldout_nats, least_nats: KL divergence, in all and of the least used dimension;
        latent_std, posterior_std: mean standard deviations of the latents and of the posterior.
    """
    mean, log_std = model.posterior(heldout)
    nats, decoded, transcribe = divergence(mean, log_std), model.decode(mean), recogniser().transcribe
    errors = [
        phoneme_errors(transcribe(copy), transcribe(clip))
        for copy, clip in zip(decoded.cpu(), heldout.cpu(), strict=True)
    ]
    return {
        "heldout": float(loss(decoded, heldout)),
        "heldout_phonemes": sum(errors, Errors()).rate,
        "heldout_nats": float(nats.sum()),
        "least_nats": float(nats.min()),
        "latent_std": float(mean.flatten(0, 1).std(0).mean()),
        "posterior_std": float(log_std.exp().mean()),
    }


def build(config: AudioVAEConfig, encoder_from: Path | None, seed: int = 0) -> AudioVAE:
    """Return a new network with weights that depend on `seed`.

    If `encoder_from` names a run folder, the network has that run's averaged weights, and its encoder and
    bottleneck are frozen.
    """
    torch.manual_seed(seed)
    model = AudioVAE(config)
    if config.convolutional is not None:
        normalise_weights(model)
    if encoder_from is not None:
        model.load_state_dict(averaged_weights(encoder_from, "vae"))
        model.encoder.requires_grad_(False)
        model.bottleneck.project.requires_grad_(False)
    return model


def train(
    folder: Path,
    run: AudioVAERun,
    clips: tuple[list[Tensor], list[Tensor]],
    minutes: float = float("inf"),
    encoder_from: Path | None = None,
    device: torch.device | str = "cpu",
) -> Engine:
    """Train until `run.steps` steps are done or the run has taken `minutes`; continues from the run folder.

    Args:
        folder: the run folder.
        run: the config.
        clips: int16 PCM to train on and to validate on.
        minutes: training time of the run, over all resumes.
        encoder_from: stage two: the run folder whose weights it starts from.
        device: where to train.
    """
    model, optim = build(run.model, encoder_from, run.seed).to(device), run.optim
    loss, samples = SpectralLoss(model.sample_rate, model.hop).to(device), run.frames * model.hop
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=optim.lr, betas=optim.betas, weight_decay=optim.decay)
    schedule = optim.factor(run.steps)
    engine = Engine(model, optimiser, folder, schedule, optim.clip, optim.ema, zero=run.zero)
    heldout = torch.stack([clip[:samples] for clip in clips[1]]).to(device) / 32767
    engine.load()
    write_record(folder, "audio_vae", run, fingerprint(clip.numpy() for clip in clips[0]))
    for step in engine.steps(run.steps, minutes, run.save_seconds):
        each = crop_generators(run, step)
        pcm = crops(clips[0], samples, each).to(device)
        mean, log_std = model.posterior(pcm)
        latents = sample(mean, log_std, normal_like(mean, each))
        if encoder_from is not None:
            latents = latents + latent_noise(mean, run.latent_noise, each)
        spectral = loss(model.decode(latents), pcm)
        nats = divergence(mean, log_std)
        above = ranks.average(nats) > run.free_nats
        engine.backward(spectral + run.kl * nats[above].sum())
        engine.step(pcm, spectral=spectral, nats=nats.sum())
        if engine.step_count % run.log_every == 0:
            engine.log(**engine.means(), **engine.meter(run.rows))
        if engine.step_count % run.validate_every == 0 and ranks.rank() == 0:
            assert isinstance(engine.ema_module, AudioVAE)
            engine.log(**validate(engine.ema_module, loss, heldout))
    return engine


def averaged(folder: Path) -> AudioVAE:
    """Return the averaged network of a run."""
    model = build(read_model_config(folder, AudioVAEConfig, AudioVAEConfig.puppet()), None)
    model.load_state_dict(averaged_weights(folder))
    fold_weights(model)
    return model


def main() -> None:
    """Run the command line."""
    parser = argument_parser("audio_vae", __doc__, PRESETS)
    parser.add_argument(
        "--freeze-encoder", type=Path, metavar="RUN", help="stage two: the run folder to start from"
    )
    with launch(parser) as (options, run, device):
        ranks.check_divisible(run.rows)
        train(options.run, run, spoken_clips(run), options.minutes, options.freeze_encoder, device)


if __name__ == "__main__":
    main()
