"""A bank of the teacher's speech on disk: samples and phone times of many clips.

    python -m puppet.teacher                                   # once: fetches the teacher
    python -m puppet.speech_bank runs/speech --hours 6
    python -m puppet.speech_bank runs/speech --hours .5 --split heldout

OUT/SPLIT holds two files for every 64 clips: NNNNN.npy, the samples, and NNNNN.json, what was said. Clip i of
a split and a seed is the same in every run on one machine. An interrupted command continues when it is run
again.
"""

import argparse
import hashlib
import itertools
import json
import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from talker.signals import announce, command, exit_on_signals

if __name__ == "__main__":  # before imports that take seconds
    announce("puppet.speech_bank")

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly
from tqdm import tqdm

from puppet.mixes import SHIPPED, Mix, mixes, voices
from puppet.sentences import SPLITS, Split, text
from puppet.speech import Phoneme, Speech, frame_levels, normalise_loudness
from puppet.teacher import FOLDER as TEACHER
from puppet.teacher import FRAME, Speaker, Teacher, Utterance, pins
from puppet.timing import phone_times
from talker.clock import SAMPLE_RATE
from talker.text.tokenizer import PhonemeTokenizer

FOLDER = Path("runs/speech")
SHARD = 64  # clips per file
_VERSION = 1  # of this file's rules: raised when the same text and voice give other samples
_ASSETS = ("common.txt", "lexicon.txt", "lines.txt", "mixes.txt", "templates.txt")
_READ = 300  # texts of each split whose readings are part of the key
_SEED_STRIDE = 100_000_000  # banks of different seeds have different texts
_SHIPPED_SHARE = 0.1  # of all training clips are spoken by the shipped voices
_SPEEDS = (0.85, 1.2)
_MARGIN = 0.1  # seconds of silence kept before and after the speech


class Talking(Protocol):
    """What speaks: `puppet.teacher.Teacher`, or a stand-in of the tests."""

    def speak(self, tokens: list[str], speaker: Speaker, speed: float) -> Utterance: ...


@dataclass(frozen=True)
class Record:
    """One clip of a bank.

    Attributes:
        text: the words.
        voice: who speaks.
        speed: factor of the voice's own rate.
        tokens: what the teacher read: phones, word boundaries " " and marks.
        bounds: (tokens + 1,) samples where the tokens start and where the last one ends, by the teacher's
            durations.
        pcm: (samples,) int16 at 24 kHz.
    """

    text: str
    voice: Mix
    speed: float
    tokens: list[str]
    bounds: list[int]
    pcm: NDArray[np.int16]

    @property
    def phones(self) -> list[str]:
        """The tokens without word boundaries and marks."""
        return [token for token in self.tokens if any(map(str.isalpha, token))]

    def samples(self) -> NDArray[np.float32]:
        """Samples in [-1, 1]."""
        return self.pcm.astype(np.float32) / np.float32(32768)

    def phonemes(self) -> list[Phoneme]:
        """Phones and pauses with their times; see `puppet.timing`."""
        return phone_times(self.tokens, self.bounds, self.samples(), self.voice.tract)

    def speech(self) -> Speech:
        """Samples in [-1, 1] and phones with their times."""
        return Speech(self.samples(), self.phonemes())


@cache
def key() -> str:
    """16 digits that identify what a bank depends on: readings of texts, teacher, voices and texts.

    The text frontend is represented by the tokens of the first texts of each split, so that a change of its
    code that leaves the corpus's readings as they are leaves a bank valid. The first call takes about 1 s.
    """
    digest = hashlib.sha256(f"{_VERSION}\n{pins()}\n".encode())
    for name in _ASSETS:
        digest.update((Path(__file__).with_name("assets") / name).read_bytes())
    for split, index in itertools.product(SPLITS, range(_READ)):
        digest.update("".join([*tokens_of(text(split, index)), "\n"]).encode())
    return digest.hexdigest()[:16]


@cache
def _tokenizer() -> PhonemeTokenizer:
    return PhonemeTokenizer()


def tokens_of(text: str) -> list[str]:
    """Phones with stress marks, word boundaries " " and marks , . ? ! of a text.

    Raises:
        UserError: the text has nothing to say.
    """
    tokenizer = _tokenizer()
    return [tokenizer.decode([index]).strip() or " " for index in tokenizer.encode(text)]


