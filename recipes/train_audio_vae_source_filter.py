"""Train the source-filter audio autoencoder of the default on a speech bank, in three stages of one run.

    python -m recipes.data.world runs/speech                             once: WORLD's features of the bank
    python -m recipes.train_audio_vae_source_filter [--set bank=runs/speech]
    python -m recipes.export audio_vae_source_filter runs/audio_vae_source_filter FOLDER

1. Regression: pitch, voicing and the levels of both parts are regressed onto what WORLD measured
   (`recipes.data.world`). Nothing is synthesised, so a step is cheap and its targets are free of noise.
2. Spectra: the energy distance of log spectra of the synthesised speech is added. It corrects what WORLD
   leaves out: phase, and the mix of harmonics and noise.
3. Adversary: discriminators of waveforms and spectra are added.

The stages begin at shares of `steps`; at the end of each, the learning rate decays. In all stages the decoder
learns from samples of the posterior with additional noise, because the latents that a talker generates are
slightly wrong, and the true pitch drives the source.

A resumed run reads the bank again, so speech that was added to it is used from then on.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

from talker.signals import announce

if __name__ == "__main__":  # before imports that take seconds
    announce("recipes.train_audio_vae_source_filter")

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audio_vae.bottleneck import sample
from audio_vae.config import AudioVAEConfig
from audio_vae.discriminator import Discriminator, DiscriminatorConfig
from audio_vae.losses import MelLoss, divergence, feature_matching, least_squares
from audio_vae.model import AudioVAE
from audio_vae.source_filter import SourceFilterDecoder, SourceFilterEncoder
from audio_vae.source_filter_losses import LevelLoss, LogSpectra, pitch_loss, salience_loss
from audio_vae.synthesis import Controls, SynthesisState
from recipes import ranks
from recipes.checkpoints import averaged_weights
from recipes.configs.run import Optim, Run
from recipes.data.world import STEP, Targets, WorldBank, targets
from recipes.device import bfloat16_autocast
from recipes.draws import generator
from recipes.engine import Engine
from recipes.launch import argument_parser, launch
from recipes.record import fingerprint, read_model_config, write_record
from recipes.train_audio_vae import latent_noise, normal_like

REGRESSION, SPECTRA, ADVERSARY = range(3)


@dataclass(frozen=True, kw_only=True)
class SourceFilterRun(Run):
    """A training of the source-filter audio autoencoder.

    Args:
        model, discriminator: the networks.
        bank: folder of the speech bank.
        spectra_from, adversary_from: shares of `steps` at which the second and the third stage begin.
        rates: factors of the learning rate in the three stages.
        discriminator_lr: learning rate of the discriminators; `optim.lr` is the autoencoder's.
        rows: crops in a step of the first stage, over all ranks; the other stages take half of them.
        frames: latent frames in a crop.
        judged: latent frames of a crop that the discriminators get.
        kl: weight of the KL divergence, summed over dimensions.
        free_nats: the divergence of a dimension is not reduced below this value.
        latent_noise: largest noise on the latents, as a share of their standard deviation.
        adversarial, matching: weights of the losses of the third stage; that of the energy distance is 1.
        heldout: held-out crops to validate on.
    """

    model: AudioVAEConfig
    discriminator: DiscriminatorConfig
    bank: str = "runs/speech"
    spectra_from: float = 0.6
    adversary_from: float = 0.9
    rates: tuple[float, float, float] = (1.0, 0.35, 0.2)
    discriminator_lr: float = 1.5e-3
    rows: int = 16
    frames: int = 32
    judged: int = 15
    kl: float = 2e-4
    free_nats: float = 0.1
    latent_noise: float = 0.4
    adversarial: float = 0.1
    matching: float = 0.2
    heldout: int = 48

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.spectra_from <= self.adversary_from <= 1:
            raise ValueError("spectra_from and adversary_from must be from 0 to 1, in this order")
        if self.rows % 2 or self.judged > self.frames:
            raise ValueError("rows must be even, and judged at most frames")

    @property
    def borders(self) -> tuple[int, int, int, int]:
        """Steps at which the stages begin, and the last one ends."""
        return 0, round(self.spectra_from * self.steps), round(self.adversary_from * self.steps), self.steps

    def stage(self, step: int) -> int:
        """The stage of a step, counted from 0."""
        return sum(step >= border for border in self.borders[1:3])

    def rows_of(self, stage: int) -> int:
        """Crops in a step of a stage, over all ranks."""
        return self.rows if stage == REGRESSION else self.rows // 2

    def factor(self, step: int) -> float:
        """Learning-rate factor of a step: the stage's, with a warm-up and a decay in its last 40 percent."""
        stage = self.stage(step)
        first, end = self.borders[stage], self.borders[stage + 1]
        warm = min(1.0, (step - first + 1) / max(1.0, self.optim.warmup))
        decay = min(1.0, (end - step) / max(1.0, 0.4 * (end - first)))
        return self.rates[stage] * warm * max(decay, self.optim.floor)

    def without_zero(self) -> str:
        """Return why this training cannot run under DeepSpeed's ZeRO."""
        return "two networks are trained against each other, each with its own backward pass"


