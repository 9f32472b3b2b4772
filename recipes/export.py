"""Write the averaged weights of a run as a native component folder: config.json, model.safetensors, run.json.

python -m recipes.export talker runs/talker OUT
python -m recipes.export audio_vae runs/audio_vae          into the package: the embedded default
"""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
from pathlib import Path

from evaluation.speech import RECOGNISER
from evaluation.sync import SYNC
from recipes.checkpoints import STATE
from recipes.record import NAME
from talker.checkpoint import PUPPET, save_component

HOMES = {name: PUPPET / name for name in ("talker", "audio_vae", "motion_ae", "speaker")} | {
    "recogniser": RECOGNISER,
    "sync": SYNC,
}
WITHOUT_HOME = ("audio_vae_adversarial", "motion_ae_selfsupervised")  # not what the package holds


def export(component: str, run: Path, folder: Path) -> None:
    """The averaged weights of `run`, of the recipe `train_<component>`, into `folder`.

    Raises:
        ValueError: the run has no checkpoint, or is another recipe's.
    """
    if not (run / STATE).exists():
        raise ValueError(f"{run / STATE} is missing: train first, or name another run folder")
    trained = json.loads((run / NAME).read_text())["recipe"] if (run / NAME).exists() else component
    if trained != component:
        raise ValueError(f"{run} is a run of train_{trained}: export {trained}")
    recipe = importlib.import_module(f"recipes.train_{component}")
    save_component(recipe.averaged(run), folder)
    if (run / NAME).exists():
        shutil.copyfile(run / NAME, folder / NAME)


def main() -> None:
    """Export one run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("component", choices=(*HOMES, *WITHOUT_HOME))
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path, nargs="?", help="the package's own, where it is left out")
    options = parser.parse_args()
    folder = options.folder or HOMES.get(options.component)
    if folder is None:
        parser.error(f"{options.component} is not part of the package: name a folder")
    try:
        export(options.component, options.run, folder)
    except ValueError as error:
        raise SystemExit(f"export: {error}") from error


if __name__ == "__main__":
    main()
