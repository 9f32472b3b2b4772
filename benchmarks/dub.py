"""Clips per hour, real-time factor and time per stage of batch dubbing, with the default model.

python benchmarks/dub.py [--clips 4] [--seconds 2] [--capacity 1 4 8]
python benchmarks/dub.py --acceptance runs/dub [--clips 60] [--workers 2]
python benchmarks/dub.py --memory [--mode relip]

The clips are held-out puppets in many forms (frame rates, rotation, corner of a larger picture, stereo, no
sound, two faces, HDR tags), half of them for each mode. `--acceptance` also has two of 0.8 s and two of 90 s
with subtitles. It dubs all, measures what the batch must satisfy, prints a table, and continues an earlier
run. `--memory` compares the peak memory for clips of one and of ten minutes. Needs the extra `data`.
"""

import argparse
import json
import math
import resource
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np
from PIL import Image

from puppet.corpus import bench
from talker.batch.run import batch_dub
from talker.clock import FRAME_RATE, HOP
from talker.media.paste import planes_of
from talker.media.programme_writer import VIDEO_QUALITY

SIDE = 256
RESAMPLED = {"24": Fraction(24_000, 1001), "30": Fraction(30), "60": Fraction(60)}
FORMS = "plain 24 30 60 variable rotated portrait landscape stereo surround mute two hdr name"
KINDS = tuple(FORMS.split())


@dataclass(frozen=True)
class Source:
    """A puppet that speaks: frames (T, 256, 256, 3) at 25 Hz, pcm (960 T,), and its words."""

    frames: Sequence[np.ndarray]
    pcm: np.ndarray
    text: str

    def shortened(self) -> "Source":
        """The first 0.8 s, with one word."""
        return Source(self.frames[:20], self.pcm[: 20 * HOP], "Yes.")

    def repeated(self, seconds: float) -> "Source":
        """The clip again and again."""
        times = math.ceil(seconds * FRAME_RATE / len(self.frames))
        return Source(list(self.frames) * times, np.tile(self.pcm, times), self.text)


def write_subtitles(path: Path, source: Source, seconds: float) -> None:
    """Write one WebVTT cue for each repetition of a source of `seconds`."""
    starts = np.arange(0, len(source.frames) / FRAME_RATE - 0.01, seconds)
    clock = [[f"{int(t) // 60:02}:{t % 60:06.3f}" for t in (start, start + seconds)] for start in starts]
    cues = [f"{start} --> {end}\n{source.text}\n" for start, end in clock]
    path.write_text("WEBVTT\n\n" + "\n".join(cues))


def sources(seconds: float) -> Iterator[Source]:
    """Held-out clips of at least `seconds`, cut to the end of their speech."""
    corpus, index = bench("heldout"), 0
    while True:
        clip = corpus.clip(index)
        index += 1
        if not clip.idle and len(clip.motion) >= seconds * FRAME_RATE:
            yield Source(clip.frames(SIDE, 0, len(clip.motion)), clip.pcm, clip.text)


def write_clip(path: Path, source: Source, kind: str) -> None:
    """Write a clip in one of KINDS."""
    frames, pcm = list(source.frames), source.pcm
    size, left, top = {"portrait": ((360, 640), 90, 20), "landscape": ((640, 360), 360, 90)}.get(
        kind, ((SIDE, SIDE), 0, 0)
    )
    if kind == "two":
        small = [np.asarray(Image.fromarray(frame).resize((128, 128))) for frame in frames]
        frames = [
            np.concatenate([f, np.pad(s, ((128, 0), (0, 0), (0, 0)), "edge")], 1)
            for f, s in zip(frames, small, strict=True)
        ]
    elif size != (SIDE, SIDE):
        frames = [_placed(frame, size, left, top) for frame in frames]
    if kind == "rotated":
        frames = [np.rot90(np.pad(frame, ((100, 100), (0, 0), (0, 0)), "edge")) for frame in frames]
    rate, times = RESAMPLED.get(kind, Fraction(25)), None
    if kind in RESAMPLED:
        count = int(len(frames) * rate / 25)
        frames = [frames[min(int(number * 25 / rate), len(frames) - 1)] for number in range(count)]
    if kind == "variable":
        kept = [number for number in range(len(frames)) if number % 7 not in (3, 5)]
        frames, times = [frames[number] for number in kept], [Fraction(number, 25) for number in kept]
    channels = {"mute": 0, "stereo": 2, "surround": 6}.get(kind, 1)
    _encode(path, frames, pcm, rate, times, channels, hdr=kind == "hdr")
    if kind == "rotated":
        data = bytearray(path.read_bytes())
        at = data.index(b"tkhd") + 44
        data[at : at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
        path.write_bytes(data)


def _placed(frame: np.ndarray, size: tuple[int, int], left: int, top: int) -> np.ndarray:
    """A frame on a background of stripes, (width, height) = size."""
    stripes = (np.arange(size[0]) // 8 % 2 * 60 + 80).astype(np.uint8)
    picture = np.repeat(np.repeat(stripes[None, :, None], size[1], 0), 3, 2)
    picture[top : top + SIDE, left : left + SIDE] = frame
    return picture


def _encode(
    path: Path,
    frames: Sequence[np.ndarray],
    pcm: np.ndarray,
    rate: Fraction,
    times: list[Fraction] | None,
    channels: int,
    hdr: bool,
) -> None:
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("libx264", rate=rate, options={"crf": "14", "preset": "veryfast"})
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = "yuv420p10le" if hdr else "yuv420p"
        if hdr:
            context = video.codec_context
            context.color_trc, context.color_primaries, context.colorspace = 16, 9, 9
        if times is not None:
            video.codec_context.time_base = Fraction(1, 1000)
        layout = {1: "mono", 2: "stereo", 6: "5.1"}.get(channels, "")
        audio: Any = container.add_stream("aac", rate=48_000, layout=layout) if channels else None
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            if hdr:
                frame = av.VideoFrame.from_ndarray(_pq(pixels), format="rgb48le")
                frame = frame.reformat(format="yuv420p10le", dst_colorspace=9)
            if times is not None:
                frame.pts, frame.time_base = round(times[number] * 1000), Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            sound = np.repeat(pcm, 2)[None].astype(np.float32).repeat(channels, 0)
            if channels == 6:
                sound[[0, 1, 3, 4, 5]] *= 0.05  # the speech is in the centre
            block = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound), format="fltp", layout=layout)
            block.sample_rate = 48_000
            container.mux([*audio.encode(block), *audio.encode(None)])


