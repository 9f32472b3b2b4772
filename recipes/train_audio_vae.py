"""Train the audio autoencoder on corpus speech.

    python -m recipes.train_audio_vae --run runs/audio_vae                        stage one: the whole network
    torchrun --nproc-per-node 2 -m recipes.train_audio_vae                        the same, shared
    python -m recipes.train_audio_vae --run runs/audio_vae_decoder \\
        --freeze-encoder runs/audio_vae                                          stage two: decoder refinement
    python -m recipes.export audio_vae runs/audio_vae FOLDER                      write the averaged weights

Stage one ends when the talker needs latents: from then on encoder and bottleneck stay as they are. Stage two
starts from the averaged weights of another run and trains the decoder alone, so that the latents of a trained
talker remain valid. The decoder always learns from draws of the posterior, never from its means, and in stage
two from noisier ones still: it must bear latents that are a little off, for a talker's are.

Objective: differences of log-mel spectrograms (`audio_vae.losses`) and the divergence from a standard normal.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from audio_vae.bottleneck import sample
from audio_vae.config import AudioVAEConfig
from audio_vae.conv import fold_weights, normalise_weights
from audio_vae.losses import SpectralLoss, divergence
from audio_vae.model import AudioVAE
from evaluation.speech import Errors, phoneme_errors, recogniser
from recipes import ranks
from recipes.data.puppet.corpus import Corpus
from recipes.data.puppet.sentences import Split
from recipes.launch import Engine, generator, warmup_cosine
from recipes.record import fingerprint, record, recorded

CROPS, FRAMES = 8, 24  # crops a step, latent frames a crop (0.96 s)
RATE, BETAS, DECAY = 1e-3, (0.8, 0.98), 0.01
WARMUP = 100
KL_WEIGHT = 1.5e-3  # of the divergence, summed over dimensions
SLIP = 0.2  # stage two: noise on the latents up to this share of their deviation
FREE_NATS = 0.3  # a dimension whose divergence is below is not pushed further: none dies
LOG_EVERY, LOOK_EVERY = 50, 250
HELDOUT_CLIPS = 24


def speech(split: Split, clips: int, hop: int) -> list[Tensor]:
    """PCM of the first `clips` clips that hold at least a crop, as int16 to save memory."""
    corpus, found, index = Corpus(split), list[Tensor](), 0
    while len(found) < clips:
        clip = corpus.clip(index)
        index += 1
        if not clip.idle and len(clip.pcm) >= FRAMES * hop:
            found.append((torch.from_numpy(clip.pcm) * 32767).to(torch.int16))
    return found


def own_draws(step: int) -> list[torch.Generator]:
    """The generators of this rank's crops of a step."""
    return [generator(0, step, number) for number in range(ranks.rank(), CROPS, ranks.size())]


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


def slips(mean: Tensor, each: list[torch.Generator]) -> Tensor:
    """Noise (B, T, C) as a talker might err: up to SLIP deviations of `mean`; its strength varies by crop."""
    strength = SLIP * torch.stack([torch.rand(1, 1, generator=draws) for draws in each])
    return strength.to(mean) * mean.std(dim=(0, 1)) * normal(mean, each)


@torch.no_grad()
def validate(model: AudioVAE, loss: SpectralLoss, heldout: Tensor) -> dict[str, float]:
    """Spectral loss of the round trip of held-out speech (B, samples), the share of phonemes that the
    recogniser hears in it otherwise than in the original, and how much the latents say."""
    mean, log_std = model.posterior(heldout)
    nats, made, listener = divergence(mean, log_std), model.decode(mean), recogniser()
    errors = [
        phoneme_errors(listener.transcribe(copy), listener.transcribe(clip))
        for copy, clip in zip(made, heldout, strict=True)
    ]
    return {
        "heldout": float(loss(made, heldout)),
        "heldout_phonemes": sum(errors, Errors()).rate,
        "heldout_nats": float(nats.sum()),
        "least_nats": float(nats.min()),
        "latent_std": float(mean.flatten(0, 1).std(0).mean()),
        "posterior_std": float(log_std.exp().mean()),
    }


