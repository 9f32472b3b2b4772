"""Output of measurements: tables, JSON files, WAV files and contact sheets."""

from __future__ import annotations

import json
import math
import wave
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from evaluation.mel import LogMel
from talker.clock import SAMPLE_RATE

TILE = 128  # pixels per side of a frame in a contact sheet
TILES = 8  # frames per row
INK, PAPER, BLUE = (20, 20, 20), (250, 250, 248), (40, 90, 160)

Cell = str | int | float | None


def table(rows: Sequence[Mapping[str, Cell]]) -> str:
    """Format rows as aligned columns; floats have three digits, missing values are a dash."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names, *([format_cell(row.get(name)) for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    return "\n".join("  ".join(c.rjust(w) for c, w in zip(line, widths, strict=True)) for line in cells)


def format_cell(value: Cell) -> str:
    """Format a value for a table."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def write_json(values: Any, path: Path) -> None:
    """Write `values` as standard JSON: numbers that are not finite become null."""
    path.write_text(json.dumps(_finite(values), indent=1, ensure_ascii=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def strip(frames: NDArray[np.uint8], tiles: int = TILES) -> Image.Image:
    """Return `tiles` evenly spaced frames of frames (T, H, W, 3) side by side."""
    indices = np.linspace(0, len(frames) - 1, tiles).round().astype(int)
    row = Image.new("RGB", (tiles * TILE, TILE), PAPER)
    for i, frame in enumerate(frames[indices]):
        row.paste(Image.fromarray(frame).resize((TILE, TILE), Image.Resampling.LANCZOS), (i * TILE, 0))
    return row


def spectrogram(pcm: NDArray[np.float32], width: int, height: int) -> Image.Image:
    """Return the log-mel spectrogram of pcm (samples,) at 24 kHz as a picture; dark is loud."""
    mel = LogMel(mels=64, hop=240, window=768)(torch.from_numpy(pcm)[None])[0].flip(0)
    low, high = float(mel.min()), float(mel.max())
    grey = 255 * (1 - (mel - low) / max(high - low, 1e-3))
    picture = Image.fromarray(grey.round().to(torch.uint8).numpy())
    return picture.resize((width, height), Image.Resampling.BILINEAR).convert("RGB")


def curve(values: NDArray[np.float32], width: int, height: int, top: float) -> Image.Image:
    """Plot values (T,) over time, from 0 at the bottom to `top` at the top."""
    picture = Image.new("RGB", (width, height), PAPER)
    x = np.linspace(0, width - 1, len(values))
    y = (height - 2) * (1 - np.clip(values / top, 0, 1))
    ImageDraw.Draw(picture).line(list(zip(x.tolist(), y.tolist(), strict=True)), BLUE, 2)
    return picture


def waveform(pcm: NDArray[np.float32], width: int, height: int) -> Image.Image:
    """Plot pcm (samples,): a line from minimum to maximum in each column of pixels."""
    picture = Image.new("RGB", (width, height), PAPER)
    draw, edges = ImageDraw.Draw(picture), np.linspace(0, len(pcm), width + 1).astype(int)
    for x, (start, stop) in enumerate(pairwise(edges)):
        part = pcm[start : max(stop, start + 1)]
        low, high = (height / 2 * (1 - np.clip(v, -1, 1)) for v in (part.min(), part.max()))
        draw.line([(x, float(high)), (x, float(low))], BLUE)
    return picture


def contact_sheet(
    title: str, clips: Mapping[str, tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]]
) -> Image.Image:
    """Return a picture with the name, frames, spectrogram, waveform and mouth opening of each clip.

    Args:
        title: first line; cut to 160 characters.
        clips: name: (frames (T, H, W, 3), pcm (samples,), mouth opening (T,)).
    """
    width, parts = TILES * TILE, [caption(title, TILES * TILE)]
    for name, (frames, pcm, opening) in clips.items():
        parts += [caption(name, width), strip(frames), spectrogram(pcm, width, 96)]
        parts += [waveform(pcm, width, 48), curve(opening, width, 40, top=0.6)]
    sheet = Image.new("RGB", (width, sum(p.height for p in parts)), PAPER)
    y = 0
    for part in parts:
        sheet.paste(part, (0, y))
        y += part.height
    return sheet


def caption(text: str, width: int) -> Image.Image:
    """Return a line of text, without the characters that the built-in font lacks."""
    line = Image.new("RGB", (width, 18), PAPER)
    ImageDraw.Draw(line).text((4, 3), text.encode("latin-1", "replace").decode("latin-1")[:160], INK)
    return line


def write_wav(path: Path, pcm: Tensor) -> None:
    """Write pcm (samples,) at 24 kHz as a 16-bit file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((pcm.clamp(-1, 1) * 32767).round().short().numpy().tobytes())
