"""Check a data set before training on it.

    python -m recipes.data.validate MANIFEST

MANIFEST is a prepared folder, its index.jsonl, or the published data set's folder or metadata/train.csv.
Prints a summary, and one line for each problem. The exit code is 1 if there is a problem.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from talker.signals import announce, command, exit_on_signals

if __name__ == "__main__":  # before imports that take seconds
    announce("recipes.data.validate")

import numpy as np
import torch
from numpy.typing import NDArray

from recipes.data.clips import LEAST_STD
from recipes.data.faults import values_fault, words_fault
from recipes.data.prepare.pack import Moments
from recipes.data.prepared import read_statistics, views_of
from recipes.data.released import METADATA, Released, tar_members
from recipes.data.tar_shards import (
    INDEX,
    MEMBERS,
    SHARDS,
    ContentDigest,
    Entry,
    metadata_of,
    read_index,
    read_member,
)
from recipes.data.transcript import Cue, text_of
from talker.clock import FRAME_RATE
from talker.errors import UserError
from talker.progress import track
from talker.text.tokenizer import ChatTokenizer, PhonemeTokenizer, Tokenizer

# A frame is silent if its latent is this close to that of silence: root mean square over the normalised
# channels, as in `talker.generation.guards`.
NEAR_QUIET = 0.5
MOST_QUIET = 0.9  # share of a clip's frames
DRIFT = 0.05  # standard deviations by which stored statistics may differ from those of the clips


def check(folder: Path, tokenizer: Tokenizer | None = None) -> tuple[dict[str, str], list[str]]:
    """Read and check a prepared data set.

    Args:
        folder: the data set's folder.
        tokenizer: must be able to encode the texts; phonemes if None.

    Returns:
        A summary by name, and the problems, one line each.
    """
    try:
        entries, stats = read_index(folder), read_statistics(folder)
    except UserError as error:
        return {}, [str(error)]
    tokenizer = tokenizer or PhonemeTokenizer()
    quiet = ((stats["quiet"] - stats["audio_mean"]) / stats["audio_std"].clamp(min=LEAST_STD)).numpy()
    moments = {"audio": Moments(), "motion": Moments()}
    widths: dict[str, Counter[int]] = {name: Counter() for name in MEMBERS}
    problems = [f"{key}: {count} clips have this key" for key, count in _repeated(entries)]
    digests: dict[str, ContentDigest | None] = {}
    for entry in track(entries, "clips", len(entries)):
        fault = words_fault(entry.cues, entry.frames, tokenizer)
        problems += [f"{entry.key}: {fault}"] if fault else []
        problems += [f"{entry.key}: parts not read, {why}: {n}" for why, n in views_of(entry)[1].items()]
        arrays = []
        for name in MEMBERS:
            try:
                array = _own_member(folder, entry, name)
            except UserError as error:
                problems.append(str(error))
                digests[entry.shard] = None  # the shard has a problem already
                continue
            arrays.append(array)
            widths[name][array.shape[-1]] += 1
            fault = values_fault(name, array)
            if fault is not None:
                problems.append(f"{entry.key}: {fault}")
            elif name in moments and entry.split == "train" and array.shape[-1] == len(stats[f"{name}_mean"]):
                moments[name].add(array)
            if name == "audio" and array.shape[-1] == len(quiet) and _silent(array, stats, quiet):
                problems.append(f"{entry.key}: the sound is silent")
        digest = digests.setdefault(entry.shard, ContentDigest())
        if digest is not None:
            digest.add(entry.key, metadata_of(entry.voice, entry.split, entry.cues), arrays)
    for shard, digest in digests.items():
        if digest is not None and not shard.endswith(f"-{digest}.tar"):
            problems.append(
                f"{shard} differs from the digest in its name: remove it and prepare the data again"
            )
    for name, count in widths.items():
        if len(count) > 1:
            problems.append(f"{name}: clips have different numbers of values, {dict(count)}")
    for name, moment in moments.items():
        problems += _drift(name, moment, stats)
    splits = Counter(entry.split for entry in entries)
    problems += [f"no clip is in the split {s}" for s in ("train", "heldout") if not splits[s]]
    return _summary(entries, splits), problems


def check_released(root: Path, tokenizer: Tokenizer | None = None) -> tuple[dict[str, str], list[str]]:
    """Read and check the published data set in folder `root`; otherwise as `check`."""
    try:
        data = Released(root)
    except UserError as error:
        return {}, [str(error)]
    tokenizer, problems = tokenizer or PhonemeTokenizer(), list(data.damaged)
    seconds = 0.0
    for number, row in enumerate(track(data.rows, "rows", len(data.rows))):
        held = data.read(number)
        if isinstance(held, str):
            problems.append(" ".join(f"{row.sample_id}: {held}".split()))  # replaces line breaks
            continue
        frames = len(held[1])
        seconds += frames / FRAME_RATE
        fault = words_fault((Cue(0.0, frames / FRAME_RATE, row.text),), frames, tokenizer)
        problems += [f"{row.sample_id}: {fault}"] if fault else []
    splits = dict(Counter(row.split for row in data.rows if not row.fault))
    return {"rows": str(len(data.rows)), "splits": str(splits), "hours": f"{seconds / 3600:.2f}"}, problems


def _own_member(folder: Path, entry: Entry, name: str) -> NDArray[Any]:
    """`read_member`, which also raises UserError if the index points to the array of another clip."""
    array = read_member(folder, entry, name)
    if _members(folder / SHARDS / entry.shard).get(f"{entry.key}.{name}.npy") != entry.members[name]:
        raise UserError(
            f"{entry.shard}: {entry.key}.{name} is not where the index says: prepare the data again"
        )
    return array


@lru_cache(maxsize=4)
def _members(shard: Path) -> dict[str, tuple[int, int]]:
    return tar_members(shard)[0]


def _repeated(entries: list[Entry]) -> list[tuple[str, int]]:
    return [(key, n) for key, n in Counter(entry.key for entry in entries).items() if n > 1]


def _silent(audio: np.ndarray, stats: dict[str, torch.Tensor], quiet: np.ndarray) -> bool:
    mean, std = stats["audio_mean"].numpy(), stats["audio_std"].clamp(min=LEAST_STD).numpy()
    distance = np.sqrt(np.square((audio.astype(np.float32) - mean) / std - quiet).mean(1))
    return bool((distance < NEAR_QUIET).mean() > MOST_QUIET)


def _drift(name: str, moment: Moments, stats: dict[str, torch.Tensor]) -> Iterator[str]:
    """A problem if the stored statistics are not those of the training clips."""
    if not moment.count:
        return
    (mean, std), stored = moment.mean_std(), stats[f"{name}_std"].clamp(min=LEAST_STD)
    off = torch.maximum((mean - stats[f"{name}_mean"]).abs(), (std - stats[f"{name}_std"]).abs()) / stored
    if not torch.isfinite(off).all() or off.max() > DRIFT:
        yield f"{name}: the stored statistics are not those of the clips; prepare the data again"


def _summary(entries: list[Entry], splits: Counter[str]) -> dict[str, str]:
    seconds = np.array([entry.frames for entry in entries]) / FRAME_RATE
    low, middle, high = np.quantile(seconds, (0, 0.5, 1))
    return {
        "clips": f"{len(entries)} ({', '.join(f'{name} {count}' for name, count in splits.items())})",
        "hours": f"{seconds.sum() / 3600:.2f}",
        "seconds a clip": f"{low:.1f} to {high:.1f}, median {middle:.1f}",
        "voices": str(len({entry.voice for entry in entries})),
        "words": str(sum(len(text_of(entry.cues).split()) for entry in entries)),
    }


def main() -> None:
    """Check a data set, print what was found, and exit with 0 or 1."""
    parser = argparse.ArgumentParser(
        "python -m recipes.data.validate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("manifest", type=Path, metavar="MANIFEST")
    parser.add_argument(
        "--tokenizer",
        type=Path,
        metavar="FOLDER",
        help="tokenizer of the published checkpoint; default: phonemes",
    )
    options = parser.parse_args()
    path, tokenizer = options.manifest, options.tokenizer and ChatTokenizer(options.tokenizer)
    if path.name == METADATA.name and path.parent.name == METADATA.parent.name:
        path = path.parent.parent
    folder = path.parent if path.name == INDEX else path
    published = (folder / METADATA).is_file()
    with exit_on_signals(f"nothing was changed; start again with: {command()}"):
        found, problems = (check_released if published else check)(folder, tokenizer)
    for name, value in found.items():
        print(f"{name}: {value}")
    for problem in problems:
        print(problem)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
