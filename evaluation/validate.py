"""Validate the measures on the corpus, where the correct values are known.

    python -m evaluation.validate [--split heldout] [--speech 200] [--scenes 60]

Prints a table and writes runs/evaluation/validation.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from talker.signals import announce, command, exit_on_signals

if __name__ == "__main__":  # before imports that take seconds
    announce("evaluation.validate")

import torch
from torch import Tensor

from evaluation.heldout import Scene, scenes, speaking
from evaluation.report import Cell, table, write_json
from evaluation.silence import silent_frames, spoken_seconds
from evaluation.speech import Errors, Recogniser, phoneme_errors, recogniser
from evaluation.sync import Sync, SyncNet, compare, embed_frames, mouth_opening, sync_net
from evaluation.threads import torch_threads
from evaluation.video import squared_error
from puppet.sentences import SPLITS, Split
from puppet.speech import PAUSE
from talker.clock import HOP
from talker.progress import track

SHIFTS = range(-10, 11)


def speech_figures(model: Recogniser, split: Split, count: int) -> dict[str, Cell]:
    """Measure the PER of `count` clips, and the accuracy of the level-based speech activity.

    The PER is measured on the clips themselves, at a lower level, with noise of -40 dBFS, and against the
    phonemes of other clips.
    """
    clips = list(track(islice(speaking(split), count), "clips", count))
    expected = [[p.symbol for p in clip.phonemes] for clip in clips]
    sounds = [torch.from_numpy(clip.pcm) for clip in clips]
    noise = 10 ** (-40 / 20)
    g = torch.Generator().manual_seed(0)
    versions = {
        "per_corpus": sounds,
        "per_12_db_softer": [0.25 * s for s in sounds],
        "per_noise_40_db": [s + noise * torch.randn(s.shape, generator=g) for s in sounds],
    }
    heard = {
        name: [model.transcribe(s) for s in track(version, name, count)] for name, version in versions.items()
    }
    figures: dict[str, Cell] = {name: rate(phonemes, expected) for name, phonemes in heard.items()}
    figures["per_shuffled"] = rate(heard["per_corpus"], [*expected[1:], *expected[:1]])
    spoken = [[p for p in clip.phonemes if p.symbol != PAUSE] for clip in clips]
    spans = [phones[-1].end - phones[0].start for phones in spoken]
    ratios = [spoken_seconds(s) / span for s, span in zip(sounds, spans, strict=True)]
    figures["voiced_span_over_true_span"] = float(torch.tensor(ratios).median())
    return figures


def rate(heard: Sequence[list[str]], expected: Sequence[list[str]]) -> float:
    """Return the PER over all pairs of sequences."""
    return sum((phoneme_errors(h, e) for h, e in zip(heard, expected, strict=True)), Errors()).rate


def shifted(pcm: Tensor, frames: int) -> Tensor:
    """Delay pcm (samples,) by `frames` video frames (negative: advance it); silence fills the gap."""
    samples, moved = frames * HOP, torch.zeros_like(pcm)
    if samples >= 0:
        moved[samples:] = pcm[: len(pcm) - samples]
    else:
        moved[:samples] = pcm[-samples:]
    return moved


def sync_figures(net: SyncNet, clips: Sequence[Scene]) -> dict[str, Cell]:
    """Measure how often known shifts are found, and how confidence separates true from shuffled pairs."""
    seen, sounds = [embed_frames(net, clip.frames) for clip in clips], [clip.pcm for clip in clips]
    found = [
        (k, compare(net, s, shifted(pcm, k))) for s, pcm in zip(seen, sounds, strict=True) for k in SHIFTS
    ]
    true = [compare(net, s, pcm) for s, pcm in zip(seen, sounds, strict=True)]
    false = [compare(net, s, pcm) for s, pcm in zip(seen, [*sounds[1:], *sounds[:1]], strict=True)]
    return {
        "shifts_tried": len(found),
        "shifts_within_1": sum(abs(sync.offset - k) <= 1 for k, sync in found) / len(found),
        "shifts_exact": sum(sync.offset == k for k, sync in found) / len(found),
        "confidence_true": mean(true),
        "confidence_shuffled": mean(false),
        "confidence_auc": auc([s.confidence for s in true], [s.confidence for s in false]),
    }


def mean(results: Sequence[Sync]) -> float:
    """Return the mean confidence."""
    return sum(sync.confidence for sync in results) / len(results)


def auc(above: Sequence[float], below: Sequence[float]) -> float:
    """Return the area under the ROC curve: the probability that one of `above` exceeds one of `below`."""
    high, low = torch.tensor(above)[:, None], torch.tensor(below)[None]
    return float(((high > low).double() + 0.5 * (high == low).double()).mean())


def mouth_figures(net: SyncNet, clips: Sequence[Scene]) -> dict[str, Cell]:
    """Compare the estimated mouth opening with jaw * (1 - closure); measure it in silence and in speech."""
    measured = [mouth_opening(net, clip.frames) for clip in clips]
    true = [clip.opening for clip in clips]
    each = [correlation(m, t) for m, t in zip(measured, true, strict=True) if float(t.std()) > 0.02]
    quiet = torch.cat([m[silent_frames(c.pcm)[: len(m)]] for m, c in zip(measured, clips, strict=True)])
    loud = torch.cat([m[~silent_frames(c.pcm)[: len(m)]] for m, c in zip(measured, clips, strict=True)])
    return {
        "opening_correlation": correlation(torch.cat(measured), torch.cat(true)),
        "opening_correlation_clip": sum(each) / len(each),
        "silent_opening_95th": float(quiet.quantile(0.95)) if len(quiet) else None,
        "silent_closed": float((quiet < 0.1).float().mean()) if len(quiet) else None,
        "speech_opening_mean": float(loud.mean()),
    }


def correlation(a: Tensor, b: Tensor) -> float:
    """Return Pearson's correlation coefficient of a and b, both (N,)."""
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1])


def picture_figures(clips: Sequence[Scene]) -> dict[str, Cell]:
    """Measure the PSNR of a frame with noise of standard deviation 0.02; the closed form is 34 dB."""
    g, frame = torch.Generator().manual_seed(0), clips[0].frames[0]
    noisy = frame + torch.randn(frame.shape, generator=g) * 0.02
    return {"psnr_of_2_percent_noise": squared_error(noisy, frame).psnr}


def validate(split: Split, speech: int, scene_count: int) -> dict[str, Cell]:
    """Validate the recogniser on `speech` clips and the other measures on `scene_count` rendered clips."""
    figures: dict[str, Cell] = {}
    if speech:
        figures |= speech_figures(recogniser(), split, speech)
    if scene_count:
        clips = list(track(scenes(split, scene_count), "scenes", scene_count))
        net = sync_net()
        figures |= sync_figures(net, clips) | mouth_figures(net, clips) | picture_figures(clips)
    return figures


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--split", default="heldout", choices=SPLITS)
    parser.add_argument("--speech", type=int, default=200, help="clips for the recogniser; 0 skips it")
    parser.add_argument(
        "--scenes", type=int, default=60, help="rendered clips for the offset estimator; 0 skips it"
    )
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of torch")
    options = parser.parse_args()
    with exit_on_signals(f"nothing is saved; start again with: {command()}"), torch_threads(options.threads):
        figures = validate(options.split, options.speech, options.scenes)
    print(table([{"figure": name, "value": value} for name, value in figures.items()]))
    folder = Path("runs/evaluation")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(figures, folder / "validation.json")


if __name__ == "__main__":
    main()
