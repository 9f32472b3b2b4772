"""Facial motion for synthetic speech: 24 values per video frame, computed from phoneme times and loudness.

The lips follow the dominance functions of Cohen and Massaro ("Modeling coarticulation in synthetic visual
speech", 1993): each articulator is a weighted mean of the targets of all phonemes, and the weight of a
phoneme (its dominance) rises before the phoneme and falls after it.
"""

import math

import numpy as np
from numpy.typing import NDArray

from puppet.speech import PAUSE, Phoneme, Speech
from talker.clock import FRAME_RATE, HOP

MOTION = (
    "yaw", "pitch", "roll", "shift_x", "shift_y", "scale",
    "jaw", "lip_width", "rounding", "closure", "lip_roll", "upper_lip", "lower_lip", "smile", "tongue",
    "lid_left", "lid_right", "gaze_x", "gaze_y", "brow_inner", "brow_outer", "brow_lower", "cheek", "breath",
)  # fmt: skip
"""Names of the values of a motion vector, in order.

The zero vector is a neutral frontal face with a closed, relaxed mouth and open eyes.
"""

LOW = np.array([-0.5] * 3 + [-0.15] * 3 + [0, -1] + [0] * 9 + [-1, -1] + [0] * 5, np.float32)
HIGH = np.array([0.5] * 3 + [0.15] * 3 + [1] * 18, np.float32)
INDEX = {name: index for index, name in enumerate(MOTION)}
_LIPS = ("jaw", "lip_width", "rounding", "lip_roll", "upper_lip", "lower_lip", "tongue")

# Per viseme: its phonemes; the targets of _LIPS; the dominance at the phoneme's middle; and the width in
# seconds of the dominance function before and after the phoneme.
_VISEMES: tuple[tuple[str, tuple[float, ...], float, float], ...] = (
    #                jaw  width round roll  upper lower tongue
    ("p b m",       (.06, .00, .00, .25, .00, .00, .00), 1.6, .06),
    ("f v",         (.10, .10, .00, .75, .30, .00, .00), 1.6, .06),
    ("θ ð",         (.20, .10, .00, .00, .25, .35, .90), 1.1, .06),
    ("t d n ɾ",     (.16, .15, .00, .00, .18, .28, .35), 0.6, .05),
    ("l",           (.32, .10, .00, .00, .20, .30, .75), 0.9, .06),
    ("s z",         (.07, .40, .00, .00, .30, .50, .10), 1.2, .06),
    ("ʃ ʒ tʃ dʒ",   (.11, -.35, .55, .00, .45, .55, .05), 1.3, .08),
    ("k ɡ ŋ",       (.29, .05, .00, .00, .12, .22, .00), 0.5, .05),
    ("h ʔ",         (.29, .00, .00, .00, .10, .15, .00), 0.25, .05),
    ("w",           (.10, -.75, .95, .00, .05, .05, .00), 1.4, .09),
    ("ɹ",           (.17, -.40, .55, .00, .20, .25, .10), 0.8, .07),
    ("j",           (.13, .50, .00, .00, .20, .30, .10), 0.7, .06),
    ("i",           (.18, .75, .00, .00, .25, .40, .05), 1.1, .08),
    ("ɪ",           (.34, .45, .00, .00, .20, .35, .05), 0.8, .07),
    ("eɪ",          (.44, .50, .00, .00, .22, .38, .00), 1.0, .08),
    ("ɛ",           (.59, .35, .00, .00, .20, .40, .00), 1.0, .08),
    ("æ",           (.81, .40, .00, .00, .25, .48, .00), 1.1, .09),
    ("aɪ",          (.85, .25, .00, .00, .20, .45, .00), 1.1, .09),
    ("ɑ",           (.98, .00, .00, .00, .15, .40, .00), 1.1, .09),
    ("aʊ",          (.90, .00, .20, .00, .15, .40, .00), 1.1, .09),
    ("ʌ",           (.61, .05, .00, .00, .15, .32, .00), 0.9, .08),
    ("ə ɐ",         (.37, .05, .00, .00, .12, .22, .00), 0.5, .06),
    ("ɜ ɚ",         (.33, -.30, .45, .00, .18, .25, .05), 0.9, .07),
    ("ɔ",           (.71, -.35, .60, .00, .10, .25, .00), 1.1, .09),
    ("ɔɪ",          (.59, -.40, .65, .00, .10, .25, .00), 1.1, .09),
    ("oʊ",          (.51, -.50, .80, .00, .08, .18, .00), 1.2, .09),
    ("ʊ",           (.32, -.45, .65, .00, .08, .15, .00), 1.0, .08),
    ("u",           (.16, -.70, .95, .00, .05, .08, .00), 1.3, .09),
    (PAUSE,         (.00, .00, .00, .00, .00, .00, .00), 0.9, .07),
)  # fmt: skip
_TABLE = {phone: row for row in _VISEMES for phone in row[0].split()}
# Diphthongs end in a second viseme.
_GLIDES = {"eɪ": "ɪ", "aɪ": "ɪ", "ɔɪ": "ɪ", "aʊ": "u", "oʊ": "u"}
_ANTICIPATION = 0.015  # seconds by which dominance is wider before a phoneme than after it


