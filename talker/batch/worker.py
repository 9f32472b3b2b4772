"""Dubs clips as rows of one running batch: prepares them, generates their cues, writes and measures."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from heads.sampling import Sampling
from talker.batch.cues import Cue, write_captions
from talker.batch.fit import Placement
from talker.batch.inputs import find_inputs
from talker.batch.job import (
    ClipError,
    Job,
    Segment,
    load_codes,
    load_take,
    load_track,
    save_codes,
    save_take,
    save_track,
    segments_of,
)
from talker.batch.manifest import DUCK, Row
from talker.batch.measures import Spoken, measure
from talker.batch.setup import Setup
from talker.batch.soundtrack import BROADCAST, MIX_LAYOUT, MIX_RATE, Track, mixed, old_loudness
from talker.batch.store import WORK, Store, code_digest, digest, key_of, read_json, weights_digest
from talker.clips.clip import Clip, Generate, Piece, Writer
from talker.clips.dub import Dubbing
from talker.clips.record import Record
from talker.clips.text import sentences_of
from talker.clock import FRAME_RATE, SAMPLE_RATE
from talker.errors import UserError
from talker.identity import Voice
from talker.media.face_track import FaceTrack
from talker.media.programme_writer import ProgrammeWriter
from talker.media.provenance import generated_tags, origin_of
from talker.media.readers import read_voice
from talker.media.remux import copy_extension
from talker.pipeline import Talker
from talker.system import System

SILENT_CLIP = "the speech is silent"


@dataclass(frozen=True, repr=False)
class Nothing(Clip):
    """A plan without patches: it passes a clip on that needs no generation."""

    system: System
    job: Job
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

    def writer(self, path: str | Path) -> Writer:  # type: ignore[override]
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
        torch.set_num_threads(setup.threads)
        self.notify = notify
        self.setup, self.talker = setup, Talker(System.load(setup.model))
        self.version: dict[str, Any] = {
            "code": code_digest(),
            "weights": weights_digest(setup.model),
            "capacity": setup.capacity,
            "threads": setup.threads,
            "processor": f"{self.talker.system.device.type} {torch.backends.cpu.get_cpu_capability()}",
        }
        self._voices: dict[Path, Voice] = {}
        self._plans: dict[int, tuple[Clip, Job, Segment | None, str]] = {}

    def run(self, rows: Iterable[Row]) -> Iterator[dict[str, Any]]:
        """Dub clips, several at once, and yield the result of each as it is finished, also if it failed."""
        for take in self.talker.map(self._planned(rows), self.setup.capacity, ordered=False):
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

    # -- preparation ---------------------------------------------------------------------------------------

    def _planned(self, rows: Iterable[Row]) -> Iterator[Clip]:
        """A plan for each cue that is to be generated, or one `Nothing` for a clip without any."""
        for row in rows:
            job = Job(row, self.setup.root, Store(self.setup.out / WORK), notify=partial(self.notify, row.id))
            plans: list[tuple[Clip, Segment | None, str]] = []
            try:
                plans += self._prepare(job)
            except ClipError as error:
                job.failure = error
            job.waiting = len(plans)
            for clip, segment, name in plans or [(Nothing(self.talker.system, job), None, "")]:
                self._plans[id(clip)] = clip, job, segment, name
                yield clip

    def _prepare(self, job: Job) -> list[tuple[Clip, Segment, str]]:
        """Fill the job up to its speech; returns the cues that are to be generated."""
        with job.stage("check"):
            inputs = job.inputs = find_inputs(job.row, self.setup.root)
            job.key = self._key(job)
            job.suffix = copy_extension(inputs.video)
            output = self.setup.out / f"{job.row.id}{job.suffix}"
            if output.is_dir():
                raise UserError(f"{output.name} is a folder: move it away")
        if (result := self._stored(job)) is not None:
            job.result = result
            return []
        with job.stage("face"):
            name = self._name("track", "json", video=digest(inputs.video), face=job.row.face)
            job.track = load_track(job.store.make(name, partial(_write_track, inputs.video, job.row.face)))
            job.segments = segments_of(inputs, job.track, job.warnings)
        with job.stage("motion"):
            name = self._name("motion", "npy", video=digest(inputs.video), face=job.row.face)
            codes = load_codes(job.store.make(name, partial(self._write_codes, inputs.video, job.track)))
        plans = []
        with job.stage("voice"):
            voices = {speaker: self._voice(path) for speaker, path in inputs.voices.items()}
        for segment in job.segments:
            given = codes[segment.first : segment.last].clone()
            voice = voices.get(segment.cue.speaker, voices[""])
            name = self._name(
                "speech",
                "safetensors",
                text=segment.cue.text,
                motion=hashlib.sha256(given.numpy().tobytes()).hexdigest(),
                voice=digest(inputs.voices.get(segment.cue.speaker, inputs.voices[""])),
                seed=segment.seed,
                sampling=dataclasses.asdict(self._sampling(job.row)),
            )
            job.speech.append(name)
            if not job.store.path(name).exists():
                with job.stage("text"):
                    plans.append((self._dubbing(job, segment, given, voice), segment, name))
        return plans

    def _key(self, job: Job) -> str:
        """Digest of everything that the result depends on."""
        assert job.inputs is not None
        files = [digest(path) for path in job.inputs.files]
        cues = None if job.inputs.cues is None else [dataclasses.asdict(cue) for cue in job.inputs.cues]
        return key_of(**self.version, row=dataclasses.asdict(job.row), files=files, cues=cues)

    def _name(self, stage: str, suffix: str, **inputs: Any) -> str:
        """Name of an artefact."""
        version = self.version if stage in ("speech", "motion") else {"code": self.version["code"]}
        return f"{stage}-{key_of(**version, stage=stage, **inputs)}.{suffix}"

    def _write_codes(self, video: Path, track: FaceTrack, path: Path) -> None:
        system = self.talker.system
        codes = list(system.read_motion(track.pictures(video, system.resolution)))
        save_codes(torch.cat(codes), path)

    def _voice(self, path: Path) -> Voice:
        if path not in self._voices:
            self._voices[path] = Voice(path.stem, self.talker.system.embed_voice(read_voice(path)))
        return self._voices[path]

    def _sampling(self, row: Row) -> Sampling:
        given = {name: getattr(row, name) for name in ("steps", "guidance", "temperature", "sway")}
        changed = {name: value for name, value in given.items() if value is not None}
        return dataclasses.replace(self.talker.system.generator.defaults.sampling, **changed)

    def _dubbing(self, job: Job, segment: Segment, given: torch.Tensor, voice: Voice) -> Dubbing:
        assert job.inputs is not None
        system, seconds = self.talker.system, Fraction(segment.frames, FRAME_RATE)
        return Dubbing(
            system,
            job.inputs.video,
            FaceTrack(Fraction(0), seconds, None),
            sentences_of(system, segment.cue.text),
            voice,
            segment.seed,
            self._sampling(job.row),
            given,
        )

    # -- finishing -----------------------------------------------------------------------------------------

    def _finished(self, job: Job) -> dict[str, Any]:
        """The result of a clip whose speech has been generated, or has failed."""
        try:
            if job.failure is not None:
                raise job.failure
            if job.result is None:
                job.result = self._made(job)
            self._deliver(job)
        except ClipError as error:
            return {
                "id": job.row.id,
                "status": "failed",
                "stage": error.stage,
                "reason": error.reason,
                "warnings": job.warnings,
                "artefacts": sorted(job.store.used),
                "timing": job.timing,
            }
        return {**job.result, "timing": job.timing}

    def _made(self, job: Job) -> dict[str, Any]:
        """Write and measure the files of a clip, in the work folder; returns its result."""
        inputs, track = job.inputs, job.track
        assert inputs is not None
        assert track is not None
        with job.stage("fit"):
            takes = [load_take(job.store.path(name)) for name in job.speech]
            placements = [
                Placement(s.first * SAMPLE_RATE // FRAME_RATE, s.frames * SAMPLE_RATE // FRAME_RATE)
                for s in job.segments
            ]
            total = round(track.seconds * SAMPLE_RATE)
            placements = [dataclasses.replace(p, samples=min(p.samples, total - p.start)) for p in placements]
            for segment, (_, record) in zip(job.segments, takes, strict=True):
                if record["finish_reason"] == "overflow":
                    job.warnings.append(
                        f"overflow: the words of the cue at {segment.cue.start:.2f} s do not fit"
                    )
            speech = Track(job.store.folder, total)
            decoded = [partial(self._decoded, latents["audio"]) for latents, _ in takes]
            speech.write(list(zip(placements, decoded, strict=True)))
            wanted = job.row.loudness
            if wanted is None:
                wanted = old_loudness(inputs.video, track.start)
            speech.set_loudness(BROADCAST if wanted is None else wanted)
            if not np.isfinite(speech.loudness):
                job.warnings.append(SILENT_CLIP)
            if speech.limited:
                job.warnings.append("the speech is softer than wanted, because of its peaks")
        media = job.store.path(f"media-{job.key}{job.suffix}")
        with job.stage("mux"):
            self._write_media(job, media, speech, placements)
            speech.close()
        spoken = [
            Spoken(s.cue.text, p.start / SAMPLE_RATE, (p.start + p.samples) / SAMPLE_RATE)
            for s, p in zip(job.segments, placements, strict=True)
        ]
        with job.stage("measure"):
            voice = self._voice(inputs.voices[""]) if len(inputs.voices) == 1 else None
            measured = measure(self.talker.system, media, track, spoken, voice)
            words = _word_times(job.segments, takes)
            files = self._write_beside(job, measured.strip, words)
        result = {
            "id": job.row.id,
            "status": "ok",
            "mode": inputs.mode,
            "output": f"{job.row.id}{job.suffix}",
            "seconds": round(float(track.seconds), 3),
            "cues": len(job.segments),
            "warnings": job.warnings,
            "metrics": measured.metrics,
            "artefacts": sorted(job.store.used),
            "files": {f"{job.row.id}{job.suffix}": [media.name, _file_digest(media)], **files},
        }
        job.store.write_json(job.store.path(f"result-{job.key}.json"), result)
        return result

    def _write_media(self, job: Job, media: Path, speech: Track, placements: Sequence[Placement]) -> None:
        inputs, track = job.inputs, job.track
        assert inputs is not None
        assert track is not None
        notes = job.store.path(f"notes-{job.key}.json")
        if media.exists() and (dropped := read_json(notes)) is not None:
            job.warnings += dropped
            return
        below = inputs.stem or (inputs.video if job.row.background == DUCK else None)
        rate, layout, sound = SAMPLE_RATE, "mono", speech.blocks()
        if below is not None:
            start = Fraction(0) if inputs.stem else track.start
            ducked = None if inputs.stem else placements
            rate, layout, sound = MIX_RATE, MIX_LAYOUT, mixed(speech, below, start, ducked)
        names = sorted({voice.name for voice in map(self._voice, inputs.voices.values())})
        tags = generated_tags(
            f"synthesised in the voice {', '.join(names)}", origin_of(inputs.video, "video")
        )
        with ProgrammeWriter(
            media, inputs.video, track.start, rate, layout, tags, job.row.keep_sound
        ) as writer:
            for block in sound:
                writer.write(block)
            job.store.write_json(notes, writer.dropped)
        job.warnings += writer.dropped

    def _decoded(self, latents: torch.Tensor) -> Iterator[NDArray[np.float32]]:
        yield from self.talker.system.decode(latents.split(self.talker.system.patch_frames))

    def _write_beside(self, job: Job, strip: Any, words: list[dict[str, Any]]) -> dict[str, list[str]]:
        """Write captions, word times and picture strip; returns name -> artefact and its digest."""
        cues = [segment.cue for segment in job.segments]
        captions = cues if job.inputs and job.inputs.cues is not None else _captions(job.segments, words)
        made = {
            f"{job.row.id}.vtt": (f"captions-{job.key}.vtt", partial(_write_captions, captions)),
            f"report/{job.row.id}.jpg": (f"strip-{job.key}.jpg", partial(_write_strip, strip)),
        }
        if words:
            made[f"{job.row.id}.words.json"] = (f"words-{job.key}.json", partial(_write_words, words))
        return {
            name: [artefact, _file_digest(job.store.make(artefact, write))]
            for name, (artefact, write) in made.items()
        }

    def _stored(self, job: Job) -> dict[str, Any] | None:
        """The result of an earlier run, if all of its files still exist."""
        result = read_json(job.store.path(f"result-{job.key}.json"))
        if result is None:
            return None
        for name, (artefact, expected) in result["files"].items():
            paths = (self.setup.out / name, job.store.folder / artefact)
            if not any(path.is_file() and _file_digest(path) == expected for path in paths):
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
                elif not (place.is_file() and _file_digest(place) == expected):
                    raise UserError(f"{name} was changed while the batch was running: run it again")


def _write_track(video: Path, face: str, path: Path) -> None:
    save_track(FaceTrack.from_video(video, choice=face), path)


def _write_captions(cues: Sequence[Cue], path: Path) -> None:
    write_captions(path, cues)


def _write_strip(strip: Any, path: Path) -> None:
    strip.save(path, quality=80)


def _write_words(words: list[dict[str, Any]], path: Path) -> None:
    path.write_text(json.dumps(words, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _word_times(segments: Sequence[Segment], takes: Sequence[Any]) -> list[dict[str, Any]]:
    """The words with their start in seconds of the video; empty if the model has no alignment."""
    return [
        {"word": word, "start": round((segment.first + frame) / FRAME_RATE, 3)}
        for segment, (_, record) in zip(segments, takes, strict=True)
        for word, frame in record["words"]
    ]


def _captions(segments: Sequence[Segment], words: list[dict[str, Any]]) -> list[Cue]:
    """Captions of a text: up to CAPTION_WORDS words each, by the times of the words."""
    if not words:
        return [segment.cue for segment in segments]
    groups = [words[first : first + 8] for first in range(0, len(words), 8)]
    ends = [*(group[0]["start"] for group in groups[1:]), segments[-1].cue.end]
    return [
        Cue(group[0]["start"], max(end, group[0]["start"]), " ".join(word["word"] for word in group))
        for group, end in zip(groups, ends, strict=True)
    ]


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
