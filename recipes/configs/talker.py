"""The config of a talker training, and its presets: functions that return a frozen `TalkerRun`."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

from heads.config import TwoDiTHeadsConfig
from heads.sampling import Sampling
from recipes.configs.run import Optim, Run
from talker.model.config import TalkerConfig
from talker.text.tokenizer import PhonemeTokenizer


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The batch of one step.

    Args:
        rows: clips in a step, over all ranks.
        micro: longest forward pass of a rank, in seconds of clips, padding included.
        repeat: draws of the flow-matching loss for each patch.
    """

    rows: int
    micro: float
    repeat: int

    def __post_init__(self) -> None:
        if self.rows < 1 or self.repeat < 1 or not self.micro > 0:
            raise ValueError("batch.rows and batch.repeat must be 1 or more, batch.micro above 0")


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Weights of the parts of the loss."""

    audio: float = 1.0
    motion: float
    stop: float
    forecast_audio: float = 0.0
    forecast_motion: float = 0.0
    reading: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Mix:
    """How often each task is drawn.

    Args:
        t2av, tts, a2v, v2a: shares of the tasks; they need not sum to 1.
        without_text: share of A2V samples whose text is left out.
        speech_first: share of all steps, at the beginning, in which every clip that has a text is a TTS
            sample: the model learns to speak before it learns to move.
    """

    t2av: float
    tts: float
    a2v: float = 0.0
    v2a: float = 0.0
    without_text: float = 0.5
    speech_first: float = 0.0

    def __post_init__(self) -> None:
        if min(self.t2av, self.tts, self.a2v, self.v2a) < 0:
            raise ValueError("mix.t2av, mix.tts, mix.a2v and mix.v2a must be 0 or more")


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Noise on the inputs of the model in training.

    Args:
        feedback: largest noise on latents that are fed back, in standard deviations.
        motion: largest error of a given motion, as a motion encoder would make it, in standard deviations.
        position: largest standard deviation of the jitter of text positions, in tokens.
        correlation: correlation of that jitter between neighbouring patches.
    """

    feedback: float = 0.0
    motion: float = 0.0
    position: float = 0.0
    correlation: float = 0.7


@dataclass(frozen=True, kw_only=True)
class TalkerRun(Run):
    """A training of the talker.

    Args:
        model: the network.
        batch, weights, mix, noise: see their classes.
        sampling: how clips are generated in validation.
        precision: of the forward pass; weights and their updates are float32.
        recompute: gradient checkpointing: keep only the input of each backbone layer for the backward pass.
        bank: folder of the bank of speech that the corpus speaks from; empty for espeak.
        clips, heldout: clips of the corpus to train on and to validate on.
        generate_every: steps between two generations of sample clips, which take seconds each; 0: never.
    """

    model: TalkerConfig
    batch: Batch
    weights: Weights
    mix: Mix
    noise: Noise
    sampling: Sampling
    precision: Literal["float32", "bfloat16"] = "float32"
    recompute: bool = False
    bank: str = "runs/speech"
    clips: int = 12_000
    heldout: int = 200
    validate_every: int = 500
    generate_every: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.generate_every < 0:
            raise ValueError("generate_every must be 0 (never) or more")

    def mix_at(self, step: int) -> Mix:
        """Return the mix of a step, counted from 0."""
        speech = step < round(self.mix.speech_first * self.steps)
        return dataclasses.replace(self.mix, t2av=0, tts=1, a2v=0, v2a=0) if speech else self.mix

    def passes(self, ranks: int, seconds: float) -> int:
        """Return the number of forward passes of each rank in a step.

        Args:
            ranks: number of processes.
            seconds: length of the longest clip of the step.

        Raises:
            ValueError: there are more ranks than rows.
        """
        if ranks > self.batch.rows:
            raise ValueError(f"{ranks} processes cannot share {self.batch.rows} clips: set batch.rows higher")
        together = max(1, int(self.batch.micro / seconds))
        return min(math.ceil(self.batch.rows / (ranks * together)), self.batch.rows // ranks)


def puppet() -> TalkerRun:
    """The embedded default: hours on one core, with the auxiliary losses that a synthetic corpus allows."""
    return TalkerRun(
        model=TalkerConfig.puppet(PhonemeTokenizer().vocab_size),
        steps=8000,
        optim=Optim(lr=1e-3, betas=(0.9, 0.95), decay=0.01, warmup=200, schedule="fall"),
        batch=Batch(rows=16, micro=480, repeat=1),  # the release repeats 2; on a CPU more clips are better
        weights=Weights(motion=1.0, stop=0.2, forecast_audio=1.0, forecast_motion=0.5, reading=0.5),
        mix=Mix(t2av=0.45, tts=0.20, a2v=0.20, v2a=0.15),
        noise=Noise(feedback=0.3, motion=0.6, position=1.0),
        sampling=Sampling.puppet(),
    )


def paper() -> TalkerRun:
    """The training that the paper describes."""
    return TalkerRun(
        model=TalkerConfig.base(),
        steps=200_000,
        optim=Optim(lr=1e-4, betas=(0.9, 0.95), decay=0.01, warmup=0.03),
        batch=Batch(rows=256, micro=240, repeat=2),
        weights=Weights(motion=8.0, stop=1.0),
        mix=Mix(t2av=0.5, tts=0.5),
        noise=Noise(),
        sampling=Sampling.paper(),
        precision="bfloat16",
        zero=1,
        generate_every=5000,
        save_seconds=1200.0,
    )


def release() -> TalkerRun:
    """The training of the public release."""
    run = paper()
    return dataclasses.replace(
        run,
        optim=dataclasses.replace(run.optim, warmup=0.1),
        weights=Weights(motion=10.0, stop=1.0),
        sampling=Sampling.release(),
    )


def tiny() -> TalkerRun:
    """For tests: a tiny model with the widths of the corpus's latents; seconds."""
    run, model = puppet(), TalkerConfig.tiny()
    widths, voices = run.model.widths, run.model.global_widths
    small = TwoDiTHeadsConfig.both(
        audio=(widths["audio"], voices["audio"]),
        motion=(widths["motion"], voices["motion"]),
        hidden_width=model.backbone.width,
        width=64,
        layers=2,
        heads=2,
        ffn=128,
    )
    backbone = dataclasses.replace(
        model.backbone, vocab=run.model.backbone.vocab, max_positions=run.model.backbone.max_positions
    )
    return dataclasses.replace(
        run,
        model=dataclasses.replace(model, backbone=backbone, heads=small),
        steps=50,
        optim=dataclasses.replace(run.optim, warmup=5),
        batch=Batch(rows=8, micro=240, repeat=1),
        bank="",
        log_every=1,
        validate_every=25,
        generate_every=0,
    )


PRESETS = {preset.__name__: preset for preset in (puppet, paper, release, tiny)}
