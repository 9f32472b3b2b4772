"""The mode "voice": speech for the lips of a video, whose packets are copied."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from heads.streams import Streams
from talker.batch.fit import Placement
from talker.batch.job import Job, load_codes, save_codes
from talker.batch.mode import Mode, Plans, Takes
from talker.batch.store import digest
from talker.clips.dub import Dubbing
from talker.clips.text import sentences_of
from talker.clock import FRAME_RATE, SAMPLE_RATE
from talker.media.face_track import FaceTrack
from talker.media.programme import Samples
from talker.media.programme_writer import ProgrammeWriter
from talker.media.provenance import origin_of
from talker.media.remux import copy_extension


class VoiceMode(Mode):
    """Generates speech that follows the motion of the face. Its length is that of the video."""

    encodes = False

    def suffix(self, video: Path) -> str:
        """Extension of the output."""
        return copy_extension(video)

    def plans(self, job: Job) -> Plans:
        """Name the speech of each cue, and plan what has not been generated."""
        inputs, track = job.inputs, job.track
        assert inputs is not None
        assert track is not None
        with job.stage("motion"):
            name = self.studio.name("motion", "npy", video=digest(inputs.video), face=job.row.face)
            codes = load_codes(job.store.make(name, partial(self._write_codes, inputs.video, track)))
        plans: Plans = []
        for segment in job.segments:
            given = codes[segment.first : segment.last].clone()
            path = inputs.voices.get(segment.cue.speaker, inputs.voices[""])
            name = self.studio.name(
                "speech",
                "safetensors",
                text=segment.cue.text,
                motion=hashlib.sha256(given.numpy().tobytes()).hexdigest(),
                voice=digest(path),
                seed=segment.seed,
                sampling=dataclasses.asdict(self.studio.sampling(job.row)),
            )
            job.speech.append(name)
            if not job.store.path(name).exists():
                with job.stage("voice"):
                    voice = self.studio.voice(path)
                with job.stage("text"):
                    sentences = sentences_of(self.studio.system, segment.cue.text)
                timing = FaceTrack(Fraction(0), Fraction(segment.frames, FRAME_RATE), None)
                clip = Dubbing(
                    self.studio.system,
                    inputs.video,
                    timing,
                    sentences,
                    voice,
                    segment.seed,
                    self.studio.sampling(job.row),
                    given,
                )
                plans.append((clip, segment, name))
        return plans

    def _write_codes(self, video: Path, track: FaceTrack, path: Path) -> None:
        system = self.studio.system
        save_codes(torch.cat(list(system.read_motion(track.pictures(video, system.resolution)))), path)

    def placements(self, job: Job, takes: Takes) -> list[Placement]:
        """Where the speech of each cue is: exactly in its cue."""
        assert job.track is not None
        total, hop = round(job.track.seconds * SAMPLE_RATE), SAMPLE_RATE // FRAME_RATE
        for segment, (_, record) in zip(job.segments, takes, strict=True):
            if record["finish_reason"] == "overflow":
                job.warn(f"overflow: the words of the cue at {segment.cue.start:.2f} s do not fit")
        return [Placement(s.first * hop, min(s.frames * hop, total - s.first * hop)) for s in job.segments]

    def speech(self, job: Job, latents: Streams) -> Iterator[NDArray[np.float32]]:
        """Samples (n,) of the speech of a cue, piece by piece."""
        return self.studio.decode(latents["audio"])

    def track(self, job: Job, samples: int) -> FaceTrack:
        """The face in the finished video."""
        assert job.track is not None
        return job.track

    def picture_origin(self, job: Job) -> str:
        """Origin of the picture, for the tags of the file."""
        assert job.inputs is not None
        return origin_of(job.inputs.video, "video")

    def write(
        self,
        job: Job,
        writer: ProgrammeWriter,
        sound: Iterator[Samples],
        placements: Sequence[Placement],
        takes: Takes,
    ) -> None:
        """Write the sound beside the packets of the video."""
        for block in sound:
            writer.write(block)
