"""Draws docs/clip.webp, docs/strip.png and docs/waveform.png from a generated clip.

python docs/draw_clip.py demo.mp4
"""

from __future__ import annotations

import sys
from pathlib import Path

import av
import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from PIL import Image

from talker.clock import FRAME_RATE, SAMPLE_RATE

DOCS = Path(__file__).parent
TILES, TILE_STEP = 12, 5  # number of frames in the strip, and frames from one to the next
ANIMATION_STEP = 2  # the animation has every second frame
ANIMATION_BYTES = 1_000_000


def draw_animation(frames: list[np.ndarray], path: Path) -> None:
    """Write an animated WebP that repeats, with the highest quality that fits ANIMATION_BYTES."""
    images = [Image.fromarray(frame) for frame in frames[::ANIMATION_STEP]]
    milliseconds = 1000 * ANIMATION_STEP // FRAME_RATE
    for quality in range(90, 10, -10):
        images[0].save(
            path,
            save_all=True,
            append_images=images[1:],
            duration=milliseconds,
            loop=0,
            quality=quality,
            method=6,
        )
        if path.stat().st_size < ANIMATION_BYTES:
            break


def draw_strip(frames: list[np.ndarray], path: Path) -> None:
    """Draw frames of the middle of the clip in two rows."""
    first = len(frames) // 3
    tiles = frames[first : first + TILES * TILE_STEP : TILE_STEP]
    half = len(tiles) // 2
    rows = [np.concatenate(tiles[:half], axis=1), np.concatenate(tiles[half : 2 * half], axis=1)]
    Image.fromarray(np.concatenate(rows)).save(path)


def draw_sound(pcm: np.ndarray, path: Path) -> None:
    """Draw the waveform above the spectrogram."""
    figure, (wave, spectrum) = plt.subplots(2, figsize=(12, 4), sharex=True, height_ratios=(1, 2))
    wave.plot(np.arange(len(pcm)) / SAMPLE_RATE, pcm, linewidth=0.4)
    spectrum.specgram(pcm + 1e-6, NFFT=512, Fs=SAMPLE_RATE, noverlap=384, vmin=-130, vmax=-40)
    spectrum.set(xlabel="seconds", ylabel="Hz")
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def main(path: str) -> None:
    """Draw all pictures of a clip."""
    with av.open(path) as clip:
        frames = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]
    with av.open(path) as clip:
        pcm = np.concatenate([frame.to_ndarray().ravel() for frame in clip.decode(audio=0)])
    draw_animation(frames, DOCS / "clip.webp")
    draw_strip(frames, DOCS / "strip.png")
    draw_sound(pcm, DOCS / "waveform.png")


if __name__ == "__main__":
    main(sys.argv[1])
