"""Pasting of a face into a decoded frame, in the frame's own YUV planes. All other pixels keep their bits."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from talker.media.display import (
    BT709,
    BT2020,
    HD_LINES,
    UNSPECIFIED,
    display_matrix,
    is_hdr,
    orientation,
    square_size,
)
from talker.media.face import Box, slid

Plane = NDArray[np.float32]
# Share of red and of blue in the luma, by FFmpeg's number of the coefficients; others count as BT.601.
LUMA = {BT709: (0.2126, 0.0722), BT2020: (0.2627, 0.0593), 10: (0.2627, 0.0593)}
BT601_LUMA = (0.299, 0.114)
FULL_RANGE = 2
LEAST_ALPHA = 1 / 255  # a smaller share of the face is none
MOST_GAIN = 3.0  # of the contrast of a face that is matched to an HDR picture


@dataclass(frozen=True)
class Ellipse:
    """A mask in shares of the side of a square: 1 inside, 0 outside, with a smooth edge.

    Attributes:
        centre: (x, y).
        radii: (horizontal, vertical), of the outer edge.
        feather: share of the radius over which the mask falls to 0.
    """

    centre: tuple[float, float]
    radii: tuple[float, float]
    feather: float

    def draw(self, size: int) -> Plane:
        """The mask (size, size)."""
        x, y = ((np.arange(size) + 0.5) / size - c for c in self.centre)
        away = np.hypot(x[None] / self.radii[0], y[:, None] / self.radii[1])
        t = np.clip((1 - away) / self.feather, 0, 1)
        mask: Plane = (t * t * (3 - 2 * t)).astype(np.float32)
        return mask


LOWER_FACE = Ellipse((0.5, 0.69), (0.25, 0.22), 0.35)
WHOLE_FACE = Ellipse((0.5, 0.53), (0.34, 0.42), 0.3)


def paste(
    frame: av.VideoFrame, face: NDArray[np.uint8], square: Box, mask: Plane, aspect: Fraction | None
) -> av.VideoFrame:
    """A copy of a frame in which a face replaces what `square` shows.

    The colour of the face is matched to that of the frame along the edge of the mask. Where the mask is 0,
    every sample of the copy equals that of the frame.

    Args:
        frame: a decoded frame. Formats other than planar YUV are converted to yuv420p.
        face: (S, S, 3) RGB, upright and in standard dynamic range, as `displayed` gives it.
        square: its place in the picture that `displayed` gives.
        mask: (S, S) from 0 to 1.
        aspect: see `pixel_aspect`.
    """
    if not _is_supported(frame.format):
        frame = frame.reformat(format="yuv420p")
    planes = planes_of(frame)
    region = _Region.of(frame, square, aspect)
    if region is not None:
        alpha = region.fit(mask)
        alpha[alpha < LEAST_ALPHA] = 0
        patch = _to_yuv(region.fit(face.astype(np.float32)), frame)
        shown = [plane[region.part(plane, frame)] for plane in planes]
        _blend(shown, patch, alpha, is_hdr(frame))
    return _frame_of(planes, frame)


@dataclass(frozen=True)
class _Region:
    """Where a square is in the planes of a frame.

    Attributes:
        left, top, right, bottom: in samples of the luma plane, multiples of 2 except at the picture's edges.
        first: (x, y) of the square in the region, in samples.
        size: (width, height) of the square in samples.
        turn: see `orientation`, from the planes to the displayed picture.
    """

    left: int
    top: int
    right: int
    bottom: int
    first: tuple[float, float]
    size: tuple[float, float]
    turn: tuple[bool, bool, bool]

    @classmethod
    def of(cls, frame: av.VideoFrame, square: Box, aspect: Fraction | None) -> _Region | None:
        """The region of a square of the displayed picture; None if it is outside."""
        turn = orientation(display_matrix(frame))
        exchanged, rows, columns = turn
        width, height = square_size(frame.width, frame.height, aspect)  # before the turn
        shown = (height, width) if exchanged else (width, height)
        left = slid(square.left, square.side, shown[0])
        top = slid(square.top, square.side, shown[1])
        left = shown[0] - left - square.side if columns else left
        top = shown[1] - top - square.side if rows else top
        if exchanged:
            left, top = top, left
        scale_x, scale_y = frame.width / width, frame.height / height
        x, y, w, h = left * scale_x, top * scale_y, square.side * scale_x, square.side * scale_y
        x0, y0 = max(0, floor(x / 2) * 2), max(0, floor(y / 2) * 2)
        x1, y1 = min(frame.width, ceil((x + w) / 2) * 2), min(frame.height, ceil((y + h) / 2) * 2)
        if x1 <= x0 or y1 <= y0:
            return None
        return cls(x0, y0, x1, y1, (x - x0, y - y0), (w, h), turn)

    def fit(self, picture: Plane) -> Plane:
        """A square picture (S, S, ...) turned and scaled to the samples of the region, edges repeated."""
        exchanged, rows, columns = self.turn
        picture = picture[:: -1 if rows else 1, :: -1 if columns else 1]
        picture = picture.swapaxes(0, 1) if exchanged else picture
        channels = picture.reshape(*picture.shape[:2], -1).transpose(2, 0, 1)
        fitted = np.stack([self._scaled(channel) for channel in channels], axis=-1)
        return fitted.reshape(*fitted.shape[:2], *picture.shape[2:])

    def _scaled(self, channel: Plane) -> Plane:
        # First to a whole number of samples, so that a smaller face is averaged; then to the exact place.
        whole = (max(1, round(self.size[0])), max(1, round(self.size[1])))
        image = Image.fromarray(np.ascontiguousarray(channel)).resize(whole, Image.Resampling.LANCZOS)
        padded = Image.fromarray(np.pad(np.asarray(image), 4, mode="edge"))
        x, y = whole[0] / self.size[0], whole[1] / self.size[1]
        matrix = (x, 0, 4 - self.first[0] * x, 0, y, 4 - self.first[1] * y)
        out = (self.right - self.left, self.bottom - self.top)
        fitted = padded.transform(out, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
        return np.asarray(fitted)

    def part(self, plane: Plane, frame: av.VideoFrame) -> tuple[slice, slice]:
        """The slices of the region in a plane, which may be subsampled."""
        x, y = _steps(plane.shape, frame)
        return slice(self.top // y, -(-self.bottom // y)), slice(self.left // x, -(-self.right // x))


def _steps(shape: tuple[int, ...], frame: av.VideoFrame) -> tuple[int, int]:
    """Luma samples per sample of a plane, (horizontal, vertical)."""
    return (2 if shape[1] < frame.width else 1, 2 if shape[0] < frame.height else 1)


def copied(frame: av.VideoFrame) -> av.VideoFrame:
    """A copy of a frame in the format that `paste` gives."""
    if not _is_supported(frame.format):
        frame = frame.reformat(format="yuv420p")
    return _frame_of(planes_of(frame), frame)


def _is_supported(pixels: av.VideoFormat) -> bool:
    """Whether a format is planar YUV without alpha, of 8 bits, or of more bits in little-endian order."""
    planar = len(pixels.components) == 3 and pixels.is_planar and not pixels.is_rgb
    return planar and pixels.name.startswith("yuv") and not pixels.name.endswith("be")


def planes_of(frame: av.VideoFrame) -> list[NDArray[Any]]:
    """Copies of the planes of a planar YUV frame: (height, width) uint8 or uint16 each."""
    components = frame.format.components
    kind = np.dtype("<u2") if components[0].bits > 8 else np.dtype("u1")
    found = []
    for plane in frame.planes:
        rows = np.frombuffer(memoryview(plane), kind).reshape(-1, plane.line_size // kind.itemsize)
        found.append(rows[: plane.height, : plane.width].copy())
    return found


def _frame_of(planes: list[NDArray[Any]], like: av.VideoFrame) -> av.VideoFrame:
    """A frame with the given planes, and the times and the colour tags of another frame."""
    # yuvj420p is yuv420p of full range, which `color_range` says too.
    made = av.VideoFrame(like.width, like.height, like.format.name.replace("yuvj", "yuv"))
    for plane, samples in zip(made.planes, planes, strict=True):
        padded = np.zeros((samples.shape[0], plane.line_size // samples.itemsize), samples.dtype)
        padded[:, : samples.shape[1]] = samples
        plane.update(padded.tobytes())
    made.pts, made.time_base, made.duration = like.pts, like.time_base, like.duration
    for name in ("color_range", "colorspace", "color_primaries", "color_trc"):
        setattr(made, name, getattr(like, name))
    if like.format.name.startswith("yuvj"):
        made.color_range = FULL_RANGE
    return made


def _to_yuv(pixels: Plane, frame: av.VideoFrame) -> Plane:
    """RGB (H, W, 3) from 0 to 255 -> YUV in the units of the frame's samples."""
    space = int(frame.colorspace)
    if space == UNSPECIFIED:
        space = BT2020 if is_hdr(frame) else BT709 if frame.height >= HD_LINES else 0
    red, blue = LUMA.get(space, BT601_LUMA)
    bits = frame.format.components[0].bits
    full = int(frame.color_range) == FULL_RANGE or frame.format.name.startswith("yuvj")
    unit = 2.0 ** (bits - 8)
    luma, chroma, black = (255, 255, 0) if full else (219, 224, 16)
    r, g, b = np.moveaxis(pixels / 255, -1, 0)
    y = red * r + (1 - red - blue) * g + blue * b
    u, v = (b - y) / (2 * (1 - blue)), (r - y) / (2 * (1 - red))
    return np.stack([unit * (black + luma * y), unit * (128 + chroma * u), unit * (128 + chroma * v)], -1)


