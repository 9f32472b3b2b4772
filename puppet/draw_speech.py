"""Plot a clip over time: waveform, spectrogram with phonemes, lips, head and face.

python -m puppet.draw_speech     writes runs/speech.png
"""

import argparse
from pathlib import Path
from typing import Any

from talker.signals import announce

if __name__ == "__main__":  # before imports that take seconds
    announce("puppet.draw_speech")

import numpy as np
from matplotlib.figure import Figure

from puppet.corpus import Clip, Corpus, bench
from puppet.mixes import Mix
from puppet.motion import INDEX
from puppet.sentences import SPLITS
from puppet.speech import PAUSE
from talker.clock import FRAME_RATE, SAMPLE_RATE

_CURVES = {
    "lips": ("jaw", "closure", "rounding", "lip_width"),
    "head, radians": ("yaw", "pitch", "roll"),
    "face": ("lid_left", "gaze_x", "brow_outer", "smile", "breath"),
}


def draw(clip: Clip, path: Path) -> None:
    """Write the plot of one clip as PNG."""
    figure = Figure(figsize=(13, 10))
    axes = figure.subplots(5, 1, sharex=True, height_ratios=[1, 2.4, 1.6, 1.2, 1.2])
    seconds = np.arange(len(clip.pcm)) / SAMPLE_RATE
    axes[0].set_title(f"{clip.split} clip {clip.index}: “{clip.text}” ({_about(clip)})")
    axes[0].plot(seconds, clip.pcm, lw=0.4, color="#333355")
    axes[0].set_ylabel("waveform")
    floor = 1e-5 * np.random.default_rng(0).standard_normal(len(clip.pcm))  # avoids the logarithm of 0
    axes[1].specgram(
        clip.pcm + floor, NFFT=512, noverlap=400, Fs=SAMPLE_RATE, vmin=-125, vmax=-40, cmap="magma"
    )
    axes[1].set_ylabel("Hz")
    _draw_phonemes(clip, axes)
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


def _about(clip: Clip) -> str:
    voice = clip.voice
    if isinstance(voice, Mix):
        return f"{voice.percent} % {voice.first}, the rest {voice.second}, tract x {voice.tract:.2f}"
    return f"variant {voice.variant}, {voice.rate} words per minute, tract x {voice.tract:.2f}"


def _draw_phonemes(clip: Clip, axes: Any) -> None:
    """Write the phonemes into the spectrogram, axes[1], and draw their borders in all axes."""
    for phoneme in clip.phonemes:
        for axis in axes:
            axis.axvline(phoneme.start, color="#888888", lw=0.3)
        if phoneme.symbol != PAUSE:
            mark = "ˈ" if phoneme.stress == 2 else ""
            axes[1].text(
                (phoneme.start + phoneme.end) / 2, 11000, mark + phoneme.symbol, ha="center", color="white"
            )


def main() -> None:
    """Plot one clip."""
    parser = argparse.ArgumentParser(prog="python -m puppet.draw_speech", description=main.__doc__)
    parser.add_argument("--split", choices=SPLITS, default="heldout")
    parser.add_argument("--index", type=int, default=1, help="index of the clip")
    parser.add_argument("--bench", action="store_true", help="espeak's speech instead of a bank's")
    parser.add_argument("-o", "--out", type=Path, default=Path("runs/speech.png"), help="output file")
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    corpus = bench(arguments.split) if arguments.bench else Corpus(arguments.split)
    draw(corpus.clip(arguments.index), arguments.out)
    print(arguments.out)


if __name__ == "__main__":
    main()
