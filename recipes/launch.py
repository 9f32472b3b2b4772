"""How every recipe is started: command line, resolved config, run folder, device and ranks."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from recipes import ranks
from recipes.checkpoints import place_initial_weights
from recipes.configs.override import override
from talker.signals import command, exit_on_signals


def argument_parser(
    recipe: str, description: str | None, presets: Mapping[str, Callable[[], Any]]
) -> argparse.ArgumentParser:
    """Return the parser of `python -m recipes.train_<recipe>`, with the options that all recipes share.

    Args:
        recipe: name of the recipe, and of its default run folder.
        description: text of --help, the recipe's docstring.
        presets: functions that return a config, by name; `puppet` is the default.
    """
    parser = argparse.ArgumentParser(
        prog=f"train_{recipe}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", choices=presets, default="puppet", help="the preset to start from")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="change one value of the config"
    )
    parser.add_argument("--run", type=Path, default=Path("runs") / recipe, help="folder of this run")
    parser.add_argument(
        "--begin", type=Path, metavar="FOLDER", help="exported component to take initial weights from"
    )
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after this training time")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of this process")
    parser.add_argument("--local_rank", help=argparse.SUPPRESS)  # passed by the deepspeed launcher
    parser.set_defaults(presets=presets)
    return parser


def add_renamed(parser: argparse.ArgumentParser, old: str, new: str) -> None:
    """Make the option `old` an error that names its new name."""

    class Renamed(argparse.Action):
        def __call__(self, *_: Any) -> None:
            parser.error(f"{old} is now called {new}")

    parser.add_argument(old, action=Renamed, help=argparse.SUPPRESS)


@contextmanager
def launch(parser: argparse.ArgumentParser) -> Iterator[tuple[argparse.Namespace, Any, torch.device]]:
    """Parse the command line, join the other ranks, and yield (options, config, device of this process).

    The number of CPU threads is restored at the end.

    Raises:
        SystemExit: the command line is wrong, the body raised a ValueError, or SIGINT, SIGTERM or SIGHUP
            stopped the training; a line is printed.
    """
    options = parser.parse_args()
    threads = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    # Within the steps, `Engine.steps` saves and has a line of its own.
    stopped = f"finished files in {options.run} are kept; continue with: {command()}"
    with exit_on_signals(stopped if os.environ.get("RANK", "0") == "0" else ""):
        try:
            device = ranks.join()
            _create(options.run)
            if options.begin and ranks.rank() == 0:
                place_initial_weights(options.run, options.begin)
            ranks.barrier()
            yield options, override(options.presets[options.config](), options.set), device
        except ValueError as error:
            raise SystemExit(f"{parser.prog}: {error}") from error
        finally:
            torch.set_num_threads(threads)


def _create(run: Path) -> None:
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot create the folder --run {run} ({error.strerror})") from error
