"""Draw docs/motion_curves.png or docs/audio_curves.png from the logs of runs, one curve per run.

python docs/draw_curves.py motion runs/motion_ae runs/motion_ae_selfsupervised
python docs/draw_curves.py audio runs/audio_vae runs/audio_vae_adversarial
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PANELS = {
    "motion": {"mouth": "PSNR in the mouth box, dB"},
    "audio": {"heldout": "spectral loss", "heldout_phonemes": "share of phonemes recognised differently"},
}


def curve(log: Path, name: str) -> tuple[list[float], list[float]]:
    """Return the training time in hours and the value of `name`, for the lines of the log that have it.

    A run that was killed and resumed repeats some steps; the last line of each step is used.
    """
    rows = {row["step"]: row for row in map(json.loads, log.read_text().splitlines()) if name in row}
    return [rows[step]["minutes"] / 60 for step in sorted(rows)], [rows[step][name] for step in sorted(rows)]


def main(kind: str, *runs: str) -> None:
    """Draw one panel for each measure of `kind`.

    A dashed line shows the measure for a copy of the source frame, if the first run has logged it.
    """
    panels = PANELS[kind]
    figure, axes = plt.subplots(1, len(panels), figsize=(6 * len(panels), 4), squeeze=False)
    for axis, (name, label) in zip(axes[0], panels.items(), strict=True):
        for run in runs:
            axis.plot(*curve(Path(run) / "log.jsonl", name), marker=".", label=Path(run).name)
        copies = curve(Path(runs[0]) / "log.jsonl", f"{name}_copy")[1]
        if copies:
            axis.axhline(copies[0], linestyle="--", color="grey", label="copying the source")
        axis.set(xlabel="hours", ylabel=label)
        axis.grid(alpha=0.3)
        axis.legend()
    figure.tight_layout()
    figure.savefig(Path(f"docs/{kind}_curves.png"), dpi=80)


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in PANELS:
        sys.exit(__doc__)
    main(*sys.argv[1:])
