"""Write the averaged weights of a run as a native component folder: config.json, model.safetensors, run.json.

python -m recipes.export talker runs/talker OUT
python -m recipes.export audio_vae runs/audio_vae          replaces the embedded default in the package
"""

from __future__ import annotations

import argparse
import importlib
import shutil
from pathlib import Path

from talker.signals import announce

if __name__ == "__main__":  # before imports that take seconds
    announce("recipes.export")

from evaluation.speech import RECOGNISER
from evaluation.sync import SYNC
from recipes.checkpoints import STATE
from recipes.record import NAME, read_record
from talker.checkpoint import save_component
from talker.shipped import PUPPET

PACKAGE_FOLDERS = {name: PUPPET / name for name in ("talker", "audio_vae", "motion_ae", "speaker")} | {
    "recogniser": RECOGNISER,
    "sync": SYNC,
}
NOT_IN_PACKAGE = ("audio_vae_adversarial", "audio_vae_source_filter", "motion_ae_selfsupervised")


def export(component: str, run: Path, folder: Path) -> None:
    """Write the averaged weights of `run`, a run of the recipe `train_<component>`, to `folder`.

    Raises:
        ValueError: the run has no checkpoint, a damaged record, or is a run of another recipe.
    """
    if not (run / STATE).exists():
        raise ValueError(f"{run / STATE} is missing: train first, or choose another run folder")
    trained = read_record(run)["recipe"] if (run / NAME).exists() else component
    if trained != component:
        raise ValueError(f"{run} is a run of train_{trained}: export {trained} instead of {component}")
    recipe = importlib.import_module(f"recipes.train_{component}")
    save_component(recipe.averaged(run), folder)
    if (run / NAME).exists():
        shutil.copyfile(run / NAME, folder / NAME)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("component", choices=(*PACKAGE_FOLDERS, *NOT_IN_PACKAGE))
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path, nargs="?", help="default: the component's folder in the package")
    options = parser.parse_args()
    folder = options.folder or PACKAGE_FOLDERS.get(options.component)
    if folder is None:
        parser.error(f"the package does not contain {options.component}: name a folder to write to")
    try:
        export(options.component, options.run, folder)
    except ValueError as error:
        raise SystemExit(f"export: {error}") from error


if __name__ == "__main__":
    main()
