"""Files beside a finished video: captions, times of the words, and the picture strip of the report."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from talker.batch.cues import Cue, write_captions
from talker.batch.fit import Placement
from talker.batch.job import Job
from talker.batch.mode import Takes
from talker.batch.store import file_digest
from talker.clock import FRAME_RATE, SAMPLE_RATE

CAPTION_WORDS = 8  # of a caption that is made of the words of a text
Words = list[dict[str, Any]]


def write_beside(
    job: Job,
    strip: Image.Image,
    placements: Sequence[Placement],
    takes: Takes,
) -> dict[str, list[str]]:
    """Write the files into the work folder; returns name of the file -> its artefact and digest.

    The times of words are written if the model has an alignment.
    """
    words = word_times(placements, [record for _, record in takes])
    spoken = [
        Cue(p.start / SAMPLE_RATE, (p.start + p.samples) / SAMPLE_RATE, segment.cue.text)
        for segment, p in zip(job.segments, placements, strict=True)
        if segment.cue.text and p.samples
    ]
    has_cues = job.inputs is not None and job.inputs.cues is not None
    captions = spoken if has_cues or not words else captions_of(words, spoken[-1].end)
    made: dict[str, tuple[str, Callable[[Path], object]]] = {
        f"{job.row.id}.vtt": (f"captions-{job.key}.vtt", lambda path: write_captions(path, captions)),
        f"report/{job.row.id}.jpg": (f"strip-{job.key}.jpg", partial(strip.save, quality=80)),
    }
    if words:
        text = json.dumps(words, indent=1, ensure_ascii=False) + "\n"
        made[f"{job.row.id}.words.json"] = (
            f"words-{job.key}.json",
            lambda path: path.write_text(text, encoding="utf-8"),
        )
    return {
        name: [artefact, file_digest(job.store.make(artefact, write))]
        for name, (artefact, write) in made.items()
    }


def word_times(placements: Sequence[Placement], records: Sequence[dict[str, Any]]) -> Words:
    """The words with their start in seconds of the video; empty if the model has no alignment."""
    return [
        {"word": word, "start": round(p.start / SAMPLE_RATE + frame / FRAME_RATE / p.tempo, 3)}
        for p, record in zip(placements, records, strict=True)
        for word, frame in record["words"]
        if frame / FRAME_RATE / p.tempo < p.samples / SAMPLE_RATE
    ]


def captions_of(words: Words, end: float) -> list[Cue]:
    """Captions of up to CAPTION_WORDS words each, by the times of the words."""
    groups = [words[first : first + CAPTION_WORDS] for first in range(0, len(words), CAPTION_WORDS)]
    ends = [*(group[0]["start"] for group in groups[1:]), end]
    return [
        Cue(group[0]["start"], max(stop, group[0]["start"]), " ".join(word["word"] for word in group))
        for group, stop in zip(groups, ends, strict=True)
    ]
