"""An unlimited corpus of talking clips. Clip i has the same text, speech, motion and face in every run."""

import argparse
import json
import multiprocessing
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talker.signals import announce, command, exit_on_signals, ignore_in_worker

if __name__ == "__main__":  # before imports that take seconds
    announce("puppet.corpus")

import numpy as np
from numpy.typing import NDArray

from puppet.mixes import Mix
from puppet.motion import MOTION, animate
from puppet.sentences import SPLITS, Split, sentence
from puppet.speech import PAUSE, Phoneme, Speech, speak
from puppet.speech_bank import FOLDER, SpeechBank
from puppet.voices import HELDOUT_VOICES, TRAIN_VOICES, VoiceParameters, voice
from talker.clock import FRAME_RATE, HOP, SAMPLE_RATE
from talker.progress import track

if TYPE_CHECKING:
    from puppet.render import Renderer

IDENTITIES: dict[Split, range] = {"train": range(20_000), "heldout": range(1_000_000, 1_002_000)}
VOICES: dict[Split, range] = {"train": TRAIN_VOICES, "heldout": HELDOUT_VOICES}  # of espeak
_IDLE_SHARE = 0.04  # of all clips
_PATCH = 4  # frames; the length of a clip is a multiple of it
_SEED_STRIDE = 100_000_000  # corpora of different seeds use different sentence indices


@dataclass(frozen=True)
class Clip:
    """One clip of T frames, T a multiple of 4.

    Attributes:
        index, split: where the clip is in the corpus.
        text: the words; empty in an idle clip.
        voice: who speaks; in an idle clip a voice that is not heard.
        identity: seed of the person (`puppet.face.identity`).
        pcm: (960 T,) float32 at 24 kHz.
        motion: (T, 24) float32 in the order of `puppet.motion.MOTION`.
        phonemes: with times in seconds from the start of the clip.
        idle: nobody speaks.
    """

    index: int
    split: Split
    text: str
    voice: Mix | VoiceParameters
    identity: int
    pcm: NDArray[np.float32]
    motion: NDArray[np.float32]
    phonemes: list[Phoneme]
    idle: bool

    def frames(self, size: int = 256, start: int = 0, stop: int | None = None) -> NDArray[np.uint8]:
        """Render frames start to stop (exclusive): (n, size, size, 3) uint8."""
        return self.renderer(size).frames(self.motion[start:stop])

    def renderer(self, size: int = 256) -> "Renderer":
        """Return a renderer of this clip's person for pictures of `size` x `size` pixels."""
        from puppet.face import identity
        from puppet.render import Renderer  # loads numba, which speech does not need

        return Renderer(identity(self.identity), size)


class Corpus:
    """The clips of one split, which speak with the teacher's speech from a bank.

    There is no last clip: the recordings of the bank are used again with other people, motion and silences.

    Attributes:
        speech: what identifies the speech.

    Raises:
        FileNotFoundError: there is no bank in the folder.
        ValueError: the split is unknown, or the bank is damaged or outdated.
    """

    def __init__(self, split: Split = "train", seed: int = 0, bank: Path = FOLDER) -> None:
        _check(split)
        self.split, self.seed, self.bank = split, seed, SpeechBank(bank, split)
        self.speech = self.bank.key

    def clip(self, index: int) -> Clip:
        """Return clip `index`: the same on every call, in any order and in any process.

        Raises ValueError for a negative index.
        """
        rng = _generator(self.seed, self.split, index)
        idle = bool(rng.random() < _IDLE_SHARE)
        identity = int(rng.choice(IDENTITIES[self.split]))
        spoken = self.bank[index % len(self.bank)]
        speech = _idle_speech(rng) if idle else _add_silences(spoken.speech(), rng, lengthen=0.0)
        text = "" if idle else spoken.text
        motion = animate(speech, rng)
        return Clip(
            index, self.split, text, spoken.voice, identity, speech.pcm, motion, speech.phonemes, idle
        )


