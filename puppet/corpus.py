"""Talking clips without end: sentence, voice, sound, motion and person of item i, the same in every run."""

import argparse
import json
import multiprocessing
import wave
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puppet.motion import FRAME_RATE, FRAME_SAMPLES, MOTION, animate
from puppet.sentences import SPLITS, Split, sentence
from puppet.speech import PAUSE, SAMPLE_RATE, Phoneme, Speech, speak
from puppet.voices import HELDOUT_VOICES, TRAIN_VOICES, VoiceParameters, voice

IDENTITIES: dict[Split, range] = {"train": range(20_000), "heldout": range(1_000_000, 1_002_000)}
VOICES: dict[Split, range] = {"train": TRAIN_VOICES, "heldout": HELDOUT_VOICES}
_IDLE_SHARE = 0.04
_PATCH = 4  # frames: a clip is a whole number of patches long
_SEED_STRIDE = 100_000_000  # sentences of different seeds do not overlap


@dataclass(frozen=True)
class Clip:
    """`pcm`: (960 T,) float32 at 24 kHz; `motion`: (T, 24) float32, T a multiple of 4; times of `phonemes`
    in seconds of the clip; `identity`: seed of the person; `idle`: nothing is said (empty text)."""

    index: int
    split: Split
    text: str
    voice: VoiceParameters
    identity: int
    pcm: NDArray[np.float32]
    motion: NDArray[np.float32]
    phonemes: list[Phoneme]
    idle: bool

    def frames(self, size: int = 256, start: int = 0, stop: int | None = None) -> NDArray[np.uint8]:
        """Rendered frames [start, stop): (n, size, size, 3)."""
        from puppet.face import identity
        from puppet.render import Renderer

        return Renderer(identity(self.identity), size=size).frames(self.motion[start:stop])


class Corpus:
    """Clips by number. Raises ValueError for an unknown split."""

    def __init__(self, split: Split = "train", seed: int = 0) -> None:
        if split not in SPLITS:
            raise ValueError(f"There is no split {split!r}: choose one of {', '.join(SPLITS)}.")
        self.split, self.seed = split, seed

    def clip(self, index: int) -> Clip:
        """Clip `index` >= 0: the same samples and motion on every call, in any order, in any process."""
        if index < 0:
            raise ValueError(f"Clip numbers start at 0, not {index}.")
        rng = np.random.default_rng([self.seed, SPLITS.index(self.split), index, 0xC11B])
        idle = bool(rng.random() < _IDLE_SHARE)
        speaker = voice(int(rng.choice(VOICES[self.split])))
        identity = int(rng.choice(IDENTITIES[self.split]))
        text = "" if idle else sentence(self.split, self.seed * _SEED_STRIDE + index)
        speech = _silence(rng) if idle else _stage(speak(text, speaker), rng)
        motion = animate(speech, rng)
        return Clip(index, self.split, text, speaker, identity, speech.pcm, motion, speech.phonemes, idle)


def _silence(rng: np.random.Generator) -> Speech:
    """A person who waits 1.5 to 5 s; digital silence or a faint room."""
    patches = int(rng.integers(10, 32))
    samples = patches * _PATCH * FRAME_SAMPLES
    pcm = np.zeros(samples, np.float32) if rng.random() < 0.5 else _room(samples, rng)
    return Speech(pcm, [Phoneme(PAUSE, 0.0, samples / SAMPLE_RATE)])


def _room(samples: int, rng: np.random.Generator) -> NDArray[np.float32]:
    level = 10 ** (rng.uniform(-80, -66) / 20)
    return np.float32(level) * rng.standard_normal(samples, dtype=np.float32)