def build(config: AudioVAEConfig, encoder_from: Path | None) -> AudioVAE:
    """A fresh network, or one whose encoder and bottleneck are another run's and stay so."""
    torch.manual_seed(0)
    model = AudioVAE(config)
    if config.convolutional is not None:
        normalise_weights(model)
    if encoder_from is not None:
        state = torch.load(encoder_from / "state.pt", weights_only=True, map_location="cpu")
        model.load_state_dict(state["ema"])
        model.encoder.requires_grad_(False)
        model.bottleneck.project.requires_grad_(False)
    return model


def train(
    run: Path,
    config: AudioVAEConfig,
    steps: int,
    minutes: float,
    clips: tuple[list[Tensor], list[Tensor]],
    encoder_from: Path | None = None,
    device: torch.device | str = "cpu",
) -> Engine:
    """Train on `clips` (training, held out) for `steps` steps or `minutes` minutes, whichever comes first."""
    model = build(config, encoder_from).to(device)
    loss, samples = SpectralLoss(config.sample_rate, config.hop).to(device), FRAMES * config.hop
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=RATE, betas=BETAS, weight_decay=DECAY)
    engine = Engine(model, optimiser, run, warmup_cosine(WARMUP, steps, floor=0.02), clip=1.0, ema=0.999)
    heldout = torch.stack([clip[:samples] for clip in clips[1]]).to(device) / 32767
    recent: list[Tensor] = []
    engine.load()
    record(run, "audio_vae", config, fingerprint(clip.numpy() for clip in clips[0]))
    for step in engine.steps(steps, minutes):
        each = own_draws(step)
        pcm = crops(clips[0], samples, each).to(device)
        mean, log_std = model.posterior(pcm)
        latents = sample(mean, log_std, normal(mean, each))
        if encoder_from is not None:
            latents = latents + slips(mean, each)
        spectral = loss(model.decode(latents), pcm)
        nats = divergence(mean, log_std)
        pushed = ranks.total(nats) / ranks.size() > FREE_NATS
        engine.backward(spectral + KL_WEIGHT * nats[pushed].sum())
        norm = engine.step()
        recent.append(torch.stack((spectral.detach(), nats.detach().sum(), spectral.new_tensor(norm))))
        if engine.step_count % LOG_EVERY == 0:
            spectral, nats, norm = (ranks.total(torch.stack(recent).mean(0)) / ranks.size()).tolist()
            shown = {"spectral": spectral, "nats": nats, "grad": norm}
            if engine.step_count % LOOK_EVERY == 0 and ranks.rank() == 0:
                assert isinstance(engine.ema_module, AudioVAE)
                shown |= validate(engine.ema_module, loss, heldout)
            engine.log(**shown, **engine.meter(CROPS))
            recent.clear()
    return engine


def averaged(run: Path) -> AudioVAE:
    """The averaged network of a run, for use."""
    model = build(recorded(run, AudioVAEConfig, AudioVAEConfig.puppet()), None)
    model.load_state_dict(torch.load(run / "state.pt", weights_only=True, map_location="cpu")["ema"])
    fold_weights(model)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, default=Path("runs/audio_vae"))
    parser.add_argument("--steps", type=int, default=4000, help="the learning rate reaches its floor here")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop earlier, by the clock")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clips", type=int, default=1000, help="corpus clips held in memory")
    parser.add_argument("--local_rank", help=argparse.SUPPRESS)  # the deepspeed launcher's
    parser.add_argument(
        "--freeze-encoder", type=Path, metavar="RUN", help="stage two, from this run's weights"
    )
    options = parser.parse_args()
    device = ranks.join(options.threads)
    if CROPS % ranks.size():
        raise SystemExit(f"train_audio_vae: {CROPS} crops a step do not divide among {ranks.size()} ranks")
    config = AudioVAEConfig.puppet()
    clips = speech("train", options.clips, config.hop), speech("heldout", HELDOUT_CLIPS, config.hop)
    train(options.run, config, options.steps, options.minutes, clips, options.freeze_encoder, device)


if __name__ == "__main__":
    main()
