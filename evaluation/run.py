"""Measure a model on the held-out texts, voices and faces of the corpus.

    python -m evaluation.run [--split heldout] [-n 40] [--tasks 20] [--pairs 500] [--parts talker ...]

Prints a table, and writes report.json and an mp4 and a contact sheet per clip into runs/evaluation/NAME. With
--name NAME, the same command continues an interrupted measurement.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import statistics
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from talker.signals import announce, command, exit_on_signals

if __name__ == "__main__":  # before imports that take seconds
    announce("evaluation.run")

import numpy as np
import torch
from PIL import Image

from audio_vae.config import AudioVAEConfig
from audio_vae.model import AudioVAE
from evaluation.codecs import Reenactment, reenact, round_trip
from evaluation.heldout import Case, as_tensor, cases, pairs, performances
from evaluation.report import Cell, contact_sheet, table, write_json, write_wav
from evaluation.silence import silent_frames, spoken_seconds
from evaluation.speech import Errors, phoneme_errors, recogniser
from evaluation.sync import MAX_OFFSET, measure, mouth_opening, sync_net
from evaluation.tasks import TASKS, perform_clip, task_figures
from evaluation.threads import torch_threads
from motion_ae.config import MotionAEConfig
from motion_ae.model import MotionAE
from puppet.sentences import SPLITS, Split
from talker.checkpoint import load_component
from talker.errors import UserError
from talker.pipeline import Talker
from talker.progress import track
from talker.shipped import PUPPET, model_folder

MEASURED = "measured.jsonl"
PARTS = ("talker", "tasks", "audio_vae", "motion_ae")
CLOSED = 0.1
"""Mouth openings below this count as closed; `evaluation.validate` prints the openings of corpus clips."""

Row = dict[str, Cell]


def say(talker: Talker, case: Case, seed: int, folder: Path) -> Row:
    """Let `talker` say a case, save mp4 and contact sheet into `folder`, and return the measurements."""
    voice_path, face_path = folder / f"{case.name}-voice.wav", folder / f"{case.name}-portrait.png"
    write_wav(voice_path, case.prompt)
    Image.fromarray(case.portrait).save(face_path)
    # The portraits of the corpus need no crop.
    voice, face = talker.voice(voice_path), talker.portrait(face_path, crop="none")
    chunks: list[Any] = []
    made = talker.say(case.text, voice, face, seed=seed).save(folder / f"{case.name}.mp4", chunks.append)
    pcm = torch.from_numpy(np.concatenate([chunk.pcm for chunk in chunks]))
    frames = np.concatenate([chunk.frames for chunk in chunks])
    opening = mouth_opening(sync_net(), as_tensor(frames))
    errors = phoneme_errors(said := recogniser().transcribe(pcm), case.phonemes)
    quiet = silent_frames(pcm)[: len(opening)]
    row: Row = {
        "clip": case.name,
        "per": errors.rate,
        "edits": errors.edits,
        "phonemes": errors.reference,
        "end": made.finish_reason,
        "seconds": made.duration_seconds,
        "duration_ratio": spoken_seconds(pcm) / spoken_seconds(case.pcm),
        "rtf": made.rtf,
        "first_chunk": made.first_chunk_seconds,
        "silent_closed": float((opening[quiet] < CLOSED).float().mean()) if quiet.any() else None,
    }
    if len(frames) > MAX_OFFSET:
        sync = measure(sync_net(), as_tensor(frames), pcm)
        row |= {"offset": sync.offset, "confidence": sync.confidence}
    title = f"{case.name}  {case.text}"
    sheet = contact_sheet(title, {f"PER {errors.rate:.2f}": (frames, pcm.numpy(), opening.numpy())})
    sheet.save(folder / f"{case.name}.png")
    return row | {"text": case.text, "heard": " ".join(said), "espeak": " ".join(case.phonemes)}


def talker_figures(rows: Sequence[Row], truth: Sequence[Case]) -> dict[str, Cell]:
    """Return the totals over all generated clips; `truth` are their cases."""
    heard = [str(row["heard"]).split() for row in rows]
    expected = [case.phonemes for case in truth]
    shuffled = [*expected[1:], *expected[:1]]
    closed = [row["silent_closed"] for row in rows if isinstance(row["silent_closed"], float)]
    return {
        "per": pooled(heard, expected),
        "per_shuffled": pooled(heard, shuffled),
        "share_stopped": share([row["end"] == "stop" for row in rows]),
        "share_duration_within_25": share([abs(number(row, "duration_ratio") - 1) <= 0.25 for row in rows]),
        "share_stopped_within_25": share(
            [row["end"] == "stop" and abs(number(row, "duration_ratio") - 1) <= 0.25 for row in rows]
        ),
        "duration_ratio_median": statistics.median(number(row, "duration_ratio") for row in rows),
        "share_offset_within_1": share(["offset" in row and abs(number(row, "offset")) <= 1 for row in rows]),
        "confidence_mean": statistics.fmean(
            [number(row, "confidence") for row in rows if "confidence" in row]
        ),
        "silent_closed": statistics.fmean(closed) if closed else None,
        "rtf_mean": statistics.fmean(number(row, "rtf") for row in rows),
    }


def pooled(heard: Sequence[list[str]], expected: Sequence[list[str]]) -> float:
    """Return the PER over all clips."""
    return sum((phoneme_errors(h, e) for h, e in zip(heard, expected, strict=True)), Errors()).rate


def share(flags: Sequence[bool]) -> float:
    """Return the share of true values."""
    return sum(flags) / len(flags)


def number(row: Row, name: str) -> float:
    """Return a cell that must contain a number."""
    return float(row[name])  # type: ignore[arg-type]


def audio_figures(truth: Sequence[Case], root: Path) -> dict[str, Cell]:
    """Return the PER of the corpus's audio before and after the audio VAE; `root` is the model's folder."""
    vae = load_component(AudioVAE, AudioVAEConfig, root / "audio_vae")
    expected = [case.phonemes for case in truth]
    model, tracked = recogniser(), partial(track, truth, total=len(truth))
    return {
        "per_corpus": pooled([model.transcribe(case.pcm) for case in tracked("corpus")], expected),
        "per_audio_vae": pooled(
            [model.transcribe(round_trip(vae, case.pcm)) for case in tracked("audio VAE")], expected
        ),
    }


def motion_figures(split: Split, count: int, root: Path) -> dict[str, Cell]:
    """Return the reenactment quality of the motion autoencoder over `count` pairs of frames."""
    model = load_component(MotionAE, MotionAEConfig, root / "motion_ae")
    total = Reenactment()
    for source, target, box in track(pairs(split, count), "pairs", count):
        total += reenact(model, source, target, box)
    return dict(total.figures())


# Bounds that the figures should satisfy.
TARGETS = {
    "per": ("<=", 0.15),
    "per_shuffled": (">=", 0.70),
    "per_corpus": ("<=", 0.05),
    "per_audio_vae": ("<=", 0.10),
    "share_stopped_within_25": (">=", 0.90),
    "share_offset_within_1": (">=", 0.80),
    "a2v_share_offset_within_1": (">=", 0.80),
    "a2v_no_text_share_offset_within_1": (">=", 0.70),
    "v2a_share_offset_within_1": (">=", 0.80),
    "mouth_db": (">=", 24.0),
    "mouth_gain_db": (">=", 5.0),
    "rtf_mean": ("<=", 1.0),
}


def compare_with_targets(figures: dict[str, Cell]) -> list[Row]:
    """Return a table row per figure: its value, its target if it has one, and whether the value meets it."""
    lines: list[Row] = []
    for name, value in figures.items():
        line: Row = {"figure": name, "value": value}
        if name in TARGETS and isinstance(value, int | float):
            sign, bound = TARGETS[name]
            met = value <= bound if sign == "<=" else value >= bound
            line |= {"target": f"{sign} {bound:g}", "met": "yes" if met else "NO"}
        lines.append(line)
    return lines


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--split", default="heldout", choices=SPLITS)
    parser.add_argument("-n", type=int, default=40, help="number of texts to say")
    parser.add_argument("--tasks", type=int, default=20, help="number of clips for each of the other tasks")
    parser.add_argument(
        "--pairs", type=int, default=500, help="number of pairs of frames for the motion autoencoder"
    )
    parser.add_argument("--model", type=Path, default=PUPPET, help="folder of a native checkpoint")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS, help="what to measure")
    parser.add_argument(
        "--name",
        default=datetime.datetime.now().strftime("%Y-%m-%d-%H%M"),
        help="output folder under runs/evaluation",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of torch")
    options = parser.parse_args()
    for name in ("n", "tasks", "pairs", "threads"):
        if getattr(options, name) < 1:
            parser.error(f"-{'-'[: len(name) > 1]}{name} must be at least 1, not {getattr(options, name)}")
    folder = Path("runs/evaluation") / options.name
    again = command() if "--name" in sys.argv else f"{command()} --name {options.name}"
    saved = f"measured clips are kept in {folder}/{MEASURED}; continue with: {again}"
    try:
        options.model = model_folder(options.model)
        with exit_on_signals(saved), torch_threads(options.threads):
            evaluate(options, folder)
    except UserError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def evaluate(options: argparse.Namespace, folder: Path) -> None:
    """Measure the chosen parts, print the figures, and write the report into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {name: str(value) for name, value in vars(options).items()}
    measured = Measured(folder / MEASURED, settings)
    truth = list(track(cases(options.split, options.n), "texts", options.n))
    rows: list[Row] = []
    figures: dict[str, Cell] = {}
    if "talker" in options.parts:
        talker = Talker.from_pretrained(options.model)
        for i, case in enumerate(track(truth, "clips", len(truth))):
            if case.name not in measured.rows:
                measured.add(case.name, [say(talker, case, options.seed + i, folder)])
            rows += measured.rows[case.name]
            print(f"{i + 1}/{len(truth)}  PER {rows[-1]['per']:.3f}  {case.text}", flush=True)
        figures |= talker_figures(rows, truth)
        print(table([{k: v for k, v in r.items() if k not in ("text", "heard", "espeak")} for r in rows]))
    if "tasks" in options.parts:
        talker, others = Talker.from_pretrained(options.model), list[Row]()
        for one in track(performances(options.split, options.tasks), "clips of the tasks", options.tasks):
            name = f"{one[0].name} tasks"
            if name not in measured.rows:
                measured.add(name, list(perform_clip(talker, one, folder, TASKS, options.seed)))
            others += measured.rows[name]
            for row in measured.rows[name]:
                print("  ".join(f"{column} {value}" for column, value in row.items()), flush=True)
        figures |= task_figures(others)
        rows += others
    if "audio_vae" in options.parts:
        figures |= audio_figures(truth, options.model)
    if "motion_ae" in options.parts:
        figures |= motion_figures(options.split, options.pairs, options.model)
    print(table(compare_with_targets(figures)))
    write_json({"settings": settings, "figures": figures, "clips": rows}, folder / "report.json")
    measured.path.unlink(missing_ok=True)
    print(f"{folder}/report.json, one mp4 and one contact sheet per clip in the same folder")


class Measured:
    """The rows of the clips that an interrupted measurement has finished, in a file with one clip per line.

    Rows that were measured with other settings, and a line that was cut short, are measured again.

    Args:
        path: the file; appended to.
        settings: what the rows depend on.

    Attributes:
        rows: the rows of each finished clip, by name.
    """

    def __init__(self, path: Path, settings: dict[str, str]) -> None:
        self.path, self._settings = path, settings
        self.rows: dict[str, list[Row]] = {}
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        for line in lines:
            with contextlib.suppress(ValueError, TypeError, KeyError):
                held = json.loads(line)
                if held["settings"] == settings:
                    self.rows[held["clip"]] = held["rows"]
        if self.rows:
            print(f"{path}: {len(self.rows)} clips are measured already", flush=True)

    def add(self, clip: str, rows: list[Row]) -> None:
        """Store the rows of a clip."""
        self.rows[clip] = rows
        line = json.dumps({"settings": self._settings, "clip": clip, "rows": rows})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")  # begins a new line, because the last one can be cut short


if __name__ == "__main__":
    main()