def _blend(shown: list[NDArray[Any]], patch: Plane, alpha: Plane, match_contrast: bool) -> None:
    """Blend a patch (H, W, 3) into views of the three planes, by alpha (H, W)."""
    for index, samples in enumerate(shown):
        share, own = _reduced(alpha, samples.shape), _reduced(patch[..., index], samples.shape)
        inside = share > 0
        edge = (share * (1 - share))[inside]
        if not inside.any():
            continue
        old, new = samples[inside].astype(np.float32), own[inside]
        if not edge.sum():
            edge = np.ones_like(edge)
        centre_old, centre_new = np.average(old, weights=edge), np.average(new, weights=edge)
        gain = 1.0
        if match_contrast:
            spread = [
                np.sqrt(np.average((x - m) ** 2, weights=edge))
                for x, m in ((old, centre_old), (new, centre_new))
            ]
            gain = float(np.clip(spread[0] / max(spread[1], 1e-3), 1 / MOST_GAIN, MOST_GAIN))
        matched = (new - centre_new) * gain + centre_old
        blended = old + share[inside] * (matched - old)
        samples[inside] = blended.round().clip(0, np.iinfo(samples.dtype).max)


def _reduced(values: Plane, shape: tuple[int, ...]) -> Plane:
    """Values (H, W) averaged over the samples of a plane that may be subsampled to `shape`."""
    y, x = (-(-values.shape[0] // shape[0]), -(-values.shape[1] // shape[1]))
    padded = np.pad(
        values, ((0, shape[0] * y - values.shape[0]), (0, shape[1] * x - values.shape[1])), "edge"
    )
    return padded.reshape(shape[0], y, shape[1], x).mean((1, 3))