def speak(teacher: Talking, text: str, voice: Mix, speed: float = 1.0) -> Record:
    """Speak a text. Silence before and after the speech is cut to 0.1 s.

    Raises:
        UserError: the text has nothing to say.
        ValueError: a word has no pronunciation, or the text is too long.
    """
    tokens = tokens_of(text)
    spoken = teacher.speak(tokens, voice, speed / voice.tract)
    # Played faster by the factor `tract`, the speech has all its resonances scaled by it.
    pcm = resample_poly(spoken.pcm.astype(np.float64), 100, voice.tract_percent)
    pcm = normalise_loudness(pcm)
    bounds = np.cumsum([spoken.lead, *spoken.durations]) * FRAME / voice.tract
    start, stop = _extent(pcm)
    samples = (pcm[start:stop] * 32767).round().astype(np.int16)
    return Record(text, voice, speed, tokens, [round(float(b)) - start for b in bounds], samples)


def _extent(pcm: NDArray[np.float32]) -> tuple[int, int]:
    """First and last (exclusive) sample of the speech with its margins."""
    hop = SAMPLE_RATE // 100
    loud = np.flatnonzero(frame_levels(pcm, hop) > -45)
    margin = round(_MARGIN * SAMPLE_RATE)
    if not len(loud):
        return 0, len(pcm)
    return max(0, int(loud[0]) * hop - margin), min(len(pcm), (int(loud[-1]) + 1) * hop + margin)