def puppet() -> SourceFilterRun:
    """The embedded default."""
    return SourceFilterRun(
        model=AudioVAEConfig.puppet_source_filter(),
        discriminator=DiscriminatorConfig.puppet(),
        steps=20_000,
        # Adam normalises gradients; with clipping by the common norm, one network would disturb the other.
        optim=Optim(lr=1.5e-3, betas=(0.9, 0.99), decay=0.01, warmup=100, floor=0.02, clip=math.inf),
        validate_every=500,
    )


def tiny() -> SourceFilterRun:
    """For tests: tiny networks; seconds."""
    few = dataclasses.replace(puppet(), model=AudioVAEConfig.tiny_source_filter(), steps=4, rows=4, heldout=2)
    few = dataclasses.replace(few, discriminator=DiscriminatorConfig.tiny(), frames=4, judged=2)
    return dataclasses.replace(few, spectra_from=0.25, adversary_from=0.5, log_every=1, validate_every=2)


PRESETS = {preset.__name__: preset for preset in (puppet, tiny)}


class Networks(nn.ModuleDict):
    """The autoencoder `vae` and the discriminators `discriminator`."""

    def __init__(self, run: SourceFilterRun) -> None:
        torch.manual_seed(run.seed)
        super().__init__({"vae": AudioVAE(run.model), "discriminator": Discriminator(run.discriminator)})


def crops(
    bank: WorldBank, frames: int, hop: int, each: list[torch.Generator], device: torch.device | str = "cpu"
) -> tuple[Tensor, Targets]:
    """Draw a crop of each generator: samples (B, hop frames) at -6 to 3 dB, and their targets."""
    rows, drawn = frames * hop // STEP, []
    for draws in each:
        clip = bank.clip_of(int(torch.randint(bank.rows, (), generator=draws)))
        slack = max(0, len(bank.features[clip]) - rows)
        pcm, found = bank.crop(clip, int(torch.randint(slack + 1, (), generator=draws)), rows)
        gain = float(torch.empty(()).uniform_(-6, 3, generator=draws)) * math.log(10) / 20
        found[:, 2:] += gain
        drawn.append((pcm * math.exp(gain), found))
    pcms, features = zip(*drawn, strict=True)
    return torch.stack(pcms).to(device), targets(torch.stack(features).to(device))


def seeds(each: list[torch.Generator]) -> Tensor:
    """Draw a seed of the noise for each generator, (B, 1)."""
    return torch.stack([torch.randint(2**31, (1,), generator=draws) for draws in each])


def draw_signal(decoder: SourceFilterDecoder, controls: Controls, each: list[torch.Generator]) -> Tensor:
    """Draw phases and noise, and make samples (B, n) from the controls of whole crops."""
    device = controls.log_f0.device
    cycles = torch.stack([torch.rand(1, generator=draws, dtype=torch.float64) for draws in each])
    state = SynthesisState(seed=seeds(each).to(device), cycles=cycles.to(device))
    return decoder.synthesizer(controls, state, last=True)


