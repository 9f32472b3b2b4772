"""Small media files in many codecs, written with PyAV."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image
from skimage import data

# Pixel formats of encoders that do not take yuv420p.
PIXEL_FORMATS = {"mjpeg": "yuvj420p", "huffyuv": "yuv422p", "prores": "yuv422p10le"}


def chirps(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    """(channels, samples) float32: a 220 Hz tone that swells three times per second, and a click at 0.5 s."""
    time = np.arange(round(seconds * rate)) / rate
    pcm = 0.3 * np.sin(2 * np.pi * 220 * time) * np.abs(np.sin(2 * np.pi * 1.5 * time))
    pcm[round(0.5 * rate) : round(0.5 * rate) + rate // 200] = 0.9
    return np.repeat(pcm[None], channels, 0).astype(np.float32)


def write_sound(
    path: Path,
    codec: str,
    rate: int = 44_100,
    seconds: float = 2.3,
    channels: int = 2,
    pcm: np.ndarray | None = None,
) -> Path:
    """Write pcm (channels, samples), by default `chirps`; the file extension selects the container."""
    pcm = chirps(seconds, rate, channels) if pcm is None else pcm
    layout = "mono" if len(pcm) == 1 else "stereo"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(pcm), format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return path


def person(size: int = 256) -> np.ndarray:
    """A photograph with one face, (size, size, 3) uint8."""
    picture = Image.fromarray(data.astronaut()[:256, 100:356])
    return np.asarray(picture.resize((size, size)))


def write_video(
    path: Path,
    frames: Iterable[np.ndarray],
    rate: int | Fraction = 25,
    codec: str = "libx264",
    stamps: list[Fraction] | None = None,
    sound: bool = False,
    options: dict[str, str] | None = None,
) -> Path:
    """Write frames (H, W, 3) uint8 at a constant rate, or at the times `stamps` in seconds.

    With `sound`, the file also has a track of `chirps`. `options` are the encoder's.
    """
    frames = iter(frames)
    first = next(frames)
    height, width = first.shape[:2]
    count = 0
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, PIXEL_FORMATS.get(codec, "yuv420p")
        if stamps is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        audio = (
            container.add_stream("libopus" if path.suffix == ".webm" else "aac", rate=48_000)
            if sound
            else None
        )
        for number, pixels in enumerate(itertools.chain([first], frames)):
            count = number + 1
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            if stamps is not None:
                picture.pts, picture.time_base = round(stamps[number] * 1000), Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
        if audio is not None:
            pcm = chirps(count / float(rate), 48_000)
            samples = av.AudioFrame.from_ndarray(pcm, format="fltp", layout="mono")
            samples.sample_rate = 48_000
            container.mux([*audio.encode(samples), *audio.encode(None)])
    return path
