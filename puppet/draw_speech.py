"""Draw a clip as one picture: waveform, spectrogram with phonemes, lips, head and face over time
(docs/speech.png)."""

import argparse
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from puppet.corpus import Clip, Corpus
from puppet.motion import FRAME_RATE, INDEX
from puppet.sentences import SPLITS
from puppet.speech import PAUSE, SAMPLE_RATE

_CURVES = {
    "lips": ("jaw", "closure", "rounding", "lip_width"),
    "head, radians": ("yaw", "pitch", "roll"),
    "face": ("lid_left", "gaze_x", "brow_outer", "smile", "breath"),
}


def draw(clip: Clip, path: Path) -> None:
    """Write the picture of one clip as PNG."""
    figure, axes = plt.subplots(5, 1, figsize=(13, 10), sharex=True, height_ratios=[1, 2.4, 1.6, 1.2, 1.2])
    seconds = np.arange(len(clip.pcm)) / SAMPLE_RATE
    speaker = clip.voice
    about = f"variant {speaker.variant}, {speaker.rate} words a minute, tract x {speaker.tract:.2f}"
    axes[0].set_title(f"{clip.split} clip {clip.index}: “{clip.text}” ({about})")
    axes[0].plot(seconds, clip.pcm, lw=0.4, color="#333355")
    axes[0].set_ylabel("waveform")
    floor = 1e-5 * np.random.default_rng(0).standard_normal(len(clip.pcm))  # the logarithm of silence
    axes[1].specgram(
        clip.pcm + floor, NFFT=512, noverlap=400, Fs=SAMPLE_RATE, vmin=-125, vmax=-40, cmap="magma"
    )
    axes[1].set_ylabel("Hz")
    _phonemes(clip, axes)
    times = (np.arange(len(clip.motion)) + 0.5) / FRAME_RATE
    for axis, (label, names) in zip(axes[2:], _CURVES.items(), strict=True):
        for name in names:
            axis.plot(times, clip.motion[:, INDEX[name]], ".-", ms=3, lw=1.1, label=name)
        axis.legend(loc="upper right", fontsize=8, ncol=5)
        axis.set_ylabel(label)
    axes[-1].set_xlabel("seconds")
    axes[-1].set_xlim(0, seconds[-1])
    figure.tight_layout()
    figure.savefig(path, dpi=65)


def _phonemes(clip: Clip, axes: Any) -> None:
    for one in clip.phonemes:
        for axis in axes:
            axis.axvline(one.start, color="#888888", lw=0.3)
        if one.symbol != PAUSE:
            mark = "ˈ" if one.stress == 2 else ""
            axes[1].text((one.start + one.end) / 2, 11000, mark + one.symbol, ha="center", color="white")


def main() -> None:
    """Draw one clip."""
    parser = argparse.ArgumentParser(prog="python -m puppet.draw_speech", description=main.__doc__)
    parser.add_argument("--split", choices=SPLITS, default="heldout")
    parser.add_argument("--index", type=int, default=1, help="number of the clip")
    parser.add_argument("-o", "--out", type=Path, default=Path("docs/speech.png"))
    arguments = parser.parse_args()
    plt.switch_backend("agg")
    draw(Corpus(arguments.split).clip(arguments.index), arguments.out)


if __name__ == "__main__":
    main()