def record(teacher: Talking, split: Split, seed: int, index: int) -> Record:
    """Speak clip `index` of a split: its text, voice and speed are functions of the arguments alone."""
    rng = np.random.default_rng([seed, SPLITS.index(split), index, 0xBA2C])
    shipped = split == "train" and rng.random() < _SHIPPED_SHARE
    voice = mixes()[int(rng.choice(list(SHIPPED.values()) if shipped else voices(split)))]
    speed = float(np.exp(rng.uniform(*np.log(_SPEEDS))))
    for attempt in itertools.count():
        words = text(split, seed * _SEED_STRIDE + index + attempt * _SEED_STRIDE // 4)
        try:
            return speak(teacher, words, voice, speed)
        except ValueError:  # a word without a pronunciation: very rare
            continue
    raise AssertionError


def write(
    folder: Path,
    hours: float,
    split: Split = "train",
    seed: int = 0,
    teacher: Talking | Path = TEACHER,
    workers: int = 0,
) -> None:
    """Write clips until the bank holds `hours` of speech of a split; clips that it holds are kept.

    Args:
        folder: of the bank.
        hours: of speech.
        split: "train" or "heldout".
        seed: of the texts, voices and speeds.
        teacher: what speaks, or the folder with the teacher's files.
        workers: number of processes; with 0 this process works.

    Raises:
        ValueError: the bank was made by another text frontend, teacher or seed.
    """
    if isinstance(teacher, Path):
        _teacher(teacher)  # so that missing files are reported before anything is written
    own = folder / split
    own.mkdir(parents=True, exist_ok=True)
    _claim(folder, seed)
    jobs = ((own, split, seed, shard, teacher) for shard in itertools.count())
    with tqdm(total=round(hours * 3600), unit="s of speech") as bar:
        for seconds in _in_order(jobs, workers):
            bar.update(round(seconds))
            if bar.n >= hours * 3600:
                return


def _claim(folder: Path, seed: int) -> None:
    """Store what the bank depends on; refuse a bank of something else."""
    described = {"key": key(), "seed": seed}
    path = folder / "bank.json"
    if path.exists():
        if json.loads(path.read_text(encoding="utf-8")) != described:
            raise ValueError(
                f"{folder} holds speech of another text frontend, teacher or seed: remove it, or choose "
                "another folder"
            )
    else:
        _store(path, json.dumps(described).encode())


def _in_order(jobs: Iterator[Any], workers: int) -> Iterator[float]:
    if workers == 0:
        yield from map(_make, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        pending = [pool.apply_async(_make, (job,)) for job in itertools.islice(jobs, workers)]
        for job in jobs:
            yield pending.pop(0).get()
            pending.append(pool.apply_async(_make, (job,)))


@cache
def _teacher(folder: Path) -> Teacher:
    return Teacher(folder)


def _make(job: tuple[Path, Split, int, int, Talking | Path]) -> float:
    """Write one shard unless it exists; return its seconds of speech."""
    folder, split, seed, shard, teacher = job
    index = folder / f"{shard:05d}.json"
    if not index.exists():
        if isinstance(teacher, Path):
            teacher = _teacher(teacher)
        records = [record(teacher, split, seed, shard * SHARD + k) for k in range(SHARD)]
        with (folder / f"{shard:05d}.part").open("wb") as file:
            np.save(file, np.concatenate([one.pcm for one in records]), allow_pickle=False)
        (folder / f"{shard:05d}.part").replace(index.with_suffix(".npy"))
        rows = [_row(one) for one in records]
        _store(index, json.dumps(rows, ensure_ascii=False).encode())  # last: the shard is complete
    rows = json.loads(index.read_text(encoding="utf-8"))
    return sum(row["samples"] for row in rows) / SAMPLE_RATE


def _row(one: Record) -> dict[str, Any]:
    return {
        "text": one.text,
        "voice": asdict(one.voice),
        "speed": one.speed,
        "tokens": one.tokens,
        "bounds": one.bounds,
        "samples": len(one.pcm),
    }


def _store(path: Path, content: bytes) -> None:
    """Write a file so that it exists only when it is complete."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    temporary.write_bytes(content)
    temporary.replace(path)


class SpeechBank:
    """The clips of one split of a bank, read from disk on demand.

    Attributes:
        key: `key()` of the program that wrote it.

    Raises:
        FileNotFoundError: there is no bank in the folder.
        ValueError: a file is damaged, or the bank was made by another text frontend, teacher or text list.
    """

    def __init__(self, folder: Path = FOLDER, split: Split = "train") -> None:
        shards = sorted((folder / split).glob("[0-9]*.json"))
        if not shards or not (folder / "bank.json").exists():
            raise FileNotFoundError(
                f"{folder} has no speech of the split {split!r}: run python -m puppet.teacher, then "
                f"python -m puppet.speech_bank {folder} --split {split} --hours 6"
            )
        self.key = str(json.loads((folder / "bank.json").read_text(encoding="utf-8"))["key"])
        if self.key != key():
            raise ValueError(
                f"{folder} holds speech of another text frontend or teacher: remove it and make it again by "
                f"python -m puppet.speech_bank {folder}"
            )
        self._rows: list[dict[str, Any]] = []
        self._pcm: list[NDArray[np.int16]] = []
        for path in shards:
            rows = json.loads(path.read_text(encoding="utf-8"))
            pcm = np.load(path.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
            ends = np.cumsum([row["samples"] for row in rows])
            if pcm.dtype != np.int16 or pcm.shape != (ends[-1],):
                raise ValueError(
                    f"{path.with_suffix('.npy')} is damaged: remove it and {path.name}, then run again"
                )
            self._rows += rows
            self._pcm += np.split(pcm, ends[:-1])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Record:
        row, pcm = self._rows[index], self._pcm[index]
        return Record(
            row["text"], Mix(**row["voice"]), row["speed"], row["tokens"], row["bounds"], np.array(pcm)
        )

    @property
    def voices(self) -> list[Mix]:
        """Who speaks each clip."""
        return [Mix(**row["voice"]) for row in self._rows]

    @property
    def seconds(self) -> float:
        """Length of all clips."""
        return sum(map(len, self._pcm)) / SAMPLE_RATE


def main() -> None:
    """Write a bank of the teacher's speech."""
    parser = argparse.ArgumentParser(
        "python -m puppet.speech_bank",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, nargs="?", default=FOLDER, help="folder of the bank")
    parser.add_argument(
        "--hours", type=float, default=6, help="hours of speech that the split holds at the end"
    )
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--teacher", type=Path, default=TEACHER, help="folder of the downloaded speech synthesiser"
    )
    parser.add_argument("--workers", type=int, default=0, help="additional processes; 0 uses this one")
    options = parser.parse_args()
    with exit_on_signals(f"finished files in {options.out} are kept; continue with: {command()}"):
        try:
            write(options.out, options.hours, options.split, options.seed, options.teacher, options.workers)
        except (FileNotFoundError, ImportError, ValueError) as error:
            parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
