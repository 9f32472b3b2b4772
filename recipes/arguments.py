"""What the command lines of recipes have in common: a preset, values of it, a run folder, limits."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from recipes import ranks
from recipes.configs.override import override


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
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop earlier, by the clock")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--local_rank", help=argparse.SUPPRESS)  # the deepspeed launcher's
    parser.set_defaults(presets=presets)
    return parser


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
        yield options, override(options.presets[options.config](), options.set), device
    except ValueError as error:
        raise SystemExit(f"{parser.prog}: {error}") from error