def _stage(speech: Speech, rng: np.random.Generator) -> Speech:
    """Silence before (0.1-0.5 s) and after (0.1-0.6 s), some pauses drawn out, a faint room, whole
    patches."""
    pieces: list[NDArray[np.float32]] = [np.zeros(round(rng.uniform(0.1, 0.5) * SAMPLE_RATE), np.float32)]
    phonemes = [Phoneme(PAUSE, 0.0, len(pieces[0]) / SAMPLE_RATE)]
    shift, read = phonemes[0].end, 0
    for one in speech.phonemes:
        stop = one.end
        phonemes.append(replace(one, start=one.start + shift, end=one.end + shift))
        if one.symbol == PAUSE and one.end - one.start > 0.12 and rng.random() < 0.15:
            extra = np.zeros(round(rng.uniform(0.1, 0.5) * SAMPLE_RATE), np.float32)
            cut = round((one.start + one.end) / 2 * SAMPLE_RATE)
            pieces += [speech.pcm[read:cut], extra]
            read, shift = cut, shift + len(extra) / SAMPLE_RATE
            phonemes[-1] = replace(phonemes[-1], end=stop + shift)
    pieces.append(speech.pcm[read:])
    spoken = sum(map(len, pieces))
    patch = _PATCH * FRAME_SAMPLES
    total = -(-(spoken + round(rng.uniform(0.1, 0.44) * SAMPLE_RATE)) // patch) * patch
    pcm = np.concatenate([*pieces, np.zeros(total - spoken, np.float32)])
    phonemes.append(Phoneme(PAUSE, phonemes[-1].end, total / SAMPLE_RATE))
    if rng.random() < 0.7:
        pcm += _room(total, rng)
    return Speech(pcm, phonemes)


def _clip(job: tuple[Split, int, int]) -> Clip:
    split, seed, index = job
    return Corpus(split, seed).clip(index)


def speech_clips(split: Split, seed: int, indices: Iterable[int], workers: int = 0) -> Iterator[Clip]:
    """Clips in the order of `indices` (which may be endless), made ahead by `workers` processes (0: in
    this one)."""
    jobs = ((split, seed, index) for index in indices)
    if workers == 0:
        yield from map(_clip, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers) as pool:
        waiting: list[Any] = []
        for job in chain(jobs, [None] * (4 * workers)):
            if job is not None:
                waiting.append(pool.apply_async(_clip, (job,)))
            if waiting and (job is None or len(waiting) > 4 * workers):
                yield waiting.pop(0).get()


def write(clip: Clip, folder: Path, size: int = 256) -> None:
    """Write NNNNNN.mp4 (H.264, AAC), .wav (16 bit) and .json (text, voice, phonemes, motion) into
    `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{clip.split}-{clip.index:06d}"
    pcm = (clip.pcm * 32767).round().astype("<i2")
    with wave.open(str(folder / f"{stem}.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(pcm.tobytes())
    record = {
        "text": clip.text,
        "voice": asdict(clip.voice),
        "identity": clip.identity,
        "idle": clip.idle,
        "phonemes": [asdict(one) for one in clip.phonemes],
        "motion_names": MOTION,
        "motion": [[round(float(value), 4) for value in row] for row in clip.motion],
    }
    (folder / f"{stem}.json").write_text(json.dumps(record, ensure_ascii=False), encoding="utf-8")
    _write_video(folder / f"{stem}.mp4", clip.frames(size), pcm)


def _write_video(path: Path, frames: NDArray[np.uint8], pcm: NDArray[np.int16]) -> None:
    import av

    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        video = container.add_stream("libx264", rate=FRAME_RATE, options={"crf": "17", "preset": "veryfast"})
        video.width, video.height, video.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FRAME_RATE)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        sound = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        sound.sample_rate, sound.pts, sound.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
        container.mux(audio.encode(sound))
        container.mux(audio.encode())


def main() -> None:
    """Write clips for inspection."""
    parser = argparse.ArgumentParser(prog="python -m puppet.corpus", description=main.__doc__)
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--index", type=int, nargs="+", default=[0], help="numbers of the clips")
    parser.add_argument("--size", type=int, default=256, help="pixels a side")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder to write to")
    arguments = parser.parse_args()
    for index in arguments.index:
        clip = Corpus(arguments.split, arguments.seed).clip(index)
        write(clip, arguments.out, arguments.size)
        print(f"{clip.split} {clip.index}: {clip.text or '(idle)'}")


if __name__ == "__main__":
    main()
