"""Third stage: pack samples into shards with an index, and compute the statistics of their latents."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from recipes.data.prepare.samples import Sample, read_metadata, read_samples
from recipes.data.released import tar_members
from recipes.data.tar_shards import (
    INDEX,
    MEMBERS,
    SHARDS,
    STATS,
    ContentDigest,
    Entry,
    metadata_of,
    write_shard,
)
from talker.checkpoint import atomic
from talker.errors import UserError
from talker.progress import track

HELDOUT = "heldout.json"  # lists all voices that were ever held out
SHARD_CLIPS = 500
HELDOUT_SHARE = 0.02  # of the voices
MOST_COPIES = 0.1  # share of the voices; a larger group of copies stays in training


class Moments:
    """Mean and standard deviation of each channel, accumulated over frames."""

    def __init__(self) -> None:
        self.count, self.sum, self.squares = 0, np.zeros(1), np.zeros(1)

    def add(self, frames: np.ndarray) -> None:
        """Add frames (T, C)."""
        wide = frames.astype(np.float64)
        self.count += len(wide)
        self.sum = self.sum + wide.sum(0)
        self.squares = self.squares + np.square(wide).sum(0)

    def mean_std(self) -> tuple[Tensor, Tensor]:
        """Mean and (population) standard deviation of all added frames, (C,) each."""
        mean = self.sum / max(self.count, 1)
        variance = (self.squares / max(self.count, 1) - mean**2).clip(min=0)
        return torch.from_numpy(mean).float(), torch.from_numpy(np.sqrt(variance)).float()


def pack(
    latents: Path, keys: Sequence[str], quiet: Tensor, out: Path, copies: Sequence[Sequence[str]] = ()
) -> list[Entry]:
    """Write the shards, the statistics and the index of a data set.

    A shard's name contains a digest of its content, so a shard that exists is not written again. The index
    is written last; then the shards that it does not name are removed. Voices that an earlier call held out
    stay held out.

    Args:
        latents: folder of the samples' files, KEY.npz.
        keys: the files to pack, in this order.
        quiet: (C,) the audio latent of silence, stored with the statistics.
        out: the data set's folder.
        copies: groups of voices that stay in one split, see `find_copies`.

    Returns:
        The entries of the index.
    """
    (out / SHARDS).mkdir(exist_ok=True)
    rows = (row for key in keys for row in read_metadata(latents / f"{key}.npz")["samples"])
    heldout = _kept_heldout(out, {row["voice"] for row in rows if row["heldout"] is None}, copies)
    waiting: dict[str, list[Sample]] = defaultdict(list)
    moments = {"audio": Moments(), "motion": Moments()}
    entries: list[Entry] = []
    numbers: dict[str, int] = defaultdict(int)

    def flush(split: str, least: int) -> None:
        while len(waiting[split]) >= least:
            group, waiting[split] = waiting[split][:SHARD_CLIPS], waiting[split][SHARD_CLIPS:]
            entries.extend(_packed(out / SHARDS, f"{split}-{numbers[split]:06d}", split, group))
            numbers[split] += 1

    for key in track(keys, "files packed", len(keys)):
        for sample in read_samples(latents / f"{key}.npz"):
            apart = sample.voice in heldout if sample.heldout is None else sample.heldout
            waiting["heldout" if apart else "train"].append(sample)
            if not apart:
                for name, moment in moments.items():
                    moment.add(getattr(sample, name))
        flush("train", SHARD_CLIPS)
        flush("heldout", SHARD_CLIPS)
    flush("train", 1)
    flush("heldout", 1)
    tensors = {"quiet": quiet}
    for name, moment in moments.items():
        tensors[f"{name}_mean"], tensors[f"{name}_std"] = moment.mean_std()
    with atomic(out / STATS) as path:
        save_file(tensors, path)
    with atomic(out / INDEX) as path, path.open("w") as file:
        file.writelines(entry.line() for entry in entries)
    _remove_others(out / SHARDS, {entry.shard for entry in entries})
    return entries


def heldout_voices(
    voices: Collection[str], kept: Collection[str] = (), copies: Sequence[Sequence[str]] = ()
) -> set[str]:
    """Choose the voices that are held out from training.

    About one voice in fifty is held out, chosen by a digest of its name. At least one is, if there are two
    or more voices; never all voices that are not in `kept`.

    Args:
        voices: names of all voices of the data set.
        kept: names of voices that were held out before; those in `voices` stay held out.
        copies: groups of voices that count as one. The largest digest decides, so that a new copy does not
            move a group out of training. Groups of more than MOST_COPIES of the voices are held out only if
            there is no other choice.
    """
    group = {voice: tuple(one) for one in copies for voice in one}
    groups = {group.get(voice, (voice,)) for voice in voices}
    before = {one for one in groups if set(one) & set(kept)}
    digests = {one: max(hashlib.sha256(voice.encode()).digest() for voice in one) for one in groups - before}
    most = max(1, MOST_COPIES * len(voices))
    ranked = sorted(digests, key=lambda one: (len(one) if len(one) > most else 0, digests[one]))[:-1]
    low = {one for one in ranked if digests[one][0] < 256 * HELDOUT_SHARE and len(one) <= most}
    chosen = before | low or set(ranked[:1])
    return {voice for one in chosen for voice in one} & set(voices)


def _kept_heldout(out: Path, voices: Collection[str], copies: Sequence[Sequence[str]]) -> set[str]:
    """`heldout_voices` with the voices that were held out before; stores the new ones in `out`."""
    path = out / HELDOUT
    try:
        kept = set(json.loads(path.read_bytes())) if path.exists() else set()
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}): restore it, or prepare into another --out") from error
    heldout = heldout_voices(voices, kept, copies)
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(sorted(kept | heldout), indent=1))
    return heldout


def _packed(folder: Path, name: str, split: str, group: Sequence[Sample]) -> list[Entry]:
    """Write a shard, unless it exists, and return its entries."""
    samples, digest = [], ContentDigest()
    for one in group:
        metadata = metadata_of(one.voice, split, one.cues)
        samples.append({"key": one.key, "json": metadata} | {m: getattr(one, m) for m in MEMBERS})
        digest.add(one.key, metadata, [getattr(one, m) for m in MEMBERS])
    path = folder / f"{name}-{digest}.tar"
    if not path.exists():
        with atomic(path) as temporary:
            write_shard(temporary, samples)
    places, _ = tar_members(path)
    return [
        Entry(
            one.key,
            split,
            path.name,
            {member: places[f"{one.key}.{member}.npy"] for member in MEMBERS},
            len(one.audio),
            one.voice,
            one.cues,
        )
        for one in group
    ]


def _remove_others(folder: Path, current: Collection[str]) -> None:
    for path in folder.iterdir():
        if path.name not in current:
            path.unlink()
