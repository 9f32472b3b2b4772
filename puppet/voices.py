"""Voices drawn by parameters: every seed is one distinct synthetic speaker."""

import math
from dataclasses import dataclass

import numpy as np

TRAIN_VOICES = range(768)
"""Voice seeds of the training split."""

HELDOUT_VOICES = range(10_000, 10_128)
"""Voice seeds that training never hears."""

# Variants of espeak-ng that neither clip, whisper, croak nor sound like a machine on purpose (measured: peak,
# pitch, spectral centroid, and the same phonemes as the plain voice).
_LOW = ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "Alex", "Lee", "Mario", "Michael", "adam", "benjamin")
_LOW_TOO = ("boris", "klatt3", "max", "quincy", "rob", "robert", "travis")
_HIGH = (
    "f1",
    "f2",
    "f3",
    "f4",
    "f5",
    "Alicia",
    "Annie",
    "Andrea",
    "aunty",
    "belinda",
    "linda",
    "grandma",
    "shelby",
)
_VARIANTS = _LOW + _LOW_TOO + _HIGH

# Playing 22,050 Hz speech at 22,050 k Hz scales all resonances by k. With k = DOWN / 147 the way to 24 kHz
# is the small fraction 160 / DOWN.
TRACT_UNIT = 147


@dataclass(frozen=True, kw_only=True)
class VoiceParameters:
    """One speaker.

    Attributes: `variant` of espeak-ng; `pitch` and `range` on espeak's scale (0-100, 50 is the variant's
    own); `rate` in words a minute; `tract_down`: resonances are scaled by tract_down / 147; `tilt`: dB
    that the spectrum above 2 kHz is raised by; `presence`: dB of a broad peak at `presence_hz`.
    """

    seed: int
    variant: str
    pitch: int
    range: int
    rate: int
    tract_down: int
    tilt: float
    presence: float
    presence_hz: float

    @property
    def tract(self) -> float:
        """Scale of the resonances: above 1 a shorter vocal tract."""
        return self.tract_down / TRACT_UNIT

    @property
    def espeak_pitch(self) -> int:
        """espeak's pitch such that the pitch after tract scaling is `pitch` (its scale doubles every 50
        steps)."""
        return round(min(99.0, max(0.0, self.pitch - 50 * math.log2(self.tract))))

    @property
    def espeak_rate(self) -> int:
        """espeak's rate such that the rate after tract scaling is `rate`."""
        return round(self.rate / self.tract)


def voice(seed: int) -> VoiceParameters:
    """The speaker of that seed, the same in every run.

    High variants get shorter tracts more often than low ones, as people do.
    """
    rng = np.random.default_rng([seed, 0x701CE])
    variant = _VARIANTS[int(rng.integers(len(_VARIANTS)))]
    low, high = (134, 158) if variant in _HIGH else (130, 155)
    return VoiceParameters(
        seed=seed,
        variant=variant,
        pitch=int(rng.integers(28, 69)),
        range=int(rng.integers(30, 71)),
        rate=int(rng.integers(130, 191)),
        tract_down=int(rng.integers(low, high + 1)),
        tilt=float(np.round(rng.uniform(-6, 5), 2)),
        presence=float(np.round(rng.uniform(-4, 5), 2)),
        presence_hz=float(np.round(rng.uniform(900, 4200))),
    )
