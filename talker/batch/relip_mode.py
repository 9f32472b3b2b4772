"""The mode "relip": new speech, and lips that speak it, put back into the frames of the video."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from heads.streams import Streams
from motion_ae.model import SourceFeatures
from talker.batch.fit import Placement, place
from talker.batch.job import Job, Segment
from talker.batch.mode import Mode, Plans, Takes
from talker.batch.store import digest
from talker.clips.animate import Animation
from talker.clips.clip import Clip
from talker.clips.say import Utterance
from talker.clips.text import sentences_of
from talker.clock import FRAME_RATE, HOP, SAMPLE_RATE
from talker.errors import UserError
from talker.identity import Portrait
from talker.media.face import Box, crop_square, read_portrait, to_tensor
from talker.media.face_track import FaceTrack
from talker.media.paste import LOWER_FACE, WHOLE_FACE, copied, paste
from talker.media.pixels import to_uint8
from talker.media.programme import Samples, decode_programme
from talker.media.programme_writer import RE_ENCODED, ProgrammeWriter
from talker.media.readers import SourceFrame, VideoReader
from talker.media.remux import first_sample_time
from talker.media.tracks import find_sound_track
from talker.system import ENCODED_TOGETHER

RAMP_SECONDS = 0.12  # over which the new lips replace the old ones


@dataclass(frozen=True)
class Spoken:
    """Motion of a face that speaks, on the timeline of the video.

    Attributes:
        start, end: in seconds.
        tempo: factor of speed.
        motion: raw motion (T, M) at 25 frames per second before the change of tempo.
    """

    start: float
    end: float
    tempo: float
    motion: Tensor

    def at(self, seconds: float) -> Tensor:
        """The motion (M,) at a time."""
        number = min(max((seconds - self.start) * self.tempo * FRAME_RATE, 0.0), len(self.motion) - 1.0)
        before = int(number)
        after = min(before + 1, len(self.motion) - 1)
        return torch.lerp(self.motion[before], self.motion[after], number - before)

    def weight(self, seconds: float) -> float:
        """Share of the new lips at a time, from 0 to 1."""
        return min(1.0, max(0.0, min(seconds - self.start, self.end - seconds) / RAMP_SECONDS))


class RelipMode(Mode):
    """Generates speech and motion, or motion for given speech, and renders the mouth into the frames."""

    encodes = True

    def suffix(self, video: Path) -> str:
        """Extension of the output."""
        return video.suffix.lower() if video.suffix.lower() in RE_ENCODED else ".mkv"

    def plans(self, job: Job) -> Plans:
        """Name the speech of each cue, and plan what has not been generated."""
        inputs, track = job.inputs, job.track
        assert inputs is not None
        assert track is not None
        if track.turn:
            raise UserError(f"the face in {job.row.video} is not upright: turn the video before relip")
        missing: list[tuple[Segment, str]] = []
        for segment in job.segments:
            voice = None if inputs.audio else inputs.voices.get(segment.cue.speaker, inputs.voices[""])
            name = self.studio.name(
                "speech",
                "safetensors",
                text=segment.cue.text,
                video=digest(inputs.video),
                face=job.row.face,
                first=segment.first,
                portrait=inputs.portrait and digest(inputs.portrait),
                audio=inputs.audio and digest(inputs.audio),
                voice=voice and digest(voice),
                seed=segment.seed,
                sampling=dataclasses.asdict(self.studio.sampling(job.row)),
            )
            job.speech.append(name)
            if not job.store.path(name).exists():
                missing.append((segment, name))
        with job.stage("motion"):
            faces = self._faces(job, [segment.first for segment, _ in missing])
        return [
            (self._clip(job, segment, face), segment, name)
            for (segment, name), face in zip(missing, faces, strict=True)
        ]

    def _faces(self, job: Job, numbers: Sequence[int]) -> list[Portrait]:
        """The face of the portrait, or of the video in each of the frames `numbers`."""
        inputs, track, system = job.inputs, job.track, self.studio.system
        assert inputs is not None
        assert track is not None
        if inputs.portrait is not None:
            return [self.portrait(inputs.portrait)] * len(numbers)
        wanted, found = set(numbers), dict[int, Portrait]()
        pictures = track.pictures(inputs.video, system.resolution)
        for number, picture in enumerate(islice(pictures, max(wanted, default=-1) + 1)):
            if number in wanted:
                source = system.source(picture)
                found[number] = Portrait(inputs.video.stem, source, Box(0, 0, system.resolution))
        last = list(found.values())[-1:]
        return [found.get(number) or last[0] for number in numbers]

    def portrait(self, path: Path) -> Portrait:
        """The face of a picture."""
        image, framing = read_portrait(path, self.studio.system.resolution)
        return Portrait(path.stem, self.studio.system.source(image), framing)

    def _clip(self, job: Job, segment: Segment, face: Portrait) -> Clip:
        inputs, system = job.inputs, self.studio.system
        assert inputs is not None
        sampling, text = self.studio.sampling(job.row), segment.cue.text
        if inputs.audio is not None:
            with job.stage("text"):
                return Animation.of(
                    system, inputs.audio, face, text or None, seed=segment.seed, sampling=sampling
                )
        path = inputs.voices.get(segment.cue.speaker, inputs.voices[""])
        with job.stage("voice"):
            voice = self.studio.voice(path)
        with job.stage("text"):
            return Utterance(system, sentences_of(system, text), voice, face, segment.seed, sampling)

    def placements(self, job: Job, takes: Takes) -> list[Placement]:
        """Where the speech of each cue is, by the length policy of the row."""
        assert job.inputs is not None
        found = []
        starts = [segment.first * HOP for segment in job.segments]
        for index, (segment, (latents, record)) in enumerate(zip(job.segments, takes, strict=True)):
            following = starts[index + 1] - starts[index] if index + 1 < len(starts) else None
            spoken = len(latents["motion"]) * HOP
            # A cue has the length that its words should have; a part of a video is only an upper limit.
            room = segment.frames * HOP
            if job.inputs.cues is None and job.row.length == "fit":
                room = min(room, max(spoken, 1))
            placed = place(starts[index], room, spoken, job.row.length, following)
            if placed.cut > 1 / FRAME_RATE:
                kind = "trimmed" if job.row.length == "trim" else "overflow"
                where = f"the speech at {segment.cue.start:.2f} s"
                job.warn(f"{kind}: the last {placed.cut:.2f} s of {where} do not fit")
            if record["finish_reason"] not in ("stop", "overflow"):
                reason = record["finish_reason"]
                job.warn(f"{reason}: not the stop predictor ended the speech at {segment.cue.start:.2f} s")
            found.append(placed)
        return found

    def speech(self, job: Job, latents: Streams) -> Iterator[NDArray[np.float32]]:
        """Samples (n,) of the speech of a cue, piece by piece."""
        assert job.inputs is not None
        if job.inputs.audio is None:
            return self.studio.decode(latents["audio"])
        return _recording(job.inputs.audio)

    def track(self, job: Job, samples: int) -> FaceTrack:
        """The face in the finished video, which `extend` may have made longer."""
        assert job.track is not None
        return dataclasses.replace(job.track, seconds=max(job.track.seconds, Fraction(samples, SAMPLE_RATE)))

    def picture_origin(self, job: Job) -> str:
        """Origin of the picture, for the tags of the file."""
        assert job.inputs is not None
        source = job.inputs.portrait or job.inputs.video
        return f"generated lips in the video {job.inputs.video.name}, from {source.name}"

    def write(
        self,
        job: Job,
        writer: ProgrammeWriter,
        sound: Iterator[Samples],
        placements: Sequence[Placement],
        takes: Takes,
    ) -> None:
        """Write sound and frames, interleaved by their times."""
        spoken = [
            Spoken(p.start / SAMPLE_RATE, (p.start + p.samples) / SAMPLE_RATE, p.tempo, latents["motion"])
            for p, (latents, _) in zip(placements, takes, strict=True)
            if p.samples
        ]
        for frame, seconds in self.frames(job, spoken):
            while writer.seconds <= seconds and (block := next(sound, None)) is not None:
                writer.write(block)
            writer.write_frame(frame, seconds)
        for block in sound:
            writer.write(block)

    @torch.inference_mode()
    def frames(self, job: Job, spoken: Sequence[Spoken]) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        """Every frame of the video, with its time, in which the face speaks.

        Frames without speech, and frames without the face, keep all their samples. If the speech is longer
        than the video, the last frame is repeated.
        """
        inputs, track = job.inputs, job.track
        assert inputs is not None
        assert track is not None
        face = None if inputs.portrait is None else self.portrait(inputs.portrait).source
        waiting: list[tuple[SourceFrame, Spoken]] = []
        end = max((one.end for one in spoken), default=0.0)
        for source in _held(VideoReader(inputs.video), end):
            seconds = float(source.seconds)
            one = next((one for one in spoken if one.start <= seconds < one.end), None)
            if one is not None and track.visible(seconds * FRAME_RATE):
                waiting.append((source, one))
                if len(waiting) == ENCODED_TOGETHER:
                    yield from self._rendered(track, waiting, face)
                    waiting = []
                continue
            yield from self._rendered(track, waiting, face)
            waiting = []
            yield copied(source.frame), source.seconds
        yield from self._rendered(track, waiting, face)

    def _rendered(
        self, track: FaceTrack, group: Sequence[tuple[SourceFrame, Spoken]], face: SourceFeatures | None
    ) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        """Frames with the lips of their speech."""
        if not group:
            return
        system, size = self.studio.system, self.studio.system.resolution
        times = [float(source.seconds) for source, _ in group]
        squares = [track.square(t * FRAME_RATE) for t in times]
        crops = torch.cat(
            [
                to_tensor(crop_square(Image.fromarray(source.pixels), square, size))
                for (source, _), square in zip(group, squares, strict=True)
            ]
        )
        # Each frame is its own source: what the mouth does not move stays as it is.
        source = system.source(crops)
        new = torch.stack([one.at(t) for (_, one), t in zip(group, times, strict=True)])
        weights = [one.weight(t) for (_, one), t in zip(group, times, strict=True)]
        motion, mouth = source.motion.clone(), list(system.motion_ae.config.mouth) or slice(None)
        share = torch.tensor(weights)[:, None].to(motion)
        motion[:, mouth] = torch.lerp(motion[:, mouth], new.to(motion)[:, mouth], share)
        pictures = to_uint8(system.motion_ae.decode(motion, source if face is None else face))
        ellipse = LOWER_FACE if face is None and system.motion_ae.config.mouth else WHOLE_FACE
        mask = ellipse.draw(size)
        shown = pictures.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        for (frame, _), picture, square, weight in zip(group, shown, squares, weights, strict=True):
            yield paste(frame.frame, picture, square, weight * mask, frame.aspect), frame.seconds


def _recording(path: Path) -> Iterator[NDArray[np.float32]]:
    """Samples (n,) at 24 kHz of a recording, piece by piece."""
    track = find_sound_track(path)
    if track is None:
        raise UserError(f"{path} has no audio track: give a recording of speech")
    for piece in decode_programme(path, track, SAMPLE_RATE, "mono", first_sample_time(path)):
        yield piece[0]


def _held(video: VideoReader, end: float) -> Iterator[SourceFrame]:
    """The frames of a video; the last one is repeated at the usual rate until `end` in seconds."""
    last, step = None, Fraction(1, FRAME_RATE)
    for frame in video.source_frames():
        if last is not None and frame.seconds > last.seconds:
            step = frame.seconds - last.seconds
        last = frame
        yield frame
    while last is not None and last.seconds + step < end:
        last = dataclasses.replace(last, seconds=last.seconds + step)
        yield last
