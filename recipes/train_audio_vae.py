"""Train the audio autoencoder on corpus speech.

    python -m recipes.train_audio_vae [--config puppet] [--set steps=3000]     stage one: the whole network
    torchrun --nproc-per-node 2 -m -- recipes.train_audio_vae                 the same, shared
    python -m recipes.train_audio_vae --run runs/audio_vae_decoder \\
        --freeze-encoder runs/audio_vae                                      stage two: decoder refinement
    python -m recipes.export audio_vae runs/audio_vae FOLDER                  write the averaged weights

Stage one ends when the talker needs latents: from then on encoder and bottleneck stay as they are. Stage two
starts from the averaged weights of another run and trains the decoder alone, so that the latents of a trained
talker remain valid. The decoder always learns from draws of the posterior, never from its means, and in stage
two from noisier ones still: it must bear latents that are a little off, for a talker's are.

Objective: differences of log-mel spectrograms (`audio_vae.losses`) and the divergence from a standard normal.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from audio_vae.bottleneck import sample
from audio_vae.config import AudioVAEConfig, ConvolutionalConfig
from audio_vae.conv import fold_weights, normalise_weights
from audio_vae.losses import SpectralLoss, divergence
from audio_vae.model import AudioVAE
from evaluation.speech import Errors, phoneme_errors, recogniser
from puppet.corpus import Corpus
from puppet.sentences import Split
from recipes import ranks
from recipes.arguments import arguments, started
from recipes.checkpoints import averaged_weights
from recipes.configs.run import Optim, Run
from recipes.launch import Engine, generator
from recipes.record import fingerprint, record, recorded_model


@dataclass(frozen=True, kw_only=True)
class AudioVAERun(Run):
    """A training of the audio autoencoder.

    Args:
        model: the network.
        rows, frames: crops a step over all ranks, and latent frames a crop.
        kl: weight of the divergence, summed over dimensions.
        free_nats: a dimension whose divergence is below is not pushed further: none dies.
        slip: stage two: noise on the latents up to this share of their deviation.
        clips, heldout: how many of the corpus, held in memory.
    """

    model: AudioVAEConfig
    rows: int = 8
    frames: int = 24
    kl: float = 1.5e-3
    free_nats: float = 0.3
    slip: float = 0.2
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
    """The published convolutions, without their Whisper branch, whose losses the adversarial recipe has.

    Published: the sizes. Ours: all else; the rate and Adam's betas are those of published relatives.
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
    """For tests: seconds."""
    few = dataclasses.replace(puppet(), model=AudioVAEConfig.tiny(), steps=4, rows=2, clips=4, heldout=2)
    return dataclasses.replace(few, log_every=1, validate_every=2)


PRESETS = {preset.__name__: preset for preset in (puppet, release, tiny)}


def speech(split: Split, clips: int, samples: int) -> list[Tensor]:
    """PCM of the first `clips` clips that hold at least `samples`, as int16 to save memory."""
    corpus, found, index = Corpus(split), list[Tensor](), 0
    while len(found) < clips:
        clip = corpus.clip(index)
        index += 1
        if not clip.idle and len(clip.pcm) >= samples:
            found.append((torch.from_numpy(clip.pcm) * 32767).to(torch.int16))
    return found


def own_draws(run: AudioVAERun, step: int) -> list[torch.Generator]:
    """The generators of this rank's crops of a step."""
    return [generator(run.seed, step, number) for number in ranks.own(run.rows)]


def crops(clips: list[Tensor], samples: int, each: list[torch.Generator]) -> Tensor:
    """A piece of `samples` samples from a random place of a random clip each: (B, samples) in [-1, 1]."""
    rows = []
    for draws in each:
        clip = clips[int(torch.randint(len(clips), (), generator=draws))]
        start = int(torch.randint(len(clip) - samples + 1, (), generator=draws))
        rows.append(clip[start : start + samples])
    return torch.stack(rows) / 32767


def normal(like: Tensor, each: list[torch.Generator]) -> Tensor:
    """Standard normal numbers of the shape of `like` (B, ...), row by row."""
    return torch.stack([torch.randn(like.shape[1:], generator=draws) for draws in each]).to(like)


