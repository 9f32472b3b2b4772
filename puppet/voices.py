"""Random parameters of synthetic speakers: one speaker per seed."""

import math
from dataclasses import dataclass

import numpy as np

TRAIN_VOICES = range(768)
"""Seeds of the training split."""

HELDOUT_VOICES = range(10_000, 10_128)
"""Seeds of the held-out split."""

# Variants of espeak-ng that sound like a person: they do not clip, whisper or croak, and they pronounce the
# same phonemes as the default voice. Chosen by peak level, pitch and spectral centroid.
_LOW = ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "Alex", "Lee", "Mario", "Michael", "adam", "benjamin")
_MORE_LOW = ("boris", "klatt3", "max", "quincy", "rob", "robert", "travis")
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
_VARIANTS = _LOW + _MORE_LOW + _HIGH

# Speech of 22,050 Hz played at 22,050 k Hz has all its resonances scaled by k. With k = DOWN / 147, the ratio
# of resampling to 24 kHz is 160 / DOWN.
TRACT_UNIT = 147


@dataclass(frozen=True, kw_only=True)
class VoiceParameters:
    """One speaker.

    Attributes:
        seed: of the speaker.
        variant: name of an espeak-ng variant.
        pitch, range: mean pitch and pitch range on espeak's scale of 0 to 100; 50 is the variant's default.
        rate: words per minute.
        tract_down: all resonances are scaled by tract_down / 147.
        tilt: gain in dB above 2 kHz.
        presence, presence_hz: gain in dB and centre frequency of a broad peak.
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
        """Factor of all resonances; above 1 is a shorter vocal tract."""
        return self.tract_down / TRACT_UNIT

    @property
    def espeak_pitch(self) -> int:
        """espeak's pitch setting (0 to 99, 50 steps per octave) that gives `pitch` after the time scaling."""
        return round(min(99.0, max(0.0, self.pitch - 50 * math.log2(self.tract))))

    @property
    def espeak_rate(self) -> int:
        """espeak's speech rate in words per minute that gives `rate` after the time scaling."""
        return round(self.rate / self.tract)


def voice(seed: int) -> VoiceParameters:
    """Return the speaker of a seed, the same in every run.

    High-pitched variants get shorter vocal tracts on average, as in people.
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
