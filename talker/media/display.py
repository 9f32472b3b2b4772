"""Conversion of decoded frames to what a viewer sees: upright, square pixels, standard dynamic range."""

from __future__ import annotations

import functools
from fractions import Fraction
from typing import Any

import av
import numpy as np
from PIL import Image, ImageFilter

# FFmpeg's numbers, as in ITU-T H.273.
PQ, HLG = 16, 18  # transfer functions
BT709, UNSPECIFIED, BT2020 = 1, 2, 9  # primaries, and coefficients of YUV
HD_LINES = 720  # untagged video has the coefficients of BT.709 from here on, below those of BT.601
MAX_ASPECT = 4  # a pixel that is wider or taller than this is an error of the file
MIN_DISTORTION = 0.01  # encoders round: a smaller difference from a square pixel is none

SDR_WHITE, HDR_WHITE = 100.0, 203.0  # cd/m2 of diffuse white, as graded for SDR and by BT.2408 for HDR
HLG_PEAK, HLG_GAMMA = 1000.0, 1.2  # cd/m2 and system gamma of BT.2100's reference display
SDR_GAMMA = 2.4  # BT.1886
KNEE = 0.75  # light above this share of white is compressed
BT2020_TO_BT709 = np.array(  # of linear light
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
)
TABLE_SIZE = 33  # points of the colour table per axis


def displayed(frame: av.VideoFrame, aspect: Fraction | None, white: float = SDR_WHITE) -> np.ndarray:
    """Convert a decoded frame to pixels (H, W, 3) uint8 RGB as a viewer sees them.

    Args:
        frame: the frame. Its display matrix is applied to the nearest quarter turn and mirroring.
        aspect: see `pixel_aspect`.
        white: see `reference_white`; used for PQ and HLG only.
    """
    pixels = _to_rgb(frame, *square_size(frame.width, frame.height, aspect))
    wide = frame.color_primaries == BT2020 or (is_hdr(frame) and frame.color_primaries == UNSPECIFIED)
    if is_hdr(frame) or wide:
        table = _sdr_table(int(frame.color_trc), wide, round(white))
        pixels = np.asarray(Image.fromarray(pixels).filter(table))
    return np.ascontiguousarray(oriented(pixels, display_matrix(frame)))


def display_matrix(frame: av.VideoFrame) -> tuple[int, ...] | None:
    """The nine integers of a frame's display matrix, in FFmpeg's layout; None if the frame has none."""
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    return None if data is None else tuple(np.frombuffer(bytes(data), np.int32).tolist())


def orientation(matrix: tuple[int, ...] | None) -> tuple[bool, bool, bool]:
    """The nearest of the eight orientations: whether rows and columns are exchanged, then each is reversed.

    The matrix maps column x and row y to column `a x + c y` and row `b x + d y`, where its first two rows
    are (a, b, _) and (c, d, _).

    Returns:
        (exchanged, rows reversed, columns reversed).
    """
    a, b, _, c, d, _ = (1, 0, 0, 0, 1, 0) if matrix is None else matrix[:6]
    exchanged = abs(b) + abs(c) > abs(a) + abs(d)
    across, down = (c, b) if exchanged else (a, d)
    return exchanged, down < 0, across < 0


def oriented(pixels: np.ndarray, matrix: tuple[int, ...] | None) -> np.ndarray:
    """Turn and mirror pixels (H, W, 3) by a display matrix, see `orientation`."""
    exchanged, rows, columns = orientation(matrix)
    pixels = pixels.swapaxes(0, 1) if exchanged else pixels
    return pixels[:: -1 if rows else 1, :: -1 if columns else 1]


def pixel_aspect(track: av.VideoStream) -> Fraction | None:
    """Width of a pixel / its height, by the container, else by the codec; None if neither is possible."""
    stated = (track.sample_aspect_ratio, track.codec_context and track.codec_context.sample_aspect_ratio)
    return next((ratio for ratio in stated if ratio and 1 / MAX_ASPECT <= ratio <= MAX_ASPECT), None)


def square_size(width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
    """The size (width, height) of a frame with square pixels: one of the sides is enlarged.

    Args:
        width, height: of the frame.
        aspect: as `pixel_aspect`; None counts as 1.
    """
    if aspect is None or abs(aspect - 1) < MIN_DISTORTION:
        return width, height
    return (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))


def is_hdr(frame: av.VideoFrame) -> bool:
    """Whether a frame is in high dynamic range: it has the transfer function PQ or HLG."""
    return frame.color_trc in (PQ, HLG)


def reference_white(frames: list[av.VideoFrame]) -> float:
    """The luminance in cd/m2 that becomes white: what 99 % of the pixels do not exceed, from 100 to 203.

    Programmes that were converted from SDR have their white at 100, those that were shot in HDR at 203.
    """
    light = [_light(_to_rgb(frame, 64, 64) / 255, int(frame.color_trc)).max(-1) for frame in frames]
    return float(np.clip(np.percentile(light, 99), SDR_WHITE, HDR_WHITE)) if light else SDR_WHITE


def _to_rgb(frame: av.VideoFrame, width: int, height: int) -> np.ndarray:
    """Pixels (height, width, 3) uint8: RGB with the primaries and the transfer function of the frame."""
    coefficients: int | None = None
    if frame.colorspace == UNSPECIFIED and not frame.format.is_rgb:
        coefficients = BT2020 if is_hdr(frame) else BT709 if frame.height >= HD_LINES else None
    pixels: np.ndarray = frame.to_ndarray(
        format="rgb24", width=width, height=height, src_colorspace=coefficients, threads=1
    )
    return pixels


@functools.lru_cache(maxsize=8)
def _sdr_table(transfer: int, wide: bool, white: int) -> ImageFilter.Color3DLUT:
    """The map from RGB of a transfer function (`wide`: with the primaries of BT.2020) to BT.709 and BT.1886.

    Linear light, relative to `white`, is converted to BT.709. Then each pixel is scaled so that its largest
    component x stays up to the knee k and becomes k + (1 - k) t / (1 + t) above, t = (x - k) / (1 - k):
    Reinhard's curve above a knee. The hue is kept, and light of any luminance stays below 1.
    """
    axis = np.linspace(0, 1, TABLE_SIZE)
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")
    light = _light(np.stack([red, green, blue], -1), transfer) / white
    if wide:
        light = light @ BT2020_TO_BT709.T
    light = light.clip(0)
    if transfer in (PQ, HLG):
        largest = light.max(-1, keepdims=True)
        excess = (largest - KNEE).clip(0) / (1 - KNEE)
        compressed = np.minimum(largest, KNEE) + (1 - KNEE) * excess / (1 + excess)
        light *= compressed / largest.clip(1e-9)
    table = light.clip(0, 1) ** (1 / SDR_GAMMA)
    return ImageFilter.Color3DLUT(TABLE_SIZE, table.astype(np.float32).ravel())


def _light(signal: np.ndarray, transfer: int) -> np.ndarray:
    """Light of a display in cd/m2 for signals (..., 3) in [0, 1]: BT.2100's PQ and HLG, or BT.1886."""
    if transfer == PQ:
        m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
        root = signal ** (1 / m2)
        return 10_000 * ((root - c1).clip(0) / (c2 - c3 * root)) ** (1 / m1)
    if transfer == HLG:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
        luminance = scene @ np.array([0.2627, 0.6780, 0.0593])
        return HLG_PEAK * scene * luminance[..., None] ** (HLG_GAMMA - 1)
    return SDR_WHITE * signal**SDR_GAMMA
