"""Small media files in many codecs, written with PyAV."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition
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


@functools.cache
def person(size: int = 256) -> np.ndarray:
    """A photograph with one face, (size, size, 3) uint8; it cannot be written to."""
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
    matrix: tuple[int, ...] | None = None,
    aspect: Fraction | None = None,
) -> Path:
    """Write frames (H, W, 3) uint8 at a constant rate, or at the times `stamps` in seconds.

    With `sound`, the file also has a track of `chirps`. `options` are the encoder's. `matrix` is the display
    matrix, `aspect` the width of a pixel / its height.
    """
    frames = iter(frames)
    first = next(frames)
    height, width = first.shape[:2]
    count = 0
    with av.open(str(path), "w") as container:
        fast = {"preset": "veryfast"} if codec == "libx264" else {}
        stream = container.add_stream(codec, rate=rate, options=fast | (options or {}))
        stream.width, stream.height, stream.pix_fmt = width, height, PIXEL_FORMATS.get(codec, "yuv420p")
        stream.set_display_matrix(matrix)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
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


ONE, LAST = 1 << 16, (0, 0, 0, 1 << 30)  # 1, and the last four numbers, of a display matrix
# Display matrices of all eight orientations, and what each does to pixels (H, W, 3).
ORIENTATIONS = {
    (ONE, 0, 0, 0, ONE, *LAST): lambda pixels: pixels,
    (-ONE, 0, 0, 0, ONE, *LAST): np.fliplr,
    (ONE, 0, 0, 0, -ONE, *LAST): np.flipud,
    (-ONE, 0, 0, 0, -ONE, *LAST): lambda pixels: np.rot90(pixels, 2),
    (0, ONE, 0, -ONE, 0, *LAST): lambda pixels: np.rot90(pixels, 3),  # clockwise, as telephones do
    (0, -ONE, 0, ONE, 0, *LAST): np.rot90,
    (0, ONE, 0, ONE, 0, *LAST): lambda pixels: pixels.swapaxes(0, 1),
    (0, -ONE, 0, -ONE, 0, *LAST): lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
}


def write_hdr(path: Path, picture: np.ndarray, transfer: int, white: float, count: int = 12) -> Path:
    """Write an SDR picture (H, W, 3) uint8 as 10-bit BT.2020 video with its white at `white` cd/m2.

    Args:
        path: the file.
        picture: the picture, with the primaries of BT.709 and the gamma 2.4 of BT.1886.
        transfer: 16 for PQ, 18 for HLG on a display of 1000 cd/m2.
        white: luminance of (255, 255, 255).
        count: number of frames.
    """
    to_bt2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    light = white * (picture / 255) ** 2.4 @ to_bt2020.T
    if transfer == 16:
        power = (light / 10_000) ** 0.1593017578125
        signal = ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    else:
        luminance = light @ np.array([0.2627, 0.6780, 0.0593]) / 1000
        scene = light / 1000 * np.maximum(luminance, 1e-9)[..., None] ** (1 / 1.2 - 1)
        upper = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
        signal = np.where(scene <= 1 / 12, np.sqrt(3 * scene), upper)
    pixels = (signal.clip(0, 1) * 65535).round().astype(np.uint16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "4"})
        stream.height, stream.width = picture.shape[:2]
        stream.pix_fmt = "yuv420p10le"
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace = transfer, 9, 9
        for _ in range(count):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb48le")
            container.mux(stream.encode(frame.reformat(format="yuv420p10le", dst_colorspace=9)))
        container.mux(stream.encode(None))
    return path


def join_tracks(path: Path, sources: Iterable[tuple[Path, bool]]) -> Path:
    """Copy the tracks of several files into one; each source says whether its tracks are default tracks."""
    with av.open(str(path), "w") as target:
        packets = []
        for source, default in sources:
            with av.open(str(source)) as container:
                for track in container.streams:
                    copy = target.add_stream_from_template(track, opaque=True)
                    copy.disposition = Disposition.default if default else Disposition(0)
                    container.seek(0)
                    for packet in container.demux(track):
                        if packet.dts is not None:
                            packet.stream = copy
                            packets.append((float(packet.dts * packet.time_base), packet))
        for _, packet in sorted(packets, key=lambda item: item[0]):
            target.mux_one(packet)
    return path