def regress(
    model: AudioVAE,
    loss: LevelLoss,
    run: SourceFilterRun,
    pcm: Tensor,
    wanted: Targets,
    each: list[torch.Generator],
) -> tuple[Controls, dict[str, Tensor]]:
    """Predict the controls of crops (B, samples) from noisy latents.

    Returns:
        The controls, and the weighted parts of the loss that need no signal.
    """
    encoder, decoder = model.encoder, model.decoder
    assert isinstance(encoder, SourceFilterEncoder)
    assert isinstance(decoder, SourceFilterDecoder)
    with bfloat16_autocast(pcm.device):
        hidden, logits = encoder.analyse(pcm)
        mean, log_std = model.bottleneck.posterior(hidden)
        latents = sample(mean, log_std, normal_like(mean, each)) + latent_noise(mean, run.latent_noise, each)
        controls, voicing = decoder.controls(model.bottleneck.hidden(latents))
    nats = divergence(mean, log_std)
    return controls, {
        "levels": loss(controls, wanted.harmonic, wanted.noise, wanted.voiced_halves),
        "pitch": 5 * pitch_loss(controls.log_f0, wanted.log_f0, wanted.voiced),
        "voicing": 0.2 * F.binary_cross_entropy_with_logits(voicing, wanted.voiced),
        "salience": 0.05 * salience_loss(logits, wanted.log_f0, wanted.voiced),
        "phase": 0.1 * controls.phase.abs().mean(),
        "kl": run.kl * nats[ranks.average(nats) > run.free_nats].sum(),
    }


