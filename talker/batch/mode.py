"""What the two modes of dubbing do differently."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heads.streams import Streams
from talker.batch.fit import Placement
from talker.batch.job import Job, Segment
from talker.batch.studio import Studio
from talker.clips.clip import Clip
from talker.media.face_track import FaceTrack
from talker.media.programme import Samples
from talker.media.programme_writer import ProgrammeWriter

Plans = list[tuple[Clip, Segment, str]]  # a cue's plan, and the name of its artefact
Takes = Sequence[tuple[Streams, dict[str, Any]]]  # latents and record of each cue


class Mode(ABC):
    """A way to dub a clip.

    Attributes:
        encodes: whether the pictures are encoded again. Otherwise their packets are copied.
    """

    encodes: bool

    def __init__(self, studio: Studio) -> None:
        """`studio`: the model."""
        self.studio = studio

    @abstractmethod
    def suffix(self, video: Path) -> str:
        """Extension of the output."""

    @abstractmethod
    def plans(self, job: Job) -> Plans:
        """Name the speech of each cue, and plan what has not been generated."""

    @abstractmethod
    def placements(self, job: Job, takes: Takes) -> list[Placement]:
        """Where the speech of each cue is."""

    @abstractmethod
    def speech(self, job: Job, latents: Streams) -> Iterator[NDArray[np.float32]]:
        """Samples (n,) of the speech of a cue, piece by piece."""

    @abstractmethod
    def track(self, job: Job, samples: int) -> FaceTrack:
        """The face in the finished video, whose sound has `samples` samples."""

    @abstractmethod
    def picture_origin(self, job: Job) -> str:
        """Origin of the picture, for the tags of the file."""

    @abstractmethod
    def write(
        self,
        job: Job,
        writer: ProgrammeWriter,
        sound: Iterator[Samples],
        placements: Sequence[Placement],
        takes: Takes,
    ) -> None:
        """Write the sound, and the frames if `encodes`."""