class BenchCorpus:
    """The clips of one split, which espeak speaks, without a bank. Raises ValueError for an unknown split."""

    speech = "espeak"

    def __init__(self, split: Split = "train", seed: int = 0) -> None:
        _check(split)
        self.split, self.seed = split, seed

    def clip(self, index: int) -> Clip:
        """Return clip `index`: the same on every call, in any order and in any process.

        Raises ValueError for a negative index.
        """
        rng = _generator(self.seed, self.split, index)
        idle = bool(rng.random() < _IDLE_SHARE)
        speaker = voice(int(rng.choice(VOICES[self.split])))
        identity = int(rng.choice(IDENTITIES[self.split]))
        text = "" if idle else sentence(self.split, self.seed * _SEED_STRIDE + index)
        speech = _idle_speech(rng) if idle else _add_silences(speak(text, speaker), rng)
        motion = animate(speech, rng)
        return Clip(index, self.split, text, speaker, identity, speech.pcm, motion, speech.phonemes, idle)


def bench(split: Split = "train", seed: int = 0) -> BenchCorpus:
    """The first corpus, which espeak speaks: for tests, and for the bench of the relatives.

    Raises ValueError for an unknown split.
    """
    return BenchCorpus(split, seed)


def corpus(split: Split, bank: Path | str | None) -> Corpus | BenchCorpus:
    """The corpus that speaks from a bank; without a bank (None or "") the one of espeak. Errors as theirs."""
    return Corpus(split, bank=Path(bank)) if bank else bench(split)


def _check(split: Split) -> None:
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")


def _generator(seed: int, split: Split, index: int) -> np.random.Generator:
    if index < 0:
        raise ValueError(f"clip indices start at 0, got {index}")
    return np.random.default_rng([seed, SPLITS.index(split), index, 0xC11B])


def _idle_speech(rng: np.random.Generator) -> Speech:
    """Return 1.6 to 5 s without speech: digital silence, or faint noise."""
    patches = int(rng.integers(10, 32))
    samples = patches * _PATCH * HOP
    pcm = np.zeros(samples, np.float32) if rng.random() < 0.5 else _room_noise(samples, rng)
    return Speech(pcm, [Phoneme(PAUSE, 0.0, samples / SAMPLE_RATE)])


