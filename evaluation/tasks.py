"""Measure the tasks on held-out clips: video for speech, speech for video, speech only, or both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from evaluation.heldout import Case, Performance, as_tensor
from evaluation.report import Cell, write_wav
from evaluation.speech import Errors, phoneme_errors, recogniser
from evaluation.sync import MAX_OFFSET, measure, sync_net
from heads.sampling import Sampling
from talker.clips.clip import Chunk, Clip
from talker.media.encoders import VideoWriter
from talker.pipeline import Talker

TASKS = ("a2v", "a2v_no_text", "v2a", "tts")
Row = dict[str, Cell]


def write_given(case: Case, frames: NDArray[np.uint8], folder: Path) -> tuple[Path, Path, Path, Path]:
    """Write the inputs of a clip into `folder` and return the paths: sound, video, voice prompt, portrait."""
    names = ("given.wav", "given.mp4", "voice.wav", "face.png")
    sound, video, prompt, face = (folder / f"{case.name}-{name}" for name in names)
    write_wav(sound, case.pcm)
    write_wav(prompt, case.prompt)
    Image.fromarray(case.portrait).save(face)
    with VideoWriter(video, frames.shape[1]) as writer:
        writer.write(case.pcm.numpy(), frames)
    return sound, video, prompt, face


def perform_clip(
    talker: Talker,
    performance: Performance,
    folder: Path,
    tasks: Sequence[str],
    seed: int = 0,
    sampling: Sampling | None = None,
) -> Iterator[Row]:
    """Yield a row of measurements for each of `tasks`, which are those of TASKS and "t2av".

    Inputs and outputs are saved in `folder`. The cell `exact` is whether the output has as many samples and
    frames as the given stream.
    """
    case, frames = performance
    sound, video, prompt, face = write_given(case, frames, folder)
    voice, portrait = talker.voice(prompt), talker.portrait(face, crop="none")
    makers: dict[str, Callable[..., Clip]] = {
        "t2av": partial(talker.say, case.text, voice, portrait),
        "a2v": partial(talker.animate, sound, portrait, text=case.text),
        "a2v_no_text": partial(talker.animate, sound, portrait),
        "v2a": partial(talker.dub, video, case.text, voice, crop="none"),
        "tts": partial(talker.say, case.text, voice, audio_only=True),
    }
    for task in tasks:
        chunks: list[Chunk] = []
        path = folder / f"{case.name}-{task}.{'wav' if task == 'tts' else 'mp4'}"
        made = makers[task](seed=seed, sampling=sampling).save(path, chunks.append)
        heard = torch.from_numpy(np.concatenate([chunk.pcm for chunk in chunks]))
        shown = frames if task == "v2a" else np.concatenate([chunk.frames for chunk in chunks])
        row: Row = {"clip": case.name, "task": task, "end": made.finish_reason, "rtf": made.rtf}
        row["seconds"] = made.duration_seconds
        if len(shown) > MAX_OFFSET:
            sync = measure(sync_net(), as_tensor(shown), heard)
            row |= {"offset": sync.offset, "confidence": sync.confidence}
        if task.startswith(("a2v", "v2a")):
            row["exact"] = len(shown) == len(frames) and len(heard) == len(case.pcm)
        if not task.startswith("a2v"):
            errors = phoneme_errors(recogniser().transcribe(heard), case.phonemes)
            row |= {"per": errors.rate, "edits": errors.edits, "phonemes": errors.reference}
        yield row


def task_figures(rows: Sequence[Row]) -> dict[str, Cell]:
    """Return the totals of each task: PER, share of offsets within one frame, share of exact lengths."""
    figures: dict[str, Cell] = {}
    for task in TASKS:
        own = [row for row in rows if row["task"] == task]
        if errors := [Errors(int(row["edits"]), int(row["phonemes"])) for row in own if "edits" in row]:  # type: ignore[arg-type]
            figures[f"{task}_per"] = sum(errors, Errors()).rate
        if offsets := [abs(float(row["offset"])) <= 1 for row in own if "offset" in row]:  # type: ignore[arg-type]
            figures[f"{task}_share_offset_within_1"] = sum(offsets) / len(offsets)
            figures[f"{task}_share_exact"] = sum(bool(row["exact"]) for row in own) / len(own)
    return figures