def _pq(pixels: np.ndarray) -> np.ndarray:
    """SDR pixels (H, W, 3) uint8 -> BT.2020 with PQ, 16 bits, white at 203 cd/m2."""
    to_bt2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    light = 203 * (pixels / 255) ** 2.4 @ to_bt2020.T
    power = (light / 10_000) ** 0.1593017578125
    signal = ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    return (signal.clip(0, 1) * 65535).round().astype(np.uint16)


def write_batch(folder: Path, count: int, seconds: float, odd_lengths: bool = False) -> Path:
    """Write clips and their manifest: even ones for the mode voice, odd ones for relip.

    `odd_lengths`: the first two last 0.8 s, the next two 90 s.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, clip in zip(range(count), sources(seconds), strict=False):
        kind, source = KINDS[number // 2 % len(KINDS)], clip
        name = f"Zoë – {number}" if kind == "name" else f"{kind}-{number}"
        mode = ("voice", "relip")[number % 2]
        path = folder / f"{name}.{'mkv' if kind == 'variable' else 'mp4'}"
        row = {"id": name, "video": path.name, "mode": mode, "text": source.text, "seed": number}
        if odd_lengths and number < 2:
            source = clip.shortened()
            row["text"] = source.text
        elif odd_lengths and number < 4:
            source = clip.repeated(90)
            write_subtitles(path.with_suffix(".vtt"), source, len(clip.frames) / FRAME_RATE)
            row |= {"text": "", "subtitles": f"{name}.vtt"}
        if not path.exists():
            write_clip(path, source, kind)
        rows.append(row)
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return manifest


def interval(hits: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    if not count:
        return 0.0, 1.0
    z, share = 1.96, hits / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count**2)) / (1 + z * z / count)
    return max(0.0, centre - half), min(1.0, centre + half)


def same_packets(one: Path, other: Path) -> bool:
    """Whether the video packets of two files are identical."""
    found = []
    for path in (one, other):
        with av.open(str(path)) as container:
            found.append([bytes(packet) for packet in container.demux(video=0) if packet.size])
    return found[0] == found[1]


def psnr_outside(source: Path, made: Path, again: Path) -> tuple[float, float, float]:
    """PSNR of the luma in the left eighth and the top eighth of each frame, which no mask reaches.

    Returns:
        The mean and the worst frame of `made`, and the mean of the source encoded in the same way.
    """
    _encode_again(source, again)
    found = {}
    for path in (made, again):
        with av.open(str(source)) as a, av.open(str(path)) as b:
            values = [
                _psnr(planes_of(x)[0], planes_of(y)[0], 255 if x.format.components[0].bits == 8 else 1023)
                for x, y in zip(a.decode(video=0), b.decode(video=0), strict=False)
            ]
        found[path] = values
    return statistics.fmean(found[made]), min(found[made]), statistics.fmean(found[again])


def _psnr(one: np.ndarray, other: np.ndarray, peak: int) -> float:
    h, w = (max(8, length // 8) for length in one.shape)
    parts = [(x[:h].ravel(), x[h:, :w].ravel()) for x in (one.astype(np.float64), other.astype(np.float64))]
    error = np.concatenate([a - b for a, b in zip(*parts, strict=True)])
    return 10 * math.log10(peak**2 / max(float(np.mean(error**2)), 1e-6))


def _encode_again(source: Path, target: Path) -> None:
    with av.open(str(source)) as container, av.open(str(target), "w") as out:
        track: Any = container.streams.video[0]
        stream: Any = out.add_stream("libx264", rate=track.average_rate, options=dict(VIDEO_QUALITY))
        stream.width, stream.height, stream.pix_fmt = track.width, track.height, track.format.name
        for number, frame in enumerate(container.decode(video=0)):
            frame.pts, frame.time_base, frame.pict_type = number, 1 / Fraction(track.average_rate), 0
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def acceptance(folder: Path, count: int, workers: int) -> None:
    """Dub clips of 0.8 to 90 s, and print what the batch must satisfy."""
    manifest = write_batch(folder / "clips", count, 2.0, odd_lengths=True)
    report = batch_dub(manifest, folder / "out", capacity=4, workers=workers)
    clips = report["clips"]
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    print(f"finished: {report['totals']['ok']} of {len(rows)}; every id once: "
          f"{[clip['id'] for clip in clips] == [row['id'] for row in rows]}")  # fmt: skip
    for mode in ("voice", "relip"):
        own = [clip for clip in clips if clip.get("mode") == mode and clip["seconds"] >= 2]
        hits = sum(
            clip["metrics"]["offset"] is not None and abs(clip["metrics"]["offset"]) <= 1 for clip in own
        )
        low, high = interval(hits, len(own))
        phonemes = sum(clip["metrics"]["phonemes"] for clip in own)
        edits = sum(clip["metrics"]["per"] * clip["metrics"]["phonemes"] for clip in own)
        share, per = hits / max(len(own), 1), edits / max(phonemes, 1)
        print(f"{mode}: n {len(own)}, offset within 1: {share:.2f} ({low:.2f} to {high:.2f}), PER {per:.3f}")
    videos = {row["id"]: manifest.parent / row["video"] for row in rows}
    done = [clip for clip in clips if clip["status"] == "ok"]
    copied = [
        same_packets(videos[c["id"]], folder / "out" / c["output"]) for c in done if c["mode"] == "voice"
    ]
    print(f"voice: identical packets {sum(copied)} of {len(copied)}")
    found = []
    for clip in done:
        if clip["mode"] == "relip":
            found.append(
                psnr_outside(videos[clip["id"]], folder / "out" / clip["output"], folder / "again.mkv")
            )
            mean, worst, again = found[-1]
            print(f"  {clip['id']}: outside {mean:.2f} dB, worst frame {worst:.2f}, source again {again:.2f}")
    mean, worst, again = (np.array(column) for column in zip(*found, strict=True))
    print(
        f"relip: outside {mean.mean():.2f} dB, worst frame {worst.min():.2f}, source again {again.mean():.2f}"
    )


def memory(mode: str) -> None:
    """Print the peak memory of `talker batch-dub` for a clip of one minute and one of ten."""
    clip = next(sources(4.0))
    for seconds in (60, 600):
        with TemporaryDirectory() as name:
            source, path = clip.repeated(seconds), Path(name) / "clip.mp4"
            write_clip(path, source, "plain")
            write_subtitles(path.with_suffix(".vtt"), source, len(clip.frames) / FRAME_RATE)
            manifest = Path(name) / "manifest.jsonl"
            manifest.write_text(json.dumps({"video": path.name, "subtitles": "clip.vtt", "mode": mode}))
            command = [sys.executable, "-m", "talker", "batch-dub", str(manifest), "--out", f"{name}/out"]
            subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
            print(f"{mode}: {seconds} s, at most {peak:.0f} MB in one process", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=2.0, help="least length of a clip")
    parser.add_argument("--capacity", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--acceptance", type=Path, metavar="FOLDER")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--mode", choices=("voice", "relip"), default="voice", help="of --memory")
    options = parser.parse_args()
    if options.acceptance is not None:
        acceptance(options.acceptance, options.clips, options.workers)
        return
    if options.memory:
        memory(options.mode)
        return
    print(f"{'capacity':>8}  {'clips/h':>8}  {'rtf':>6}  seconds per stage")
    with TemporaryDirectory() as name:
        manifest = write_batch(Path(name) / "clips", options.clips, options.seconds)
        for capacity in options.capacity:
            began = time.perf_counter()
            report = batch_dub(
                manifest, Path(name) / f"out{capacity}", capacity=capacity, workers=options.workers
            )
            wall = time.perf_counter() - began
            stages = "  ".join(f"{stage} {seconds:.1f}" for stage, seconds in report["timing"].items())
            rtf = wall / max(report["totals"]["seconds"], 1e-9)
            print(f"{capacity:>8}  {3600 * options.clips / wall:>8.0f}  {rtf:>6.2f}  {stages}", flush=True)


if __name__ == "__main__":
    main()
