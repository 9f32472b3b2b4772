"""Speech -> how a face moves while saying it: 24 numbers a frame, made from phoneme times and prosody.

Lips follow dominance functions (Cohen and Massaro, "Modeling coarticulation in synthetic visual speech",
1993): every phone pulls each articulator towards its target with a weight that rises before the phone and
falls after it.
"""

import math

import numpy as np
from numpy.typing import NDArray

from puppet.speech import PAUSE, SAMPLE_RATE, Phoneme, Speech

MOTION = (
    "yaw", "pitch", "roll", "shift_x", "shift_y", "scale",
    "jaw", "lip_width", "rounding", "closure", "lip_roll", "upper_lip", "lower_lip", "smile", "tongue",
    "lid_left", "lid_right", "gaze_x", "gaze_y", "brow_inner", "brow_outer", "brow_lower", "cheek", "breath",
)  # fmt: skip
"""Order of a motion vector. Zero is a neutral frontal face, mouth closed and relaxed, eyes open."""

LOW = np.array([-0.5] * 3 + [-0.15] * 3 + [0, -1] + [0] * 9 + [-1, -1] + [0] * 5, np.float32)
HIGH = np.array([0.5] * 3 + [0.15] * 3 + [1] * 18, np.float32)
FRAME_RATE = 25
FRAME_SAMPLES = SAMPLE_RATE // FRAME_RATE
INDEX = {name: index for index, name in enumerate(MOTION)}
_LIPS = ("jaw", "lip_width", "rounding", "lip_roll", "upper_lip", "lower_lip", "tongue")

# Per viseme: phones; targets of _LIPS; dominance (how much the phone insists) and reach in seconds before
# and after.
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
# Diphthongs glide: the second half pulls towards another viseme.
_GLIDES = {"eɪ": "ɪ", "aɪ": "ɪ", "ɔɪ": "ɪ", "aʊ": "u", "oʊ": "u"}
_ANTICIPATION = 0.015  # seconds that a target reaches further ahead than back (rounding even more)


def animate(speech: Speech, rng: np.random.Generator) -> NDArray[np.float32]:
    """(T, 24) float32 motion within LOW and HIGH; frame t shows the sound of samples 960 t to 960 (t + 1).

    T = samples // 960. The lips are a function of phonemes and loudness and of one articulation strength
    per clip; head, eyes, brows and mood vary freely with `rng` around the prosody.
    """
    frames = len(speech.pcm) // FRAME_SAMPLES
    times = (np.arange(frames) + 0.5) / FRAME_RATE
    energy = _energy(speech.pcm, frames)
    motion = np.zeros((frames, len(MOTION)))
    speaking = _speaking(speech.phonemes, times)
    _lips(motion, speech.phonemes, times, energy, rng.uniform(0.88, 1.12))
    _head(motion, speech.phonemes, times, speaking, rng)
    _eyes(motion, speech.phonemes, times, rng)
    _face(motion, speech.phonemes, times, speaking, rng)
    return np.clip(motion, LOW, HIGH).astype(np.float32)


def _energy(pcm: NDArray[np.float32], frames: int) -> NDArray[np.float64]:
    """Loudness a frame relative to the clip's own speech, about 1 in strong vowels, smoothed over 3
    frames. (T,)"""
    rms = np.sqrt((pcm[: frames * FRAME_SAMPLES].reshape(frames, -1).astype(np.float64) ** 2).mean(1))
    strong = max(float(np.percentile(rms, 90)) if frames else 0.0, 1e-2)
    return np.minimum(np.convolve(rms / strong, [0.25, 0.5, 0.25], "same"), 1.3)


