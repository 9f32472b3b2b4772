"""A folder of short talking videos of many formats and faults, made from a few rendered corpus clips."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageFilter

from puppet.corpus import bench
from talker.clock import FRAME_RATE, HOP, SAMPLE_RATE

FRAMES = 40  # of each video

# For each video, the reason in the report why it is left out; None if it is kept.
FOLDER = {
    "plain 1.mp4": None,
    "plain 2.mp4": None,
    "deeper/plain 4.mkv": None,
    "60 fps.mp4": None,
    "variable rate.mkv": None,
    "telephone.mp4": None,
    "stereo 48 kHz.mov": None,
    "late sound.mkv": None,
    "Zoë spricht – 你好.mp4": None,
    "two sentences.mp4": None,
    "no index.mp4": "unreadable",
    "no video at all.mp4": "unreadable",
    "half.mp4": "truncated",
    "silent.mp4": "silent",
    "no sound.mp4": "no sound",
    "faceless.mp4": "no face",
    "two people.mp4": "several faces",
    "out of focus.mp4": "blur",
    "somebody else speaks.mp4": "off-screen speech",
    "nobody wrote it down.mp4": "no transcript",
}
KEPT = sum(reason is None for reason in FOLDER.values()) + 1  # clips; one of the videos gives two


def write_clip(
    path: Path,
    frames: Sequence[np.ndarray],
    pcm: np.ndarray | None,
    rate: int = 25,
    stamps: Sequence[float] | None = None,
    sound_rate: int = SAMPLE_RATE,
    channels: int = 1,
    sound_start: float = 0.0,
    flags: str = "",
    tags: dict[str, str] | None = None,
) -> None:
    """Write a video with sound.

    Args:
        path: the file; its suffix chooses the container.
        frames: pictures (H, W, 3) uint8.
        pcm: samples (N,) at 24 kHz; None: no sound.
        rate: frames per second.
        stamps: times of the frames in seconds, instead of a constant rate.
        sound_rate, channels: of the sound track.
        sound_start: time of the first sample in seconds.
        flags: the muxer's movflags.
        tags: metadata.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"movflags": flags} if flags else {}) as container:
        container.metadata.update(tags or {})
        video = container.add_stream("libx264", rate=rate, options={"crf": "16", "preset": "veryfast"})
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = "yuv420p"
        if stamps is not None:
            video.codec_context.time_base = Fraction(1, 1000)
        layout = "stereo" if channels == 2 else "mono"
        audio = container.add_stream("aac", rate=sound_rate, layout=layout) if pcm is not None else None
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            base = Fraction(1, rate) if stamps is None else Fraction(1, 1000)
            frame.pts = number if stamps is None else round(1000 * stamps[number])
            frame.time_base = base
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None and pcm is not None:
            count = len(pcm) * sound_rate // SAMPLE_RATE
            samples = np.interp(np.arange(count) * SAMPLE_RATE / sound_rate, np.arange(len(pcm)), pcm)
            sound = np.repeat(samples[None].astype(np.float32), channels, 0)
            frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout=layout)
            frame.sample_rate, frame.pts = sound_rate, round(sound_start * sound_rate)
            frame.time_base = Fraction(1, sound_rate)
            container.mux([*audio.encode(frame), *audio.encode(None)])


def rotate(path: Path) -> None:
    """Set the display matrix of an mp4 to a rotation by 90 degrees, as cameras of telephones do."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def write_folder(folder: Path) -> None:
    """Write all videos of FOLDER with their transcripts."""
    corpus = bench("heldout")
    clips = [corpus.clip(index) for index in (0, 1, 3)]
    frames = [clip.frames(256, 0, FRAMES) for clip in clips]
    sounds = [clip.pcm[: FRAMES * HOP] for clip in clips]
    a, b = list(frames[0]), list(frames[1])
    write_clip(folder / "plain 1.mp4", a, sounds[0])
    write_clip(folder / "plain 2.mp4", b, sounds[1])
    write_clip(folder / "deeper/plain 4.mkv", b, sounds[1])
    doubled = [a[min(FRAMES - 1, k * 25 // 60)] for k in range(FRAMES * 60 // 25)]
    write_clip(folder / "60 fps.mp4", doubled, sounds[0], rate=60)
    kept = [k for k in range(FRAMES) if k % 7 not in (3, 4)]
    stamps = [k / 25 for k in kept]
    write_clip(folder / "variable rate.mkv", [b[k] for k in kept], sounds[1], stamps=stamps)
    portrait = [np.pad(frame, ((100, 200), (30, 30), (0, 0)), mode="edge") for frame in a]
    write_clip(folder / "telephone.mp4", [np.rot90(frame) for frame in portrait], sounds[0])
    rotate(folder / "telephone.mp4")
    write_clip(folder / "stereo 48 kHz.mov", b, sounds[1], sound_rate=48_000, channels=2)
    write_clip(folder / "late sound.mkv", a, sounds[0][6 * HOP :], sound_start=6 / 25)
    write_clip(folder / "Zoë spricht – 你好.mp4", frames[2], sounds[2])
    _two_sentences(folder, a, sounds[0])

    write_clip(folder / "no index.mp4", a, sounds[0])
    whole = (folder / "no index.mp4").read_bytes()
    (folder / "no index.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "no video at all.mp4").write_text("not found\n" * 100)
    write_clip(folder / "half.mp4", a, sounds[0], flags="faststart")
    whole = (folder / "half.mp4").read_bytes()
    (folder / "half.mp4").write_bytes(whole[: len(whole) // 2])
    write_clip(folder / "silent.mp4", a, 0 * sounds[0])
    write_clip(folder / "no sound.mp4", a, None)
    gradient = np.linspace(0, 255, 256).astype(np.uint8)
    faceless = np.stack([np.repeat(gradient[None], 256, 0)] * 3, 2)
    write_clip(folder / "faceless.mp4", [np.roll(faceless, k, 1) for k in range(FRAMES)], sounds[0])
    pairs = [np.concatenate([one, other], 1) for one, other in zip(a, b, strict=True)]
    write_clip(folder / "two people.mp4", pairs, sounds[0])
    blurred = [np.asarray(Image.fromarray(frame).filter(ImageFilter.GaussianBlur(4))) for frame in a]
    write_clip(folder / "out of focus.mp4", blurred, sounds[0])
    write_clip(folder / "somebody else speaks.mp4", a, sounds[1])
    write_clip(folder / "nobody wrote it down.mp4", b, sounds[1])
    for name in FOLDER:
        if name not in ("two sentences.mp4", "nobody wrote it down.mp4"):
            (folder / name).with_suffix(".txt").write_text("It was a bright cold day.", encoding="utf-8")


def _two_sentences(folder: Path, frames: list[np.ndarray], pcm: np.ndarray) -> None:
    """Write a video that contains a sentence twice, with a long pause between, and its transcript."""
    pause = 60  # frames
    still = [frames[-1]] * pause
    path = folder / "two sentences.mp4"
    write_clip(path, [*frames, *still, *frames], np.concatenate([pcm, np.zeros(pause * HOP), pcm]))
    words = [("It", 0.1, 0.3), ("was", 0.3, 0.5), ("cold.", 0.6, 1.5)]
    second = (FRAMES + pause) / FRAME_RATE
    segments = [
        {"start": 0.1 + t, "end": 1.5 + t, "text": "It was cold.", "words": [
            {"word": f" {word}", "start": start + t, "end": end + t} for word, start, end in words
        ]}
        for t in (0.0, second)
    ]  # fmt: skip
    path.with_suffix(".json").write_text(json.dumps({"text": "", "segments": segments}))