def slips(mean: Tensor, most: float, each: list[torch.Generator]) -> Tensor:
    """Noise (B, T, C) as a talker might err: up to `most` deviations of all ranks' `mean` (B, T, C); its
    strength varies by crop."""
    strength = most * torch.stack([torch.rand(1, 1, generator=draws) for draws in each])
    return strength.to(mean) * ranks.gather(mean.detach()).std(dim=(0, 1)) * normal(mean, each)


@torch.no_grad()
def validate(model: AudioVAE, loss: SpectralLoss, heldout: Tensor) -> dict[str, float]:
    """Spectral loss of the round trip of held-out speech (B, samples), the share of phonemes that the
    recogniser hears in it otherwise than in the original, and how much the latents say."""
    mean, log_std = model.posterior(heldout)
    nats, made, listener = divergence(mean, log_std), model.decode(mean), recogniser()
    errors = [
        phoneme_errors(listener.transcribe(copy), listener.transcribe(clip))
        for copy, clip in zip(made.cpu(), heldout.cpu(), strict=True)
    ]
    return {
        "heldout": float(loss(made, heldout)),
        "heldout_phonemes": sum(errors, Errors()).rate,
        "heldout_nats": float(nats.sum()),
        "least_nats": float(nats.min()),
        "latent_std": float(mean.flatten(0, 1).std(0).mean()),
        "posterior_std": float(log_std.exp().mean()),
    }


def build(config: AudioVAEConfig, encoder_from: Path | None, seed: int = 0) -> AudioVAE:
    """A fresh network, or one whose encoder and bottleneck are another run's and stay so."""
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
    """Train on `clips` (training, held out) up to `run.steps`, or until the run has taken `minutes`."""
    model, optim = build(run.model, encoder_from, run.seed).to(device), run.optim
    loss, samples = SpectralLoss(model.sample_rate, model.hop).to(device), run.frames * model.hop
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=optim.lr, betas=optim.betas, weight_decay=optim.decay)
    engine = Engine(model, optimiser, folder, optim.factor(run.steps), optim.clip, optim.ema)
    heldout = torch.stack([clip[:samples] for clip in clips[1]]).to(device) / 32767
    engine.load()
    record(folder, "audio_vae", run, fingerprint(clip.numpy() for clip in clips[0]))
    for step in engine.steps(run.steps, minutes, run.save_seconds):
        each = own_draws(run, step)
        pcm = crops(clips[0], samples, each).to(device)
        mean, log_std = model.posterior(pcm)
        latents = sample(mean, log_std, normal(mean, each))
        if encoder_from is not None:
            latents = latents + slips(mean, run.slip, each)
        spectral = loss(model.decode(latents), pcm)
        nats = divergence(mean, log_std)
        pushed = ranks.average(nats) > run.free_nats
        engine.backward(spectral + run.kl * nats[pushed].sum())
        engine.step(pcm, spectral=spectral, nats=nats.sum())
        if engine.step_count % run.log_every == 0:
            engine.log(**engine.means(), **engine.meter(run.rows))
        if engine.step_count % run.validate_every == 0 and ranks.rank() == 0:
            assert isinstance(engine.ema_module, AudioVAE)
            engine.log(**validate(engine.ema_module, loss, heldout))
    return engine


def averaged(folder: Path) -> AudioVAE:
    """The averaged network of a run, for use."""
    model = build(recorded_model(folder, AudioVAEConfig, AudioVAEConfig.puppet()), None)
    model.load_state_dict(averaged_weights(folder))
    fold_weights(model)
    return model


def main() -> None:
    """Train."""
    parser = arguments("audio_vae", __doc__, PRESETS)
    parser.add_argument(
        "--freeze-encoder", type=Path, metavar="RUN", help="stage two, from this run's weights"
    )
    with started(parser) as (options, run, device):
        ranks.check_share(run.rows)
        samples = run.frames * run.model.hop
        clips = speech("train", run.clips, samples), speech("heldout", run.heldout, samples)
        train(options.run, run, clips, options.minutes, options.freeze_encoder, device)


if __name__ == "__main__":
    main()
