"""What the command lines of recipes have in common: a preset, values of it, a run folder, limits."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from recipes import ranks
from recipes.checkpoints import BEGIN, STATE
from recipes.configs.override import override
from talker.checkpoint import atomic


def arguments(
    recipe: str, said: str | None, presets: Mapping[str, Callable[[], Any]]
) -> argparse.ArgumentParser:
    """The parser of `python -m recipes.train_<recipe>`, of whose presets `puppet` is the default."""
    parser = argparse.ArgumentParser(
        prog=f"train_{recipe}", description=said, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", choices=presets, default="puppet")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a value of the config"
    )
    parser.add_argument("--run", type=Path, default=Path("runs") / recipe, help="folder of this run")
    parser.add_argument("--begin", type=Path, metavar="FOLDER", help="first weights: an exported component")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop earlier, by the clock")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--local_rank", help=argparse.SUPPRESS)  # the deepspeed launcher's
    parser.set_defaults(presets=presets)
    return parser


def begin(run: Path, component: Path) -> None:
    """Lay the weights of a component's folder into a run folder, for a training that has no checkpoint yet.

    Raises:
        ValueError: they are missing or damaged.
    """
    weights = component / "model.safetensors"
    try:
        with safe_open(weights, "pt"):
            pass
    except (OSError, SafetensorError) as error:
        raise ValueError(f"--begin {component}: {weights} cannot be read ({error})") from error
    if (run / STATE).exists():
        print(f"{run} goes on from its checkpoint: --begin is for new runs", flush=True)
        return
    run.mkdir(parents=True, exist_ok=True)
    with atomic(run / BEGIN) as temporary:
        shutil.copyfile(weights, temporary)


@contextmanager
def started(
    parser: argparse.ArgumentParser,
) -> Iterator[tuple[argparse.Namespace, Any, torch.device]]:
    """The command line, its resolved config and this process's device, all ranks joined.

    Raises:
        SystemExit: something inside raised a ValueError, whose text is said.
    """
    options = parser.parse_args()
    device = ranks.join(options.threads)
    try:
        options.run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SystemExit(f"{parser.prog}: --run {options.run} cannot be made ({error.strerror})") from error
    try:
        if options.begin and ranks.rank() == 0:
            begin(options.run, options.begin)
        ranks.wait()
        yield options, override(options.presets[options.config](), options.set), device
    except ValueError as error:
        raise SystemExit(f"{parser.prog}: {error}") from error