def animate(speech: Speech, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return motion (T, 24), float32, in the order of MOTION and between LOW and HIGH.

    T is samples // 960; frame t belongs to samples 960 t to 960 (t + 1). The lips depend on the phonemes, the
    loudness and one random articulation strength per clip. The head, the eyes, the brows and the smile are
    random, and partly follow stress and pauses.
    """
    frames = len(speech.pcm) // HOP
    times = (np.arange(frames) + 0.5) / FRAME_RATE
    loudness = _relative_loudness(speech.pcm, frames)
    motion = np.zeros((frames, len(MOTION)))
    speaking = _speech_activity(speech.phonemes, times)
    _lips(motion, speech.phonemes, times, loudness, rng.uniform(0.88, 1.12))
    _head(motion, speech.phonemes, times, speaking, rng)
    _eyes(motion, speech.phonemes, times, rng)
    _face(motion, speech.phonemes, times, speaking, rng)
    return np.clip(motion, LOW, HIGH).astype(np.float32)


def _relative_loudness(pcm: NDArray[np.float32], frames: int) -> NDArray[np.float64]:
    """Return the RMS of each frame (T,) relative to the 90th percentile of the clip, smoothed over 3 frames.

    Loud vowels have values near 1; the maximum is 1.3.
    """
    rms = np.sqrt((pcm[: frames * HOP].reshape(frames, -1).astype(np.float64) ** 2).mean(1))
    reference = max(float(np.percentile(rms, 90)) if frames else 0.0, 1e-2)
    return np.minimum(np.convolve(rms / reference, [0.25, 0.5, 0.25], "same"), 1.3)


def _speech_activity(phonemes: list[Phoneme], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 for frames of speech and 0 for frames of pauses of at least 0.2 s, low-pass filtered: (T,)."""
    result = np.zeros(len(times))
    for phoneme in phonemes:
        if phoneme.symbol != PAUSE or phoneme.end - phoneme.start < 0.2:
            result[(times >= phoneme.start) & (times < phoneme.end)] = 1
    return _gaussian_filter(result, 2.0)


def _gaussian_filter(values: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Filter values (T,) with a Gaussian of `sigma` frames; the first and last values extend the signal."""
    radius = math.ceil(3 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return np.convolve(np.pad(values, radius, "edge"), kernel / kernel.sum(), "valid")


def _segments(phonemes: list[Phoneme]) -> list[tuple[str, float, float, float]]:
    """Return (phoneme, start, end, factor of its targets) for each phoneme; a diphthong becomes two segments.

    The factor of a consonant is 1; the factor of a vowel depends on its stress.
    """
    result: list[tuple[str, float, float, float]] = []
    for phoneme in phonemes:
        strength = (
            (0.85, 0.95, 1.08)[phoneme.stress] if phoneme.symbol not in "ptkbdɡmnŋfvszʃʒθðlɹwjh" else 1.0
        )
        glide = _GLIDES.get(phoneme.symbol)
        middle = phoneme.start + 0.6 * (phoneme.end - phoneme.start) if glide else phoneme.end
        result.append((phoneme.symbol, phoneme.start, middle, strength))
        if glide:
            result.append((glide, middle, phoneme.end, strength))
    return result


def _lips(
    motion: NDArray[np.float64],
    phonemes: list[Phoneme],
    times: NDArray[np.float64],
    loudness: NDArray[np.float64],
    strength: float,
) -> None:
    """Write the mouth's columns of motion (T, 24) for frames at `times` (T,) with `loudness` (T,).

    `strength` is the articulation strength of the clip.
    """
    segments = _segments(phonemes)
    if not segments:
        return
    start, end = (np.array([s[k] for s in segments]) for k in (1, 2))
    rows = [_TABLE[s[0]] for s in segments]
    targets = np.array([row[1] for row in rows]) * np.array([s[3] for s in segments])[:, None]
    weight, reach = np.array([row[2] for row in rows]), np.array([row[3] for row in rows])
    # The distance in time from the middle half of each phoneme. Lips move ahead of the sound, so dominance
    # is wider before the phoneme, most of all for rounding.
    quarter = 0.25 * (end - start)
    before = np.maximum(start + quarter - times[:, None], 0)
    after = np.maximum(times[:, None] - (end - quarter), 0)
    for column, name in enumerate(_LIPS):
        early = _ANTICIPATION * (1.5 if name in ("rounding", "lip_width") else 1.0)
        distance = before / (0.6 * reach + early) + after / (0.6 * reach)
        dominance = weight * np.exp(-(distance**1.5)) + 1e-9
        motion[:, INDEX[name]] = dominance @ targets[:, column] / dominance.sum(1)
    motion[:, INDEX["jaw"]] *= strength * (0.72 + 0.28 * np.minimum(loudness, 1.1))
    for name in ("lip_width", "rounding", "upper_lip", "lower_lip"):
        motion[:, INDEX[name]] *= strength
    closure = _closures(phonemes, times)
    motion[:, INDEX["closure"]] = closure
    for name, keep in (("jaw", 0.25), ("upper_lip", 0.0), ("lower_lip", 0.0), ("tongue", 0.0)):
        motion[:, INDEX[name]] *= 1 - (1 - keep) * closure


def _closures(phonemes: list[Phoneme], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far the lips are pressed together (T,): 1 at the middle of every p, b and m.

    The value falls to 0 within 70 ms outside of the middle part of the phoneme.
    """
    result = np.zeros(len(times))
    for phoneme in phonemes:
        if phoneme.symbol in ("p", "b", "m"):
            half = max(0.021, 0.3 * (phoneme.end - phoneme.start))
            outside = np.maximum(np.abs(times - (phoneme.start + phoneme.end) / 2) - half, 0) / 0.07
            result = np.maximum(result, 0.5 + 0.5 * np.cos(np.pi * np.minimum(outside, 1)))
    return result


def _smooth_noise(
    rng: np.random.Generator, frames: int, amount: float, seconds: float
) -> NDArray[np.float64]:
    """Return low-pass noise (T,) of standard deviation `amount` and a correlation time of about `seconds`."""
    sigma = seconds * FRAME_RATE / 2
    pad = math.ceil(3 * sigma)
    noise = _gaussian_filter(rng.standard_normal(frames + 2 * pad), sigma)[pad : pad + frames]
    return amount * noise * math.sqrt(2 * math.sqrt(math.pi) * sigma)


def _raised_cosine(
    times: NDArray[np.float64], centre: float, rise: float, fall: float
) -> NDArray[np.float64]:
    """Return a raised cosine (T,): 1 at `centre`, 0 `rise` seconds before and `fall` seconds after it."""
    offset = times - centre
    x = np.where(offset < 0, offset / rise, offset / fall)
    return np.where(np.abs(x) < 1, 0.5 + 0.5 * np.cos(np.pi * np.clip(x, -1, 1)), 0.0)


def _head(
    motion: NDArray[np.float64],
    phonemes: list[Phoneme],
    times: NDArray[np.float64],
    speaking: NDArray[np.float64],
    rng: np.random.Generator,
) -> None:
    """Write the head's columns of motion: a constant pose per clip, slow drift, and nods on stressed vowels.

    One random activity level per clip scales the drift and the nods.
    """
    frames = len(times)
    activity = rng.uniform(0.4, 1.4)
    poses = (("yaw", 0.14, 0.09, 1.6), ("pitch", 0.07, 0.045, 1.4), ("roll", 0.05, 0.035, 1.8))
    offsets = (("shift_x", 0.035, 0.015, 2.0), ("shift_y", 0.03, 0.012, 2.0), ("scale", 0.04, 0.015, 2.5))
    for name, pose, drift, seconds in poses + offsets:
        gain = 0.5 + 0.5 * speaking if name in ("yaw", "pitch", "roll") else 1.0
        noise = _smooth_noise(rng, frames, drift * activity, seconds)
        motion[:, INDEX[name]] = np.clip(rng.normal(0, pose), -2 * pose, 2 * pose) + noise * gain
    pitch = motion[:, INDEX["pitch"]]
    for phoneme in phonemes:
        if phoneme.stress == 2 and rng.random() < 0.55:
            nod = rng.uniform(0.02, 0.06) * activity
            pitch -= nod * _raised_cosine(times, (phoneme.start + phoneme.end) / 2 + 0.04, 0.2, 0.32)
    motion[:, INDEX["yaw"]] += 0.25 * (pitch - pitch.mean()) * rng.normal(0, 1)
    for name, _, _, _ in poses:
        motion[:, INDEX[name]] = _gaussian_filter(motion[:, INDEX[name]], 1.2)


def _eyes(
    motion: NDArray[np.float64], phonemes: list[Phoneme], times: NDArray[np.float64], rng: np.random.Generator
) -> None:
    """Write the lids and the gaze: blinks at random times and at pauses, and fixations with saccades.

    The gaze mostly stays near the camera.
    """
    frames = len(times)
    if frames == 0:
        return
    lids = np.zeros(frames)
    starts = np.flatnonzero(rng.random(frames) < 0.28 / FRAME_RATE).tolist()
    pauses = [p for p in phonemes if p.symbol == PAUSE and p.end - p.start > 0.12]
    starts += [round((p.start + 0.06) * FRAME_RATE) for p in pauses if rng.random() < 0.35]
    last = -20
    for start in sorted(starts):
        if start - last >= 12:
            shape = _BLINKS[int(rng.integers(len(_BLINKS)))]
            stop = min(frames, start + len(shape))
            lids[start:stop] = np.maximum(lids[start:stop], shape[: max(stop - start, 0)])
            last = start
    rest = rng.uniform(0.0, 0.1)
    motion[:, INDEX["lid_left"]] = np.maximum(lids, rest)
    motion[:, INDEX["lid_right"]] = np.maximum(lids, rest)
    fixation = 0
    while fixation < frames:
        stop = fixation + int(rng.integers(12, 60))
        away = 0.35 if rng.random() < 0.2 else 0.06
        motion[fixation:stop, INDEX["gaze_x"]] = rng.normal(0, away)
        motion[fixation:stop, INDEX["gaze_y"]] = rng.normal(0, 0.6 * away)
        fixation = stop
    # The eyes turn against the head, so that they keep looking at the camera.
    motion[:, INDEX["gaze_x"]] -= 0.8 * motion[:, INDEX["yaw"]]
    motion[:, INDEX["gaze_y"]] -= 0.8 * motion[:, INDEX["pitch"]]


_BLINKS = tuple(
    np.array(shape)
    for shape in (
        (0.7, 1.0, 0.5),
        (0.5, 1.0, 0.8, 0.3),
        (0.5, 1.0, 1.0, 0.6, 0.2),
        (0.3, 0.9, 1.0, 0.9, 0.5, 0.2),
    )
)


def _face(
    motion: NDArray[np.float64],
    phonemes: list[Phoneme],
    times: NDArray[np.float64],
    speaking: NDArray[np.float64],
    rng: np.random.Generator,
) -> None:
    """Write the brows (raised on some stressed vowels), a smile or a frown, the cheeks and the breath."""
    frames = len(times)
    inner, outer = np.full(frames, rng.uniform(0, 0.12)), np.full(frames, rng.uniform(0, 0.12))
    for phoneme in phonemes:
        if phoneme.stress == 2 and rng.random() < 0.22:
            raised = rng.uniform(0.15, 0.6) * _raised_cosine(
                times, (phoneme.start + phoneme.end) / 2, 0.16, 0.35
            )
            inner, outer = np.maximum(inner, 0.7 * raised), np.maximum(outer, raised)
    smile = rng.uniform(0.1, 0.5) if rng.random() < 0.35 else rng.uniform(0, 0.08)
    frown = rng.uniform(0.1, 0.5) if smile < 0.1 and rng.random() < 0.25 else 0.0
    motion[:, INDEX["brow_inner"]] = inner * (1 - frown)
    motion[:, INDEX["brow_outer"]] = outer * (1 - frown)
    motion[:, INDEX["brow_lower"]] = np.maximum(
        frown + _smooth_noise(rng, frames, 0.03, 1.0) * (frown > 0), 0
    )
    smiling = smile * np.clip(1 + _smooth_noise(rng, frames, 0.25, 1.2), 0, 1.5)
    motion[:, INDEX["smile"]] = smiling * (1 - 0.5 * motion[:, INDEX["rounding"]]) * (1 - 0.35 * speaking)
    motion[:, INDEX["cheek"]] = 0.6 * motion[:, INDEX["smile"]]
    rate, phase = rng.uniform(0.22, 0.38), rng.uniform(0, 2 * math.pi)
    cycle = 0.5 - 0.5 * np.cos(2 * math.pi * rate * times + phase)
    motion[:, INDEX["breath"]] = rng.uniform(0.25, 0.8) * cycle
