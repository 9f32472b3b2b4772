"""Are the measures themselves right? Each is tried on the corpus, where the truth is known.

    python -m evaluation.validate [--split heldout] [--speech 200] [--scenes 60]

Prints what docs and closing notes quote, and writes runs/evaluation/validation.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from evaluation.heldout import Scene, Split, scenes, speaking
from evaluation.report import Cell, table, write_json
from evaluation.silence import silent_frames, spoken_seconds
from evaluation.speech import Errors, Recogniser, phoneme_errors, recogniser
from evaluation.sync import SAMPLES_PER_FRAME, Sync, SyncNet, compare, mouth_opening, sync_net, watched
from evaluation.video import squared_error

SHIFTS = range(-10, 11)


def hearing(ear: Recogniser, split: Split, count: int) -> dict[str, Cell]:
    """PER on corpus speech: as it is, softer, with noise at -40 dBFS, with texts shuffled; and how well the
    level tells where speech begins and ends."""
    clips = [clip for clip, _ in zip(speaking(split), range(count), strict=False)]
    meant = [[p.symbol for p in clip.phonemes] for clip in clips]
    sounds = [torch.from_numpy(clip.pcm) for clip in clips]
    noise = 10 ** (-40 / 20)
    g = torch.Generator().manual_seed(0)
    versions = {
        "per_corpus": sounds,
        "per_12_db_softer": [0.25 * s for s in sounds],
        "per_noise_40_db": [s + noise * torch.randn(s.shape, generator=g) for s in sounds],
    }
    heard = {name: [ear.transcribe(s) for s in version] for name, version in versions.items()}
    figures: dict[str, Cell] = {name: rate(said, meant) for name, said in heard.items()}
    figures["per_shuffled"] = rate(heard["per_corpus"], [*meant[1:], *meant[:1]])
    said = [[p for p in clip.phonemes if p.symbol != "_"] for clip in clips]
    spans = [phones[-1].end - phones[0].start for phones in said]
    ratios = [spoken_seconds(s) / span for s, span in zip(sounds, spans, strict=True)]
    figures["voiced_span_over_true_span"] = float(torch.tensor(ratios).median())
    return figures


def rate(heard: Sequence[list[str]], meant: Sequence[list[str]]) -> float:
    """PER of a set."""
    return sum((phoneme_errors(h, m) for h, m in zip(heard, meant, strict=True)), Errors()).rate


def shifted(pcm: Tensor, frames: int) -> Tensor:
    """pcm (samples,) made `frames` later (negative: earlier), silence where nothing is left."""
    samples, moved = frames * SAMPLES_PER_FRAME, torch.zeros_like(pcm)
    if samples >= 0:
        moved[samples:] = pcm[: len(pcm) - samples]
    else:
        moved[:samples] = pcm[-samples:]
    return moved


def watching(net: SyncNet, clips: Sequence[Scene]) -> dict[str, Cell]:
    """Known shifts recovered, true pairs told from shuffled ones."""
    seen, sounds = [watched(net, clip.frames) for clip in clips], [clip.pcm for clip in clips]
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
    """Mean confidence."""
    return sum(sync.confidence for sync in results) / len(results)


def auc(above: Sequence[float], below: Sequence[float]) -> float:
    """Chance that one of `above` exceeds one of `below`, ties counting half: the area under the ROC curve."""
    high, low = torch.tensor(above)[:, None], torch.tensor(below)[None]
    return float(((high > low).double() + 0.5 * (high == low).double()).mean())


def opening(net: SyncNet, clips: Sequence[Scene]) -> dict[str, Cell]:
    """Correlation of the measured mouth opening with jaw x (1 - closure); how open mouths are in silence."""
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
    """Pearson's."""
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1])


def pictures(clips: Sequence[Scene]) -> dict[str, Cell]:
    """PSNR of frames under noise of known size, which in closed form is 20 log10(255 / 5.1) = 34 dB."""
    g, frame = torch.Generator().manual_seed(0), clips[0].frames[0]
    noisy = frame + torch.randn(frame.shape, generator=g) * 0.02
    return {"psnr_of_2_percent_noise": squared_error(noisy, frame).psnr}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--split", default="heldout", choices=("heldout", "train"))
    parser.add_argument("--speech", type=int, default=200, help="clips for the recogniser; 0: leave it out")
    parser.add_argument("--scenes", type=int, default=60, help="clips for the estimator; 0: leave it out")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    figures: dict[str, Cell] = {}
    if options.speech:
        figures |= hearing(recogniser(), options.split, options.speech)
    if options.scenes:
        clips = list(scenes(options.split, options.scenes))
        figures |= watching(sync_net(), clips) | opening(sync_net(), clips) | pictures(clips)
    print(table([{"figure": name, "value": value} for name, value in figures.items()]))
    folder = Path("runs/evaluation")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(figures, folder / "validation.json")


if __name__ == "__main__":
    main()
