"""Draw docs/strip.png (frames) and docs/waveform.png (waveform and spectrogram) of a generated clip.

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

from talker.clock import SAMPLE_RATE

TILES, INTERVAL = 12, 5  # frames in the strip; distance between two of them in frames


def main(path: str) -> None:
    """Draw both pictures of the clip at `path`."""
    with av.open(path) as clip:
        frames = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]
    with av.open(path) as clip:
        pcm = np.concatenate([frame.to_ndarray().ravel() for frame in clip.decode(audio=0)])
    first = len(frames) // 3
    tiles = frames[first : first + TILES * INTERVAL : INTERVAL]
    half = len(tiles) // 2
    rows = [np.concatenate(tiles[:half], axis=1), np.concatenate(tiles[half : 2 * half], axis=1)]
    Image.fromarray(np.concatenate(rows)).save(Path("docs/strip.png"))

    figure, (wave, spectrum) = plt.subplots(2, figsize=(12, 4), sharex=True, height_ratios=(1, 2))
    wave.plot(np.arange(len(pcm)) / SAMPLE_RATE, pcm, linewidth=0.4)
    spectrum.specgram(pcm + 1e-6, NFFT=512, Fs=SAMPLE_RATE, noverlap=384, vmin=-130, vmax=-40)
    spectrum.set(xlabel="seconds", ylabel="Hz")
    figure.tight_layout()
    figure.savefig(Path("docs/waveform.png"), dpi=80)


if __name__ == "__main__":
    main(sys.argv[1])
