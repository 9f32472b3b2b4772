"""Prepare a data set for the talker from raw talking videos.

    python -m recipes.data.prepare SOURCE --out DIR [--workers N]

SOURCE is a folder of videos, a text file with one path per line, or the folder of the published data set
(with metadata/train.csv). The transcript of a video is a file beside it with the same name and the suffix
.json (Whisper's format), .srt or .txt; --transcribe makes the transcripts that are missing.

There are three stages: DIR/clips (one face, 25 fps, 24 kHz, up to 30 s), DIR/latents (audio latents, motion
codes, speaker embeddings), and DIR/shards with DIR/index.jsonl and DIR/stats.safetensors. An interrupted run
is resumed by the same command, and so are videos added that are new in SOURCE. DIR/report.json lists what was
left out, and why.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from talker.signals import announce, command, exit_on_signals

if __name__ == "__main__":  # before imports that take seconds
    announce("recipes.data.prepare")

from motion_ae.config import MotionAEConfig
from recipes.data.prepare.clips import UNFINISHED, Record, discard, make_clips
from recipes.data.prepare.copies import find_copies
from recipes.data.prepare.detect import retinaface
from recipes.data.prepare.encode import Encoders, Setup, encode_released, encode_videos
from recipes.data.prepare.pack import HELDOUT, pack
from recipes.data.prepare.parallel import DISK_FULL, in_processes
from recipes.data.prepare.samples import read_metadata, read_samples
from recipes.data.prepare.sources import Source, equal_files, find_sources
from recipes.data.released import DAMAGED, METADATA, MISSING, Released
from recipes.data.tar_shards import INDEX, STATS, Entry
from talker.checkpoint import atomic, config_from_dict
from talker.clips.transcript import whisper_weights
from talker.clock import FRAME_RATE
from talker.errors import UserError
from talker.progress import Progress, track
from talker.shipped import PUPPET

SETTINGS, REPORT = "settings.json", "report.json"
# Signals of a process whose video crashes the decoder. After any other loss of a process, the next run tries
# the video again.
CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT)
LOST = "process lost, out of memory perhaps"  # stored in records, so existing data sets have it
VIDEOS_PER_JOB = 16  # videos that one process encodes, so that it loads the networks once for all of them
MOST_HELDOUT = 0.3  # share of the clips above which a line says so
BLOCK = 64  # rows of the published table per file of latents


def prepare(source: Path, out: Path, setup: Setup, detector: Path | None, workers: int) -> dict[str, Any]:
    """Run the three stages, or what is left to do of them.

    Args:
        source: a folder of videos, a list file, or the folder of the published data set.
        out: the data set's folder; created if missing.
        setup: the settings of the encoders.
        detector: weights of RetinaFace; None: the built-in face detector.
        workers: number of processes.

    Returns:
        The report, which is also written to `out`.

    Raises:
        UserError: there is nothing to prepare, weights are missing, `out` was prepared with other settings
            or is in use by another process, or a worker was lost twice while encoding.
        OSError: the disk is full (ENOSPC) or cannot be written.
    """
    # Errors in the arguments are raised before anything is written.
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
            raise UserError(f"{out} is in use by another process: wait until it ends") from error
        _check_settings(out, setup, detector)
        _remove_unfinished(out)
        if published:
            data, records = Released(source), list[Record]()
            keys, damaged = _published(data, out, setup, workers), data.damaged
        else:
            keys, damaged = [one.key for one in sources], []
            records = _clips(sources, out, setup, detector, workers)
            left = [key for key in keys if not (out / "latents" / f"{key}.npz").exists()]
            jobs = [(setup, out / "clips", out / "latents", part) for part in _parts(left, VIDEOS_PER_JOB)]
            _encode(encode_videos, jobs, workers, [out / "latents" / f"{key}.npz" for key in left])
        _remove_unfinished(out)  # from processes that failed once and were tried again
        read = (read_samples(out / "latents" / f"{key}.npz") for key in keys)
        samples = (sample for own in track(read, "files compared", len(keys)) for sample in own)
        copies = find_copies((one for one in samples if one.heldout is None), equal_files(sources))
        entries = pack(out / "latents", keys, quiet, out, copies)
        names = dict(zip(keys, (record.name for record in records), strict=False))
        lines = [f"copies, kept in one split: {', '.join(names.get(v, v) for v in one)}" for one in copies]
        return _report(out, keys, records, entries, damaged, lines)


def _check_settings(out: Path, setup: Setup, detector: Path | None) -> None:
    """Store the settings in `out`; raises UserError if it was prepared with other settings."""
    weights = [setup.codecs / part / "model.safetensors" for part in ("audio_vae", "motion_ae", "speaker")]
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
    elif _stored_settings(path) != settings:
        raise UserError(f"{out} was prepared with other weights or limits: choose another --out")


def _stored_settings(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}): prepare into another --out") from error


def _remove_unfinished(out: Path) -> None:
    """Remove the temporary files of processes that were killed."""
    unfinished = [
        path for name in (SETTINGS, HELDOUT, STATS, INDEX, REPORT) for path in out.glob(f".{name}.*")
    ]
    for path in (*unfinished, *(out / "latents").glob(".*")):
        path.unlink(missing_ok=True)
    for path in list((out / "clips").glob(f"{UNFINISHED}*")):
        discard(path)


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}): give the path of existing weights"
        ) from error


def _clips(
    sources: Sequence[Source], out: Path, setup: Setup, detector: Path | None, workers: int
) -> list[Record]:
    """Run the first stage; returns the record of each source, in their order."""
    folder = out / "clips"
    config = json.loads((setup.codecs / "motion_ae" / "config.json").read_text())
    resolution = config_from_dict(MotionAEConfig, config).resolution
    found = (detector, setup.device) if detector else None
    jobs = []
    for source in sources:
        if (folder / source.key).exists():
            with contextlib.suppress(ValueError):  # a damaged record: the video is read again
                record = Record.read(folder / source.key)
                if record.stamp == source.stamp and LOST not in record.lost:
                    continue
            (out / "latents" / f"{source.key}.npz").unlink(missing_ok=True)
            discard(folder / source.key)
        jobs.append((source, folder / source.key, resolution, found))
    for (source, own, *_), code in track(in_processes(make_clips, jobs, workers), "videos", len(jobs)):
        if code and not own.exists():
            name = signal.Signals(-code).name if code < 0 else f"exit {code}"
            reason = "crashed" if -code in CRASHES else LOST
            unfinished = folder / f"{UNFINISHED}{source.key}"
            unfinished.mkdir()
            Record(source.name, source.stamp, [], {reason: 1}, [f"{reason} ({name})"]).write(unfinished)
            unfinished.rename(own)
    return [Record.read(folder / source.key) for source in sources]


def _published(data: Released, out: Path, setup: Setup, workers: int) -> list[str]:
    """Run the second stage on the published data set; returns the keys of its blocks of rows."""
    rows, blocks = data.rows, []
    for first in range(0, len(rows), BLOCK):
        block = rows[first : first + BLOCK]
        digest = hashlib.sha256(repr(block).encode()).hexdigest()[:8]
        blocks.append((f"rows-{first:07d}-{digest}", range(first, first + len(block))))
    left = [block for block in blocks if _incomplete(out / "latents" / f"{block[0]}.npz")]
    # Each process first reads the directories of all archives, so there is one job per worker.
    parts = [part for part in (left[i::workers] for i in range(workers)) if part]
    jobs = [(setup, data.root, out / "latents", part) for part in parts]
    _encode(encode_released, jobs, workers, [out / "latents" / f"{key}.npz" for key, _ in left])
    return [key for key, _ in blocks]


def _incomplete(path: Path) -> bool:
    """Whether a block of rows is not encoded yet, or lacked files, which may exist by now."""
    return not path.exists() or MISSING in read_metadata(path)["lost"]


def _encode(work: Any, jobs: Sequence[tuple[Any, ...]], workers: int, files: Sequence[Path]) -> None:
    """Run encoding jobs in processes, and show how many of their `files` are written.

    Raises:
        UserError: a job failed.
    """
    before = [_written(file) for file in files]  # blocks of rows that lacked files are encoded again
    with Progress("files encoded", len(files), shown=len(files) > 0) as progress:

        def count() -> None:
            changed = (_written(file) != time for file, time in zip(files, before, strict=True))
            progress.advance(sum(changed) - progress.done)

        for _, code in in_processes(work, jobs, workers, count):
            count()
            if code:
                why = f"exit code {code} (out of memory?)"
                raise UserError(f"encoding ended with {why}: run it again with fewer --workers")


def _written(file: Path) -> int:
    """Time of the last change of a file; 0 if it does not exist."""
    return file.stat().st_mtime_ns if file.exists() else 0


def _parts(keys: Sequence[str], size: int) -> list[Sequence[str]]:
    """Split keys into groups of at most `size`."""
    return [keys[i : i + size] for i in range(0, len(keys), size)]


def _report(
    out: Path,
    keys: Sequence[str],
    records: Sequence[Record],
    entries: Sequence[Entry],
    damaged: Sequence[str] = (),
    copies: Sequence[str] = (),
) -> dict[str, Any]:
    """Write and return the report.

    Args:
        out: the data set's folder.
        keys: names of the files of samples.
        records: results of the first stage, one per key; empty for the published data set.
        entries: the index.
        damaged: one line for each damaged tar.
        copies: one line for each group of copies of a video.
    """
    reasons, lines, rows = Counter({DAMAGED: len(damaged)} if damaged else {}), list(damaged), 0
    for record in records:
        reasons.update(record.lost)
        lines += [f"{record.name}: {note}" for note in record.notes]
    for number, key in enumerate(keys):
        metadata = read_metadata(out / "latents" / f"{key}.npz")
        reasons.update(metadata["lost"])
        rows += len(metadata["samples"]) + sum(metadata["lost"].values())  # each row is kept or left out
        name = records[number].name if records else key
        lines += [f"{name}: {note}" for note in metadata["notes"]]
    lines += copies
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
    """Prepare a data set and print the report."""
    parser = argparse.ArgumentParser(
        "python -m recipes.data.prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, metavar="SOURCE", help="folder, list file or published data set")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the data set")
    parser.add_argument("--workers", type=int, default=1, help="number of processes, one core each")
    parser.add_argument(
        "--codecs",
        type=Path,
        default=PUPPET,
        metavar="FOLDER",
        help="native checkpoint with audio_vae, motion_ae and speaker (default: the embedded one)",
    )
    parser.add_argument("--weights", nargs="?", const="", help=argparse.SUPPRESS)  # the old name of --codecs
    parser.add_argument("--device", default="cpu", help="PyTorch device of the networks")
    parser.add_argument(
        "--retinaface", type=Path, metavar="FILE", help="facexlib's weights (default: the built-in detector)"
    )
    parser.add_argument(
        "--transcribe",
        metavar="MODEL",
        help="transcribe with Whisper where there is no transcript: a name (base.en) or a file",
    )
    parser.add_argument(
        "--least-sync",
        type=float,
        default=0.1,
        metavar="VALUE",
        help="leave out clips whose sound and lips match with less confidence (default: 0.1; 0: keep all)",
    )
    options = parser.parse_args()
    if options.weights is not None:
        parser.error("--weights is now called --codecs: use --codecs FOLDER")
    try:
        whisper = whisper_weights(options.transcribe) if options.transcribe else None
        setup = Setup(options.codecs, options.device, whisper, options.least_sync)
        with exit_on_signals(f"finished videos are kept in {options.out}; continue with: {command()}"):
            report = prepare(options.source, options.out, setup, options.retinaface, max(1, options.workers))
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        if error.errno not in DISK_FULL:
            sys.exit(f"error: {options.out} cannot be written ({error}): choose another --out")
        sys.exit(
            f"error: no space left for {options.out} or for temporary files: make room, then run the same "
            "command again to resume"
        )
    for line in report["lines"]:
        print(line)
    lost = ", ".join(f"{reason} {count}" for reason, count in report["reasons"].items())
    minutes = report["seconds"] / 60
    print(
        f"{report['clips']} clips, {minutes:.1f} minutes, from {report['sources']} sources; "
        f"lost: {lost or 'nothing'}"
    )
    if report["clips"] and not report["heldout"]:
        print("no clip is held out, and training needs held-out clips: prepare a second video")
    if report["clips"] == report["heldout"]:
        print("no clip is left to train on: prepare more videos, or rows of the split train")
    elif report["heldout"] > MOST_HELDOUT * report["clips"]:
        print(
            f"{report['heldout']} of {report['clips']} clips are held out from training, because copies of a "
            f"video and voices of earlier runs stay together: prepare more videos, or into another --out"
        )


if __name__ == "__main__":
    main()