def _speaking(phonemes: list[Phoneme], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 inside speech, 0 in pauses of 0.2 s and more, with soft edges. (T,)"""
    result = np.zeros(len(times))
    for phoneme in phonemes:
        if phoneme.symbol != PAUSE or phoneme.end - phoneme.start < 0.2:
            result[(times >= phoneme.start) & (times < phoneme.end)] = 1
    return _smooth(result, 2.0)


def _smooth(values: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Gaussian filter along time (sigma in frames), edges held."""
    radius = math.ceil(3 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return np.convolve(np.pad(values, radius, "edge"), kernel / kernel.sum(), "valid")


def _segments(phonemes: list[Phoneme]) -> list[tuple[str, float, float, float]]:
    """(viseme phone, start, end, stress factor): diphthongs cut in two, unstressed vowels weaker."""
    result: list[tuple[str, float, float, float]] = []
    for one in phonemes:
        strength = (0.85, 0.95, 1.08)[one.stress] if one.symbol not in "ptkbdɡmnŋfvszʃʒθðlɹwjh" else 1.0
        glide = _GLIDES.get(one.symbol)
        middle = one.start + 0.6 * (one.end - one.start) if glide else one.end
        result.append((one.symbol, one.start, middle, strength))
        if glide:
            result.append((glide, middle, one.end, strength))
    return result


def _lips(
    motion: NDArray[np.float64],
    phonemes: list[Phoneme],
    times: NDArray[np.float64],
    energy: NDArray[np.float64],
    strength: float,
) -> None:
    segments = _segments(phonemes)
    if not segments:
        return
    start, end = (np.array([s[k] for s in segments]) for k in (1, 2))
    rows = [_TABLE[s[0]] for s in segments]
    targets = np.array([row[1] for row in rows]) * np.array([s[3] for s in segments])[:, None]
    weight, reach = np.array([row[2] for row in rows]), np.array([row[3] for row in rows])
    # Distance from the middle half of each phone, earlier times counted less: lips anticipate.
    quarter = 0.25 * (end - start)
    before = np.maximum(start + quarter - times[:, None], 0)
    after = np.maximum(times[:, None] - (end - quarter), 0)
    for column, name in enumerate(_LIPS):
        early = _ANTICIPATION * (1.5 if name in ("rounding", "lip_width") else 1.0)
        distance = before / (0.6 * reach + early) + after / (0.6 * reach)
        dominance = weight * np.exp(-(distance**1.5)) + 1e-9
        motion[:, INDEX[name]] = dominance @ targets[:, column] / dominance.sum(1)
    motion[:, INDEX["jaw"]] *= strength * (0.72 + 0.28 * np.minimum(energy, 1.1))
    for name in ("lip_width", "rounding", "upper_lip", "lower_lip"):
        motion[:, INDEX[name]] *= strength
    closure = _closures(phonemes, times)
    motion[:, INDEX["closure"]] = closure
    for name, keep in (("jaw", 0.25), ("upper_lip", 0.0), ("lower_lip", 0.0), ("tongue", 0.0)):
        motion[:, INDEX[name]] *= 1 - (1 - keep) * closure


def _closures(phonemes: list[Phoneme], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lips pressed for p, b and m: 1 in the frame that holds the phone's middle, gone 80 ms outside of it.
    (T,)"""
    result = np.zeros(len(times))
    for one in phonemes:
        if one.symbol in ("p", "b", "m"):
            half = max(0.021, 0.3 * (one.end - one.start))
            outside = np.maximum(np.abs(times - (one.start + one.end) / 2) - half, 0) / 0.07
            result = np.maximum(result, 0.5 + 0.5 * np.cos(np.pi * np.minimum(outside, 1)))
    return result


def _wander(rng: np.random.Generator, frames: int, amount: float, seconds: float) -> NDArray[np.float64]:
    """Smooth noise of standard deviation `amount` that forgets itself in about `seconds`. (T,)"""
    sigma = seconds * FRAME_RATE / 2
    pad = math.ceil(3 * sigma)
    noise = _smooth(rng.standard_normal(frames + 2 * pad), sigma)[pad : pad + frames]
    return amount * noise * math.sqrt(2 * math.sqrt(math.pi) * sigma)


def _bump(times: NDArray[np.float64], centre: float, rise: float, fall: float) -> NDArray[np.float64]:
    """A smooth hill of height 1 at `centre` that begins `rise` before and ends `fall` seconds after. (T,)"""
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
    """Pose of the clip, slow drift, nods on stressed syllables (livelier in lively clips)."""
    frames = len(times)
    lively = rng.uniform(0.4, 1.4)
    poses = (("yaw", 0.14, 0.09, 1.6), ("pitch", 0.07, 0.045, 1.4), ("roll", 0.05, 0.035, 1.8))
    offsets = (("shift_x", 0.035, 0.015, 2.0), ("shift_y", 0.03, 0.012, 2.0), ("scale", 0.04, 0.015, 2.5))
    for name, pose, drift, seconds in poses + offsets:
        active = 0.5 + 0.5 * speaking if name in ("yaw", "pitch", "roll") else 1.0
        wander = _wander(rng, frames, drift * lively, seconds)
        motion[:, INDEX[name]] = np.clip(rng.normal(0, pose), -2 * pose, 2 * pose) + wander * active
    pitch = motion[:, INDEX["pitch"]]
    for one in phonemes:
        if one.stress == 2 and rng.random() < 0.55:
            nod = rng.uniform(0.02, 0.06) * lively
            pitch -= nod * _bump(times, (one.start + one.end) / 2 + 0.04, 0.2, 0.32)
    motion[:, INDEX["yaw"]] += 0.25 * (pitch - pitch.mean()) * rng.normal(0, 1)
    for name, _, _, _ in poses:
        motion[:, INDEX[name]] = _smooth(motion[:, INDEX[name]], 1.2)


def _eyes(
    motion: NDArray[np.float64], phonemes: list[Phoneme], times: NDArray[np.float64], rng: np.random.Generator
) -> None:
    """Blinks (at random, and likely at pauses) and gaze that mostly stays on the viewer, with saccades."""
    frames = len(times)
    if frames == 0:
        return
    lids = np.zeros(frames)
    moments = np.flatnonzero(rng.random(frames) < 0.28 / FRAME_RATE).tolist()
    pauses = [p for p in phonemes if p.symbol == PAUSE and p.end - p.start > 0.12]
    moments += [round((p.start + 0.06) * FRAME_RATE) for p in pauses if rng.random() < 0.35]
    last = -20
    for moment in sorted(moments):
        if moment - last >= 12:
            shape = _BLINKS[int(rng.integers(len(_BLINKS)))]
            stop = min(frames, moment + len(shape))
            lids[moment:stop] = np.maximum(lids[moment:stop], shape[: max(stop - moment, 0)])
            last = moment
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
    # Eyes hold the viewer against the head's turning; about 0.7 rad of eye turn is gaze 1.
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
    """Brows on accents, a mood (smile or slight frown), cheeks, breath."""
    frames = len(times)
    inner, outer = np.full(frames, rng.uniform(0, 0.12)), np.full(frames, rng.uniform(0, 0.12))
    for one in phonemes:
        if one.stress == 2 and rng.random() < 0.22:
            raised = rng.uniform(0.15, 0.6) * _bump(times, (one.start + one.end) / 2, 0.16, 0.35)
            inner, outer = np.maximum(inner, 0.7 * raised), np.maximum(outer, raised)
    smile = rng.uniform(0.1, 0.5) if rng.random() < 0.35 else rng.uniform(0, 0.08)
    frown = rng.uniform(0.1, 0.5) if smile < 0.1 and rng.random() < 0.25 else 0.0
    motion[:, INDEX["brow_inner"]] = inner * (1 - frown)
    motion[:, INDEX["brow_outer"]] = outer * (1 - frown)
    motion[:, INDEX["brow_lower"]] = np.maximum(frown + _wander(rng, frames, 0.03, 1.0) * (frown > 0), 0)
    mood = smile * np.clip(1 + _wander(rng, frames, 0.25, 1.2), 0, 1.5)
    motion[:, INDEX["smile"]] = mood * (1 - 0.5 * motion[:, INDEX["rounding"]]) * (1 - 0.35 * speaking)
    motion[:, INDEX["cheek"]] = 0.6 * motion[:, INDEX["smile"]]
    rate, phase = rng.uniform(0.22, 0.38), rng.uniform(0, 2 * math.pi)
    cycle = 0.5 - 0.5 * np.cos(2 * math.pi * rate * times + phase)
    motion[:, INDEX["breath"]] = rng.uniform(0.25, 0.8) * cycle