def adversarial(
    engine: Engine, discriminator: nn.Module, run: SourceFilterRun, made: Tensor, real: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Add the gradient of the discriminators' loss.

    All crops are divided by the level of the real ones: the features of quiet speech would else be so small
    that the discriminators learn nothing.

    Args:
        engine: of the training.
        discriminator: all discriminators.
        run: the config.
        made, real: crops (B, n).

    Returns:
        The discriminators' loss, and the weighted parts of the autoencoder's loss.
    """
    level = real.square().mean(1, keepdim=True).sqrt().clamp(min=1e-3)
    made, real = made / level, real / level
    with bfloat16_autocast(made.device):
        goal, detached = discriminator(real), discriminator(made.detach())
    judged = least_squares(goal, 1.0) + least_squares(detached, 0.0)
    engine.backward(judged)
    discriminator.requires_grad_(False)  # the losses below train the autoencoder alone
    with bfloat16_autocast(made.device):
        fake = discriminator(made)
    discriminator.requires_grad_(True)
    return judged, {
        "adversarial": run.adversarial * least_squares(fake, 1.0),
        "matching": run.matching * feature_matching(fake, goal, relative=True),
    }


@torch.no_grad()
def validate(model: AudioVAE, run: SourceFilterRun, pcm: Tensor, wanted: Targets) -> dict[str, float]:
    """Encode and decode held-out crops and measure them.

    Args:
        model: the averaged autoencoder.
        run: the config.
        pcm: (B, samples) speech.
        wanted: what WORLD measured in it.

    Returns:
        heldout: mean difference of log-mel spectra, pitch included;
        heldout_cents: median pitch error where both find a voice;
        heldout_gross: share of these frames with an error above 20 %;
        heldout_voicing: share of frames whose voicing differs;
        heldout_nats, least_nats: KL divergence, in all and of the least used dimension;
        latent_std, posterior_std: mean standard deviations of the latents and of the posterior.
    """
    mean, log_std = model.posterior(pcm)
    assert isinstance(model.decoder, SourceFilterDecoder)
    controls, voicing = model.decoder.controls(model.bottleneck.hidden(mean))
    decoded, loss = model.decoder.synthesizer(controls), MelLoss(model.sample_rate, 480, 80).to(pcm.device)
    found, true = voicing > 0, wanted.voiced > 0.5
    error = (controls.log_f0 - wanted.log_f0).abs()[found & true]
    nats = divergence(mean, log_std)
    return {
        "heldout": float(loss(decoded, pcm)),
        "heldout_cents": float(error.median() * 1200 / math.log(2)) if len(error) else 0.0,
        "heldout_gross": float((error > math.log(1.2)).float().mean()) if len(error) else 0.0,
        "heldout_voicing": float((found != true).float().mean()),
        "heldout_nats": float(nats.sum()),
        "least_nats": float(nats.min()),
        "latent_std": float(mean.flatten(0, 1).std(0).mean()),
        "posterior_std": float(log_std.exp().mean()),
    }


def train(
    folder: Path,
    run: SourceFilterRun,
    banks: tuple[WorldBank, WorldBank],
    minutes: float = float("inf"),
    device: torch.device | str = "cpu",
) -> Engine:
    """Train until `run.steps` steps are done or the run has taken `minutes`; continues from the run folder.

    Args:
        folder: the run folder.
        run: the config.
        banks: speech to train on and to validate on.
        minutes: training time of the run, over all resumes.
        device: where to train.
    """
    networks = Networks(run).to(device)
    model, discriminator = networks["vae"], networks["discriminator"]
    assert isinstance(model, AudioVAE)
    assert isinstance(model.decoder, SourceFilterDecoder)
    optimiser, optim = optimiser_of(networks, run), run.optim
    engine = Engine(networks, optimiser, folder, run.factor, optim.clip, optim.ema, averaged="vae")
    level_loss = LevelLoss(model.sample_rate, *model.decoder.parts[:2]).to(device)
    spectra = LogSpectra(model.sample_rate).to(device)
    each = [generator(0, index) for index in range(run.heldout)]
    heldout = crops(banks[1], run.frames, model.hop, each, device)
    engine.load()
    write_record(folder, "audio_vae_source_filter", run, fingerprint(banks[0].pcm))
    for step in engine.steps(run.steps, minutes, run.save_seconds):
        stage = run.stage(step)
        each = [generator(run.seed, step, number) for number in ranks.own(run.rows_of(stage))]
        pcm, wanted = crops(banks[0], run.frames, model.hop, each, device)
        controls, parts = regress(model, level_loss, run, pcm, wanted, each)
        logged = {}
        if stage != REGRESSION:
            parts["levels"] = 0.5 * parts["levels"]
            controls = controls._replace(log_f0=wanted.log_f0)
            made = draw_signal(model.decoder, controls, each)
            with torch.no_grad():
                again = draw_signal(model.decoder, controls, each)
            parts["spectra"] = spectra.energy_distance(made, again, pcm)
        if stage == ADVERSARY:
            draws = generator(run.seed + 1, step)
            first = model.hop * int(torch.randint(run.frames - run.judged + 1, (), generator=draws))
            pair = (signal[:, first : first + model.hop * run.judged] for signal in (made, pcm))
            logged["judged"], losses = adversarial(engine, discriminator, run, *pair)
            parts |= losses
        engine.backward(torch.stack(list(parts.values())).sum())
        engine.step(pcm, **parts, **logged)
        if engine.step_count % run.log_every == 0:
            engine.log(stage=stage, **engine.means(), **engine.meter(run.rows_of(stage)))
        if engine.step_count % run.validate_every == 0 and ranks.rank() == 0:
            assert isinstance(engine.ema_module, AudioVAE)
            engine.log(**validate(engine.ema_module, run, *heldout))
    return engine


def optimiser_of(networks: Networks, run: SourceFilterRun) -> torch.optim.Optimizer:
    """Return one AdamW for both networks; the schedule multiplies the rates of both."""
    optim = run.optim
    groups = [
        {"params": list(networks["vae"].parameters()), "lr": optim.lr, "betas": optim.betas},
        {
            "params": list(networks["discriminator"].parameters()),
            "lr": run.discriminator_lr / run.rates[ADVERSARY],
            "betas": (0.8, 0.99),
        },
    ]
    return torch.optim.AdamW(groups, weight_decay=optim.decay)


def averaged(folder: Path) -> AudioVAE:
    """Return the averaged network of a run."""
    model = AudioVAE(read_model_config(folder, AudioVAEConfig, AudioVAEConfig.puppet_source_filter()))
    model.load_state_dict(averaged_weights(folder, "vae"))
    return model


def main() -> None:
    """Run the command line."""
    parser = argument_parser("audio_vae_source_filter", __doc__, PRESETS)
    with launch(parser) as (options, run, device):
        ranks.check_divisible(run.rows // 2)
        bank = Path(run.bank)
        banks = WorldBank(bank, "train"), WorldBank(bank, "heldout")
        train(options.run, run, banks, options.minutes, device)


if __name__ == "__main__":
    main()