def _room_noise(samples: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return white noise (samples,) of -80 to -66 dB."""
    level = 10 ** (rng.uniform(-80, -66) / 20)
    return np.float32(level) * rng.standard_normal(samples, dtype=np.float32)


def _add_silences(speech: Speech, rng: np.random.Generator, lengthen: float = 0.15) -> Speech:
    """Add silence before (0.1 to 0.5 s) and after (0.1 to 0.6 s), and faint noise.

    `lengthen` is the share of pauses that become longer. The result is a whole number of patches long.
    """
    pieces: list[NDArray[np.float32]] = [np.zeros(round(rng.uniform(0.1, 0.5) * SAMPLE_RATE), np.float32)]
    phonemes = [Phoneme(PAUSE, 0.0, len(pieces[0]) / SAMPLE_RATE)]
    shift, copied = phonemes[0].end, 0
    for phoneme in speech.phonemes:
        phonemes.append(replace(phoneme, start=phoneme.start + shift, end=phoneme.end + shift))
        if phoneme.symbol == PAUSE and phoneme.end - phoneme.start > 0.12 and rng.random() < lengthen:
            extra = np.zeros(round(rng.uniform(0.1, 0.5) * SAMPLE_RATE), np.float32)
            cut = round((phoneme.start + phoneme.end) / 2 * SAMPLE_RATE)
            pieces += [speech.pcm[copied:cut], extra]
            copied, shift = cut, shift + len(extra) / SAMPLE_RATE
            phonemes[-1] = replace(phonemes[-1], end=phoneme.end + shift)
    pieces.append(speech.pcm[copied:])
    spoken = sum(map(len, pieces))
    patch = _PATCH * HOP
    total = -(-(spoken + round(rng.uniform(0.1, 0.44) * SAMPLE_RATE)) // patch) * patch
    pcm = np.concatenate([*pieces, np.zeros(total - spoken, np.float32)])
    phonemes.append(Phoneme(PAUSE, phonemes[-1].end, total / SAMPLE_RATE))
    if rng.random() < 0.7:
        pcm += _room_noise(total, rng)
    return Speech(pcm, phonemes)


def _clip(job: tuple[Split, int, int]) -> Clip:
    split, seed, index = job
    return bench(split, seed).clip(index)


def speech_clips(split: Split, seed: int, indices: Iterable[int], workers: int = 0) -> Iterator[Clip]:
    """Yield the clips of `indices`, which may be infinite, of the bench in that order.

    `workers` processes make up to four clips each in advance; with 0 this process makes every clip on demand.
    """
    jobs = ((split, seed, index) for index in indices)
    if workers == 0:
        yield from map(_clip, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, ignore_in_worker) as pool:
        pending: list[Any] = []
        for job in chain(jobs, [None] * (4 * workers)):
            if job is not None:
                pending.append(pool.apply_async(_clip, (job,)))
            if pending and (job is None or len(pending) > 4 * workers):
                yield pending.pop(0).get()


def write(clip: Clip, folder: Path, size: int = 256) -> None:
    """Write SPLIT-INDEX.mp4 (H.264, AAC), .wav (16 bit) and .json (text, phonemes, motion) into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{clip.split}-{clip.index:06d}"
    pcm = (clip.pcm * 32767).round().astype("<i2")
    _write_sound(folder / f"{stem}.wav", _tags(clip, picture=False), pcm)
    record = {
        "text": clip.text,
        "voice": asdict(clip.voice),
        "identity": clip.identity,
        "idle": clip.idle,
        "phonemes": [asdict(phoneme) for phoneme in clip.phonemes],
        "motion_names": MOTION,
        "motion": [[round(float(value), 4) for value in row] for row in clip.motion],
    }
    (folder / f"{stem}.json").write_text(json.dumps(record, ensure_ascii=False), encoding="utf-8")
    _write_video(folder / f"{stem}.mp4", _tags(clip, picture=True), clip.frames(size), pcm)


def _tags(clip: Clip, picture: bool) -> dict[str, str]:
    speaker = "eSpeak NG" if isinstance(clip.voice, VoiceParameters) else "Kokoro-82M"
    parts = [f"Speech: synthesised by {speaker}."] + ["Picture: rendered, no real person."] * picture
    return {
        "title": "AI-generated talking head",
        "comment": f"AI-generated by puppet.corpus. {' '.join(parts)}",
    }


def _write_video(path: Path, tags: dict[str, str], frames: NDArray[np.uint8], pcm: NDArray[np.int16]) -> None:
    import av

    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        container.metadata.update(tags)
        video = container.add_stream("libx264", rate=FRAME_RATE, options={"crf": "17", "preset": "veryfast"})
        video.width, video.height, video.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FRAME_RATE)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        _mux_sound(container, audio, pcm)


def _write_sound(path: Path, tags: dict[str, str], pcm: NDArray[np.int16]) -> None:
    import av

    with av.open(str(path), "w") as container:
        container.metadata.update(tags)
        _mux_sound(container, container.add_stream("pcm_s16le", rate=SAMPLE_RATE, layout="mono"), pcm)


def _mux_sound(container: Any, audio: Any, pcm: NDArray[np.int16]) -> None:
    import av

    sound = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
    sound.sample_rate, sound.pts, sound.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
    container.mux(audio.encode(sound))
    container.mux(audio.encode())


def main() -> None:
    """Write clips of the corpus as mp4, wav and json files."""
    parser = argparse.ArgumentParser(prog="python -m puppet.corpus", description=main.__doc__)
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--index", type=int, nargs="+", default=[0], help="indices of the clips")
    parser.add_argument("--size", type=int, default=256, help="width and height in pixels")
    parser.add_argument("--bank", type=Path, default=FOLDER, help="bank of speech, from puppet.speech_bank")
    parser.add_argument("--bench", action="store_true", help="speak by espeak, without a bank")
    parser.add_argument("-o", "--out", type=Path, required=True, help="output folder")
    arguments = parser.parse_args()
    try:
        clips: Corpus | BenchCorpus = (
            bench(arguments.split, arguments.seed)
            if arguments.bench
            else Corpus(arguments.split, arguments.seed, arguments.bank)
        )
    except (FileNotFoundError, ValueError) as error:
        parser.exit(2, f"{error}\n")
    with exit_on_signals(f"finished clips are kept in {arguments.out}; start again with: {command()}"):
        for index in track(arguments.index, "clips", len(arguments.index)):
            clip = clips.clip(index)
            write(clip, arguments.out, arguments.size)
            print(f"{clip.split} {clip.index}: {clip.text or '(idle)'}", flush=True)


if __name__ == "__main__":
    main()
