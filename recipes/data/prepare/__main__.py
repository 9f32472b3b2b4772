"""Raw talking videos -> what the talker trains on.

    python -m recipes.data.prepare SOURCE --out DIR [--workers N]

SOURCE is a folder of videos, a list of them (one path a line), or the folder of the published data set
(metadata/train.csv). A transcript lies beside its video as .json (whisper's), .srt or .txt; without one,
--transcribe writes it.

Three stages, each resumed where it stood after any interruption: DIR/clips (one face, 25 fps, 24 kHz, up to
30 s), DIR/latents (audio latents, motion codes, speaker embeddings), DIR/shards with DIR/index.jsonl and
DIR/stats.safetensors. What was left out and why stands in DIR/report.json. New videos in SOURCE are added by
the same command.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # imports take seconds; Ctrl-C ends them without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from tqdm import tqdm

from motion_ae.config import MotionAEConfig
from recipes.data.prepare.clips import UNFINISHED, Record, discard, make_clips
from recipes.data.prepare.detect import retinaface
from recipes.data.prepare.encode import Encoders, Setup, encode_released, encode_videos
from recipes.data.prepare.pack import HELDOUT, pack
from recipes.data.prepare.parallel import DISK_FULL, in_processes
from recipes.data.prepare.samples import read_told
from recipes.data.prepare.sources import Source, find_sources
from recipes.data.released import DAMAGED, METADATA, MISSING, Released
from recipes.data.tar_shards import INDEX, STATS, Entry
from talker.checkpoint import PUPPET, atomic, config_from_dict
from talker.clips.transcript import whisper_weights
from talker.clock import FRAME_RATE
from talker.errors import UserError

SETTINGS, REPORT = "settings.json", "report.json"
# So a process ends by what a video does to its decoder. However else it is lost, the video is not at fault,
# and the next run tries it again.
CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT)
LOST = "process lost, out of memory perhaps"
TOGETHER = 16  # videos that one process encodes with once loaded networks
BLOCK = 64  # rows of the published table in one file of latents


def prepare(source: Path, out: Path, setup: Setup, detector: Path | None, workers: int) -> dict[str, Any]:
    """Run what is left to do of the three stages; returns the report that it also writes.

    Raises:
        UserError: nothing to prepare, other settings than before, missing weights, another process at work
            there, or a worker killed twice.
        OSError: the disk is full (ENOSPC), or fails.
    """
    # Whatever is wrong with what is given shows before anything is written.
    published = (source / METADATA).is_file()
    sources = [] if published else find_sources(source, out)
    quiet = Encoders(setup).quiet()
    if detector:
        retinaface(detector, setup.device)
    for folder in (out, out / "clips", out / "latents"):
        folder.mkdir(parents=True, exist_ok=True)
    with (out / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"{out} is being prepared by another process: wait for it") from error
        _same_settings(out, setup, detector)
        _tidy(out)
        if published:
            data, records = Released(source), list[Record]()
            keys, damaged = _published(data, out, setup, workers), data.damaged
        else:
            keys, damaged = [one.key for one in sources], []
            records = _clips(sources, out, setup, detector, workers)
            left = [key for key in keys if not (out / "latents" / f"{key}.npz").exists()]
            jobs = [(setup, out / "clips", out / "latents", part) for part in _parts(left, TOGETHER)]
            _encode(encode_videos, jobs, workers)
        _tidy(out)  # what processes that were tried again have left
        entries = pack(out / "latents", keys, quiet, out)
        return _report(out, keys, records, entries, damaged)


def _same_settings(out: Path, setup: Setup, detector: Path | None) -> None:
    """Raises UserError where DIR holds something that was made otherwise."""
    weights = [setup.weights / part / "model.safetensors" for part in ("audio_vae", "motion_ae", "speaker")]
    settings = {
        "weights": [_digest(path) for path in weights],
        "retinaface": detector and _digest(detector),
        "whisper": setup.whisper and _digest(setup.whisper),
        "least_sync": setup.least_sync,
    }
    path = out / SETTINGS
    if not path.exists():
        with atomic(path) as temporary:
            temporary.write_text(json.dumps(settings, indent=1))
    elif json.loads(path.read_text()) != settings:
        raise UserError(f"{out} was prepared with other weights or limits: choose another --out")


def _tidy(out: Path) -> None:
    """Remove what killed processes were writing."""
    halves = [path for name in (SETTINGS, HELDOUT, STATS, INDEX, REPORT) for path in out.glob(f".{name}.*")]
    for path in (*halves, *(out / "latents").glob(".*")):
        path.unlink(missing_ok=True)
    for path in list((out / "clips").glob(f"{UNFINISHED}*")):
        discard(path)


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): name existing weights") from error


def _clips(
    sources: Sequence[Source], out: Path, setup: Setup, detector: Path | None, workers: int
) -> list[Record]:
    """First stage: a record for each source, in their order."""
    folder = out / "clips"
    config = json.loads((setup.weights / "motion_ae" / "config.json").read_text())
    resolution = config_from_dict(MotionAEConfig, config).resolution
    found = (detector, setup.device) if detector else None
    jobs = []
    for source in sources:
        if (folder / source.key).exists():
            record = Record.read(folder / source.key)
            if record.stamp == source.stamp and LOST not in record.lost:
                continue
            (out / "latents" / f"{source.key}.npz").unlink(missing_ok=True)
            discard(folder / source.key)
        jobs.append((source, folder / source.key, resolution, found))
    bar = tqdm(in_processes(make_clips, jobs, workers), "clips", len(jobs), file=sys.stdout, disable=not jobs)
    for (source, own, *_), code in bar:
        if code and not own.exists():
            name = signal.Signals(-code).name if code < 0 else f"exit {code}"
            why = "crashed" if -code in CRASHES else LOST
            unfinished = folder / f"{UNFINISHED}{source.key}"
            unfinished.mkdir()
            Record(source.name, source.stamp, [], {why: 1}, [f"{why} ({name})"]).write(unfinished)
            unfinished.rename(own)
    return [Record.read(folder / source.key) for source in sources]


def _published(data: Released, out: Path, setup: Setup, workers: int) -> list[str]:
    """Second stage of the published data set; returns the keys of its blocks of rows."""
    rows, blocks = data.rows, []
    for first in range(0, len(rows), BLOCK):
        block = rows[first : first + BLOCK]
        digest = hashlib.sha256(repr(block).encode()).hexdigest()[:8]
        blocks.append((f"rows-{first:07d}-{digest}", range(first, first + len(block))))
    left = [block for block in blocks if _undone(out / "latents" / f"{block[0]}.npz")]
    # A process looks through all archives first, so there is one for each worker.
    parts = [part for part in (left[i::workers] for i in range(workers)) if part]
    _encode(encode_released, [(setup, data.root, out / "latents", part) for part in parts], workers)
    return [key for key, _ in blocks]


def _undone(path: Path) -> bool:
    """Whether rows are not encoded yet, or lacked files, which may have come since."""
    return not path.exists() or MISSING in read_told(path)["lost"]


def _encode(work: Any, jobs: Sequence[tuple[Any, ...]], workers: int) -> None:
    bar = tqdm(in_processes(work, jobs, workers), "latents", len(jobs), file=sys.stdout, disable=not jobs)
    for _, code in bar:
        if code:
            raise UserError(
                f"encoding ended with code {code}: try fewer --workers (out of memory?) and run it again"
            )


def _parts(keys: Sequence[str], size: int) -> list[Sequence[str]]:
    return [keys[i : i + size] for i in range(0, len(keys), size)]


def _report(
    out: Path,
    keys: Sequence[str],
    records: Sequence[Record],
    entries: Sequence[Entry],
    damaged: Sequence[str] = (),
) -> dict[str, Any]:
    """What was kept, what was not, and why: counts, and a line for each loss and each damaged tar."""
    reasons, lines, rows = Counter({DAMAGED: len(damaged)} if damaged else {}), list(damaged), 0
    for record in records:
        reasons.update(record.lost)
        lines += [f"{record.name}: {note}" for note in record.notes]
    for number, key in enumerate(keys):
        told = read_told(out / "latents" / f"{key}.npz")
        reasons.update(told["lost"])
        rows += len(told["samples"]) + sum(told["lost"].values())  # each is a clip or a loss
        name = records[number].name if records else key
        lines += [f"{name}: {note}" for note in told["notes"]]
    report = {
        "sources": len(records) or rows,
        "clips": len(entries),
        "heldout": sum(entry.split == "heldout" for entry in entries),
        "seconds": round(sum(entry.frames for entry in entries) / FRAME_RATE, 2),
        "reasons": dict(reasons.most_common()),
        "lines": lines,
    }
    with atomic(out / REPORT) as path:
        path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return report


def main() -> None:
    """Prepare, and say what came of it."""
    parser = argparse.ArgumentParser(
        "python -m recipes.data.prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, metavar="SOURCE")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--workers", type=int, default=1, help="processes; one core each")
    parser.add_argument("--weights", type=Path, default=PUPPET, help="folder of a native checkpoint")
    parser.add_argument("--device", default="cpu", help="for the networks")
    parser.add_argument("--retinaface", type=Path, metavar="FILE", help="facexlib's detection weights")
    parser.add_argument("--transcribe", metavar="MODEL", help="weights of whisper, or base.en and the like")
    parser.add_argument(
        "--least-sync", type=float, default=0.1, help="least confidence that sound and lips fit; 0: any"
    )
    options = parser.parse_args()
    try:
        whisper = whisper_weights(options.transcribe) if options.transcribe else None
        setup = Setup(options.weights, options.device, whisper, options.least_sync)
        report = prepare(options.source, options.out, setup, options.retinaface, max(1, options.workers))
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted: run it again, it goes on from here", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        if error.errno not in DISK_FULL:
            sys.exit(f"error: {options.out} cannot be written ({error}): mend that or choose another --out")
        sys.exit(
            f"error: no space left for {options.out} or for temporary files: make room and run it again; "
            "it goes on from here"
        )
    for line in report["lines"]:
        print(line)
    lost = ", ".join(f"{why} {count}" for why, count in report["reasons"].items())
    minutes = report["seconds"] / 60
    print(
        f"{report['clips']} clips, {minutes:.1f} minutes, from {report['sources']} sources; "
        f"lost: {lost or 'nothing'}"
    )
    if report["clips"] and not report["heldout"]:
        print("nothing is held out from training, which wants that: prepare a second video")
    if report["clips"] == report["heldout"]:
        print("nothing is left to train on: prepare more videos, or rows of the split train")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main()
