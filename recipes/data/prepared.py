"""A prepared data set as the talker's recipe reads it: clips by number, read from the shards on demand."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from heads.streams import NAMES, Streams
from recipes.data.clips import LEAST_STD, PATCH_FRAMES
from recipes.data.tar_shards import INDEX, STATS, Entry, read_index, read_member
from recipes.data.transcript import Cue, spans, text_of
from talker.clips.windows import LONGEST_SECONDS
from talker.clock import FRAME_RATE
from talker.errors import UserError
from talker.text.tokenizer import PhonemeTokenizer, Tokenizer


@dataclass(frozen=True)
class View:
    """Frames first..last - 1 of an entry of the index, and their cues, in seconds from frame `first`."""

    entry: Entry
    first: int
    last: int
    cues: tuple[Cue, ...]


class Prepared:
    """Clips of a folder that `recipes.data.prepare` made; implements `recipes.data.clips.Clips`.

    A clip longer than 30 s is split between cues of its transcript. Parts that cannot be split are dropped.

    Attributes:
        folder: the data set's folder.
        voice: (clips,) number of each clip's voice.
        shard: (clips,) number of the shard that stores each clip.
        dropped: number of clips, or parts of clips, that are not read, by reason.
    """

    def __init__(
        self, folder: Path, split: Literal["train", "heldout"], tokenizer: Tokenizer | None = None
    ) -> None:
        """Read the index; latents are read later, clip by clip.

        Args:
            folder: the data set's folder.
            split: the split whose clips are numbered.
            tokenizer: for `ids`; phonemes if None.

        Raises:
            UserError: the folder holds no prepared data, or no clip of the split.
        """
        self.folder, self.dropped = folder, Counter[str]()
        entries = [entry for entry in read_index(folder) if entry.split == split]
        self._views: list[View] = []
        for entry in entries:
            views, dropped = views_of(entry)
            self._views += views
            self.dropped.update(dropped)
        if not self._views:
            raise UserError(f"{folder} has no clip of the split {split}: prepare more videos")
        voices, shards = (
            np.unique([getattr(view.entry, name) for view in self._views], return_inverse=True)[1]
            for name in ("voice", "shard")
        )
        self.voice: NDArray[np.int64] = voices
        self.shard: NDArray[np.int64] = shards
        self._tokenizer = tokenizer or PhonemeTokenizer()
        self.ids = lru_cache(maxsize=100_000)(self._ids)

    def __len__(self) -> int:
        return len(self._views)

    @cached_property
    def frames(self) -> NDArray[np.int64]:
        """(clips,) length of each clip in frames."""
        return np.array([view.last - view.first for view in self._views])

    def of(self, stream: str, clip: int) -> Tensor:
        """Raw latents (T, C) float32 of one stream ("audio" or "motion") of a clip."""
        view = self._views[clip]
        held = read_member(self.folder, view.entry, stream)[view.first : view.last]
        return torch.from_numpy(held.astype(np.float32))

    def embedding(self, clip: int) -> Tensor:
        """(S,) float32 speaker embedding of a clip's sound."""
        return torch.from_numpy(
            read_member(self.folder, self._views[clip].entry, "speaker").astype(np.float32)
        )

    def text(self, clip: int) -> str:
        """The text of a clip's transcript."""
        return text_of(self._views[clip].cues)

    def _ids(self, clip: int) -> list[int]:
        """Token ids of a clip's text.

        Raises:
            UserError: the tokenizer cannot encode the text.
        """
        try:
            return self._tokenizer.encode(self.text(clip))
        except ValueError as error:
            key = self._views[clip].entry.key
            raise UserError(
                f"{key}: {error} (python -m recipes.data.validate lists all such clips)"
            ) from error

    def tokens_read(self, clip: int) -> Tensor | None:
        """(N,) number of text tokens (fractional) spoken by the end of each patch.

        None if the transcript has no word times.
        """
        view = self._views[clip]
        if not all(len(cue.text.split()) == 1 for cue in view.cues):
            return None
        patches = -(-(view.last - view.first) // PATCH_FRAMES)
        ends = (np.arange(patches) + 1) * PATCH_FRAMES / FRAME_RATE
        return torch.from_numpy(tokens_read_from_words(view.cues, len(self.ids(clip)), ends))

    @property
    def widths(self) -> dict[str, int]:
        """Number of channels of each stream's latents, by the stream's name."""
        return {name: self.of(name, 0).shape[1] for name in NAMES}

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that identify the data set's content.

        They are a digest of the index, which names the shards; the shards' names contain digests.
        """
        return hashlib.sha256((self.folder / INDEX).read_bytes()).hexdigest()[:16]

    def statistics(self) -> tuple[Streams, Streams]:
        """Mean and standard deviation (C,) of each stream's raw latents; the latter at least LEAST_STD.

        They are those of the training clips, stored beside the index.

        Raises:
            UserError: the file is missing or damaged.
        """
        held = read_statistics(self.folder)
        mean = Streams(audio=held["audio_mean"], motion=held["motion_mean"])
        std = Streams(audio=held["audio_std"], motion=held["motion_std"])
        return mean, std.map(lambda x: x.clamp(min=LEAST_STD))


def views_of(entry: Entry) -> tuple[list[View], dict[str, int]]:
    """Split an entry of the index into views of at most 30 s, between its cues.

    Returns:
        The views, and the number of parts of the entry that are dropped, by reason.
    """
    if entry.frames <= LONGEST_SECONDS * FRAME_RATE:
        return [View(entry, 0, entry.frames, entry.cues)], {}
    if not entry.cues:
        return [], {"too long, without a transcript to split it at": 1}
    found, dropped = spans(entry.cues, entry.frames / FRAME_RATE)
    views = []
    for span in found:
        first = int(span.start * FRAME_RATE)
        last = min(entry.frames, first + int(LONGEST_SECONDS * FRAME_RATE), math.ceil(span.end * FRAME_RATE))
        cues = tuple(cue.shifted(-first / FRAME_RATE) for cue in span.cues)
        views.append(View(entry, first, last, cues))
    return views, {"too long between two cuts": dropped} if dropped else {}


def read_statistics(folder: Path) -> dict[str, Tensor]:
    """Read a data set's statistics, each (C,).

    Returns:
        `audio_mean`, `audio_std`, `motion_mean`, `motion_std`, and `quiet`, the audio latent of silence.

    Raises:
        UserError: the file is missing or damaged.
    """
    path = folder / STATS
    try:
        held = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read: run python -m recipes.data.prepare again") from error
    names = {"audio_mean", "audio_std", "motion_mean", "motion_std", "quiet"}
    if names - held.keys():
        raise UserError(f"{path} lacks {', '.join(sorted(names - held.keys()))}: prepare the data again")
    return held


def tokens_read_from_words(
    words: Sequence[Cue], tokens: int, times: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Number of text tokens (fractional) spoken by each of `times`, interpolated between the words' times.

    A word's share of the tokens is that of its letters and the space after it.

    Args:
        words: one cue per word.
        tokens: number of tokens of the whole text.
        times: (n,) in seconds.

    Returns:
        (n,) values in 0..tokens.
    """
    letters = np.cumsum([len(word.text) + 1 for word in words])
    done = np.append(0.0, letters * tokens / letters[-1])
    at, read = [0.0], [0.0]
    for word, before, after in zip(words, done, done[1:], strict=False):
        at += [max(at[-1], word.start), max(at[-1], word.end)]
        read += [before, after]
    return np.interp(times, at, read).astype(np.float32)
