"""Dubs clips as rows of one running batch: prepares them, generates their cues, writes and measures."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from talker.batch import products
from talker.batch.fit import Placement
from talker.batch.inputs import Inputs, find_inputs
from talker.batch.job import (
    ClipError,
    Job,
    Segment,
    failure_of,
    load_take,
    load_track,
    one_line,
    save_take,
    save_track,
    segments_of,
)
from talker.batch.manifest import DUCK, Row
from talker.batch.measures import Spoken, measure
from talker.batch.mode import Mode, Plans, Takes
from talker.batch.relip_mode import RelipMode
from talker.batch.setup import Setup
from talker.batch.soundtrack import BROADCAST, MIX_LAYOUT, MIX_RATE, Track, mixed, old_loudness
from talker.batch.store import WORK, Store, digest, file_digest, key_of, read_json
from talker.batch.studio import Studio
from talker.batch.voice_mode import VoiceMode
from talker.clips.clip import Clip, Generate, Piece, Writer
from talker.clips.record import Record
from talker.clock import HOP, SAMPLE_RATE
from talker.errors import UserError
from talker.media.face_track import FaceTrack
from talker.media.programme_writer import ProgrammeWriter
from talker.media.provenance import generated_tags, origin_of
from talker.media.tracks import missing_end
from talker.stages import Cancelled
from talker.system import System


@dataclass(frozen=True, repr=False)
class Nothing(Clip):
    """A plan without patches: it passes a clip on that needs no generation."""

    system: System
    seed: int = 0
    portrait: None = field(default=None, init=False)

    @property
    def expected_seconds(self) -> float:
        """0."""
        return 0.0

    def make(self, record: Record, generate: Generate) -> Iterator[Piece]:
        """See `Clip.make`."""
        record.finish_reason = "stop"
        return iter(())

    def writer(self, path: str | Path) -> AbstractContextManager[Writer]:
        """Not supported."""
        raise NotImplementedError


class Dubber:
    """Dubs clips with one model."""

    def __init__(self, setup: Setup, notify: Callable[[str, str], object] = lambda own, stage: None) -> None:
        """Load the model.

        `notify` is called with the id of a clip and the name of each stage that begins.

        Raises:
            UserError: the model cannot be loaded.
        """
        self.setup, self.notify, self.studio = setup, notify, Studio(setup)
        self._modes: dict[str, Mode] = {"voice": VoiceMode(self.studio), "relip": RelipMode(self.studio)}
        self._plans: dict[int, tuple[Clip, Job, Segment | None, str]] = {}

    def run(self, rows: Iterable[Row]) -> Iterator[dict[str, Any]]:
        """Dub clips, several at once, and yield the result of each as it is finished, also if it failed."""
        for take in self.studio.talker.map(self._planned(rows), self.setup.capacity, ordered=False):
            _, job, segment, name = self._plans.pop(id(take.clip))
            if segment is not None:
                job.waiting -= 1
                if job.failure is None:
                    try:
                        with job.stage("speech"):
                            job.store.make(name, partial(save_take, take))
                    except ClipError as error:
                        job.failure = error
            if not job.waiting:
                yield self._finished(job)

    def _planned(self, rows: Iterable[Row]) -> Iterator[Clip]:
        """A plan for each cue that is to be generated, or one `Nothing` for a clip without any."""
        for row in rows:
            store = Store(self.setup.out / WORK)
            job = Job(row, self.setup.root, store, notify=partial(self.notify, row.id))
            plans: Plans = []
            try:
                plans = self._prepare(job)
            except Cancelled:
                raise
            except Exception as error:
                job.failure = failure_of(error, "prepare", job)
            job.waiting = len(plans)
            nothing: list[tuple[Clip, None, str]] = [(Nothing(self.studio.system), None, "")]
            for clip, segment, name in plans or nothing:
                self._plans[id(clip)] = clip, job, segment, name
                yield clip

    def _prepare(self, job: Job) -> Plans:
        """Fill the job up to its speech; returns the cues that are to be generated."""
        with job.stage("check"):
            inputs = job.inputs = find_inputs(job.row, self.setup.root)
            job.key = self._key(job.row, inputs)
            mode = self._modes[inputs.mode]
            job.suffix = mode.suffix(inputs.video)
            if (self.setup.out / job.output).is_dir():
                raise UserError(f"{job.output} is a folder: move it away")
        if (result := self._stored(job)) is not None:
            job.result = result
            return []
        with job.stage("face"):
            if missing := missing_end(inputs.video):
                raise UserError(f"{job.row.video} is cut short ({missing}): copy or download it again")
            name = self.studio.name("track", "json", video=digest(inputs.video), face=job.row.face)
            job.track = load_track(job.store.make(name, partial(_write_track, inputs.video, job.row.face)))
            job.segments = segments_of(inputs, job.track, job.warnings)
        return mode.plans(job)

    def _key(self, row: Row, inputs: Inputs) -> str:
        """Digest of everything that the result depends on."""
        files = [digest(path) for path in inputs.files]
        cues = None if inputs.cues is None else [dataclasses.asdict(cue) for cue in inputs.cues]
        return key_of(**self.studio.version, row=dataclasses.asdict(row), files=files, cues=cues)

    def _finished(self, job: Job) -> dict[str, Any]:
        """The result of a clip whose speech has been generated, or that has failed."""
        try:
            if job.failure is not None:
                raise job.failure
            if job.result is None:
                job.result = self._made(job)
            self._deliver(job)
        except Exception as error:
            failure = failure_of(error, "finish", job)
            return {
                "id": job.row.id,
                "status": "failed",
                "stage": failure.stage,
                "reason": failure.reason,
                "warnings": job.warnings,
                "artefacts": sorted(job.store.used),
                "timing": job.timing,
            }
        rtf = round((time.perf_counter() - job.began) / job.result["seconds"], 3)
        return {**job.result, "timing": {**job.timing, "rtf": rtf}}

    def _made(self, job: Job) -> dict[str, Any]:
        """Write and measure the files of a clip, in the work folder; returns its result."""
        inputs = job.inputs
        assert inputs is not None
        mode = self._modes[inputs.mode]
        with job.stage("fit"):
            takes = [load_take(job.store.path(name)) for name in job.speech]
            placements = mode.placements(job, takes)
            speech = self._soundtrack(job, placements, takes)
            track = mode.track(job, speech.samples)
        media = job.store.path(f"media-{job.key}{job.suffix}")
        with job.stage("paste" if mode.encodes else "mux"):
            self._write_media(job, media, speech, placements, takes)
            speech.close()
        spoken = [
            Spoken(s.cue.text, p.start / SAMPLE_RATE, (p.start + p.samples) / SAMPLE_RATE)
            for s, p in zip(job.segments, placements, strict=True)
        ]
        with job.stage("measure"):
            voice = self.studio.voice(inputs.voices[""]) if len(inputs.voices) == 1 else None
            measured = measure(self.studio.system, media, track, spoken, voice)
            beside = products.write_beside(job, measured.strip, placements, takes)
        metrics = measured.metrics | {"duration_distance": _distance(job, placements)}
        result = {
            "id": job.row.id,
            "status": "ok",
            "mode": inputs.mode,
            "output": job.output,
            "seconds": round(float(track.seconds), 3),
            "cues": len(job.segments),
            "warnings": job.warnings,
            "metrics": metrics,
            "files": {job.output: [media.name, file_digest(media)], **beside},
        }
        name = f"result-{job.key}.json"
        path = job.store.path(name)
        job.store.write_json(path, result | {"artefacts": sorted(job.store.used)})
        return result | {"artefacts": sorted(job.store.used)}

    def _soundtrack(self, job: Job, placements: Sequence[Placement], takes: Takes) -> Track:
        """The speech of all cues at its loudness."""
        inputs, track = job.inputs, job.track
        assert inputs is not None
        assert track is not None
        mode, end = self._modes[inputs.mode], max(p.start + p.samples for p in placements)
        speech = Track(job.store.folder, max(round(track.seconds * SAMPLE_RATE), end))
        pieces = [partial(mode.speech, job, latents) for latents, _ in takes]
        speech.write(list(zip(placements, pieces, strict=True)))
        if job.row.loudness is not None:
            speech.set_loudness(job.row.loudness)
        elif inputs.audio is None:
            try:
                old = old_loudness(inputs.video, track.start)
            except UserError as error:
                old = None
                job.warn(f"the loudness of the old sound is unknown: {one_line(error, job)}")
            speech.set_loudness(BROADCAST if old is None else old)
        if not np.isfinite(speech.loudness):
            job.warn("the speech is silent")
        if speech.limited:
            job.warn("the speech is softer than wanted, because of its peaks")
        return speech

    def _write_media(
        self, job: Job, media: Path, speech: Track, placements: Sequence[Placement], takes: Takes
    ) -> None:
        inputs, track = job.inputs, job.track
        assert inputs is not None
        assert track is not None
        notes = job.store.path(f"notes-{job.key}.json")
        if media.exists() and (dropped := read_json(notes)) is not None:
            job.warnings += dropped
            return
        mode = self._modes[inputs.mode]
        below = inputs.stem or (inputs.video if job.row.background == DUCK else None)
        rate, layout, sound = SAMPLE_RATE, "mono", speech.blocks()
        if below is not None:
            start = Fraction(0) if inputs.stem else track.start
            ducked = None if inputs.stem else placements
            rate, layout, sound = MIX_RATE, MIX_LAYOUT, mixed(speech, below, start, ducked)
        if inputs.audio is None:
            names = sorted({self.studio.voice(path).name for path in inputs.voices.values()})
            origin = f"synthesised in the voice {', '.join(names)}"
        else:
            origin = origin_of(inputs.audio, "recording")
        tags = generated_tags(origin, mode.picture_origin(job))
        with ProgrammeWriter(
            media,
            inputs.video,
            track.start,
            rate,
            layout,
            tags,
            job.row.keep_sound,
            encode=mode.encodes,
        ) as writer:
            mode.write(job, writer, sound, placements, takes)
            job.store.write_json(notes, writer.dropped)
        job.warnings += writer.dropped

    def _stored(self, job: Job) -> dict[str, Any] | None:
        """The result of an earlier run, if all of its files still exist."""
        result = read_json(job.store.path(f"result-{job.key}.json"))
        if result is None:
            return None
        for name, (artefact, expected) in result["files"].items():
            paths = (self.setup.out / name, job.store.folder / artefact)
            if not any(path.is_file() and file_digest(path) == expected for path in paths):
                return None
        return dict(result)

    def _deliver(self, job: Job) -> None:
        """Move the files of a result to their places."""
        assert job.result is not None
        with job.stage("deliver"):
            (self.setup.out / "report").mkdir(exist_ok=True)
            for name, (artefact, expected) in job.result["files"].items():
                made, place = job.store.folder / artefact, self.setup.out / name
                if made.exists():
                    made.replace(place)
                elif not (place.is_file() and file_digest(place) == expected):
                    raise UserError(f"{name} was changed while the batch was running: run it again")


def _write_track(video: Path, face: str, path: Path) -> None:
    save_track(FaceTrack.from_video(video, choice=face), path)


def _distance(job: Job, placements: Sequence[Placement]) -> float:
    """Mean difference between the length of the speech and that of its cue, as a share of the cue."""
    shares = [
        abs(p.samples / p.tempo + p.cut * SAMPLE_RATE - s.frames * HOP) / (s.frames * HOP)
        for s, p in zip(job.segments, placements, strict=True)
    ]
    return round(sum(shares) / len(shares), 4)
