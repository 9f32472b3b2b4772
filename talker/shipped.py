"""The models, portraits and voices that come with the package, by name."""

from __future__ import annotations

from pathlib import Path

from talker.checkpoint import ASSETS, PUPPET
from talker.errors import UserError


def shipped_names(kind: str) -> list[str]:
    """Names of the "portraits" or "voices" that the package carries, the default first."""
    return sorted(path.stem for path in (ASSETS / kind).glob("*") if path.suffix in (".png", ".wav"))


def shipped_models() -> list[str]:
    """Names of the checkpoints that the package carries, the default first."""
    names = sorted(path.parent.parent.name for path in ASSETS.glob("*/talker/config.json"))
    return sorted(names, key=lambda name: name != PUPPET.name)


def model_folder(wanted: str | Path | None) -> Path:
    """The folder of a shipped checkpoint by its name, or the path itself; None: the default.

    A folder of your own that has a shipped name is "./NAME".

    Raises:
        UserError: neither such a name nor such a folder exists.
    """
    if wanted is None:
        return PUPPET
    if str(wanted) in shipped_models():
        return ASSETS / str(wanted)
    path = Path(wanted)
    if not path.is_dir():
        raise UserError(
            f"{wanted!s} is neither a folder nor one of the shipped models ({', '.join(shipped_models())})"
        )
    return path


def shipped(kind: str, wanted: str | Path | None) -> Path:
    """The file of a shipped portrait or voice by its name, or the path itself.

    Raises:
        UserError: neither such a name nor such a file exists.
    """
    names = shipped_names(kind)
    if wanted is None and names:
        wanted = names[0]
    if wanted is None:
        raise UserError(f"this installation carries no {kind}: name a file instead")
    if str(wanted) in names:
        return next((ASSETS / kind).glob(f"{wanted}.*"))
    path = Path(wanted)
    if not path.suffix and not path.exists():
        raise UserError(f"{wanted!s} is neither a file nor one of the shipped {kind} ({', '.join(names)})")
    return path
