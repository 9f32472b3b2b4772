"""Everything that decides a training of the talker: presets as functions that return frozen run configs."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

from heads.config import TwoDiTHeadsConfig
from heads.solver import Sampling
from recipes.configs.run import Optim, Run
from talker.model.config import TalkerConfig
from talker.text.tokenizer import PhonemeTokenizer


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One step: `rows` clips over all ranks; on each at most `micro` seconds at a time, padding counted;
    `repeat` draws of a patch."""

    rows: int
    micro: float
    repeat: int

    def __post_init__(self) -> None:
        if self.rows < 1 or self.repeat < 1 or not self.micro > 0:
            raise ValueError("batch.rows and batch.repeat must be 1 or more, batch.micro above 0")


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Of the losses."""

    audio: float = 1.0
    motion: float
    stop: float
    forecast_audio: float = 0.0
    forecast_motion: float = 0.0
    reading: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Mix:
    """Shares of the tasks, and of A2V clips without their text; `speech_first`: the share of all steps, at
    the beginning, in which every clip that has a text is TTS, so that the voice is there before the face."""

    t2av: float
    tts: float
    a2v: float = 0.0
    v2a: float = 0.0
    without_text: float = 0.5
    speech_first: float = 0.0

    def __post_init__(self) -> None:
        if min(self.t2av, self.tts, self.a2v, self.v2a) < 0:
            raise ValueError("the mix's t2av, tts, a2v and v2a must be 0 or more")


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What the model is made to bear in training.

    Args:
        fed: most noise on fed-back patches, in deviations.
        read: how far a given motion may be from the true one, as an encoder reads it off a video.
        shake, memory: most deviation of a slot's place in text tokens, and how much of it stays.
    """

    fed: float = 0.0
    read: float = 0.0
    shake: float = 0.0
    memory: float = 0.7


@dataclass(frozen=True, kw_only=True)
class TalkerRun(Run):
    """A training of the talker.

    Args:
        model: the network.
        batch, weights, mix, noise: see there.
        sampling: how clips are drawn from these weights, in validation.
        zero: stage of ZeRO; 0 is the plain engine.
        precision: of the forward pass; weights and their updates are float32.
        recompute: keep a backbone layer's input alone and compute the rest again going backwards.
        clips, heldout: how many of the corpus.
        generate_every: steps after which clips are made, which takes seconds each; 0: never.
    """

    model: TalkerConfig
    batch: Batch
    weights: Weights
    mix: Mix
    noise: Noise
    sampling: Sampling
    zero: Literal[0, 1, 2, 3] = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    recompute: bool = False
    clips: int = 12_000
    heldout: int = 200
    validate_every: int = 500
    generate_every: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.generate_every < 0:
            raise ValueError("generate_every must be 0 (never) or more")

    def mix_at(self, step: int) -> Mix:
        """What a step trains."""
        speech = step < round(self.mix.speech_first * self.steps)
        return dataclasses.replace(self.mix, t2av=0, tts=1, a2v=0, v2a=0) if speech else self.mix

    def passes(self, ranks: int, seconds: float) -> int:
        """Forward passes on each of `ranks` for a step whose longest clip has so many seconds.

        Raises:
            ValueError: there are more ranks than rows to share.
        """
        if ranks > self.batch.rows:
            raise ValueError(f"{ranks} processes cannot share {self.batch.rows} clips; set batch.rows higher")
        together = max(1, int(self.batch.micro / seconds))
        return min(math.ceil(self.batch.rows / (ranks * together)), self.batch.rows // ranks)


def puppet() -> TalkerRun:
    """The embedded default: hours on one core, with the helps that a synthetic corpus can give."""
    return TalkerRun(
        model=TalkerConfig.puppet(PhonemeTokenizer().vocab_size),
        steps=8000,
        optim=Optim(lr=1e-3, betas=(0.9, 0.95), decay=0.01, warmup=200, schedule="fall"),
        batch=Batch(rows=16, micro=480, repeat=1),  # the release repeats 2; on a CPU more clips teach more
        weights=Weights(motion=1.0, stop=0.2, forecast_audio=1.0, forecast_motion=0.5, reading=0.5),
        mix=Mix(t2av=0.45, tts=0.20, a2v=0.20, v2a=0.15),
        noise=Noise(fed=0.3, read=0.6, shake=1.0),
        sampling=Sampling.puppet(),
    )


def paper() -> TalkerRun:
    """As the paper says it."""
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
    """As the public release does it."""
    found = paper()
    return dataclasses.replace(
        found,
        optim=dataclasses.replace(found.optim, warmup=0.1),
        weights=Weights(motion=10.0, stop=1.0),
        sampling=Sampling.release(),
    )


def tiny() -> TalkerRun:
    """For tests: seconds, on the corpus's latents."""
    found, model = puppet(), TalkerConfig.tiny()
    widths, voices = found.model.widths, found.model.global_widths
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
        model.backbone, vocab=found.model.backbone.vocab, max_positions=found.model.backbone.max_positions
    )
    return dataclasses.replace(
        found,
        model=dataclasses.replace(model, backbone=backbone, heads=small),
        steps=50,
        optim=dataclasses.replace(found.optim, warmup=5),
        batch=Batch(rows=8, micro=240, repeat=1),
        log_every=1,
        validate_every=25,
        generate_every=0,
    )


PRESETS = {preset.__name__: preset for preset in (puppet, paper, release, tiny)}
