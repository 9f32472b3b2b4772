"""Finds the models, portraits and voices that are part of the package."""

from __future__ import annotations

import json
from difflib import get_close_matches
from pathlib import Path

from talker.errors import UserError
from talker.media.files import check_input, is_url

ASSETS = Path(__file__).parent / "assets"
PUPPET = ASSETS / "puppet"  # the default model
VOICE_MEASURES = ASSETS / "voices" / "measures.json"
PARTS = ("talker", "audio_vae", "motion_ae", "speaker")


def shipped_names(kind: str) -> list[str]:
    """Names of the shipped portraits or voices, sorted. `kind`: "portraits" or "voices"."""
    return sorted(path.stem for path in (ASSETS / kind).glob("*") if path.suffix in (".png", ".wav"))


def voice_error_rates() -> dict[str, float]:
    """Phoneme error rate of the default model in each shipped voice, as `evaluation.voices` measured it."""
    if not VOICE_MEASURES.exists():
        return {}
    rates: dict[str, float] = json.loads(VOICE_MEASURES.read_text())["phoneme_error_rate"]
    return rates


def shipped_models() -> list[str]:
    """Names of the shipped models. The default model comes first."""
    names = sorted(path.parent.parent.name for path in ASSETS.glob("*/talker/config.json"))
    return sorted(names, key=lambda name: name != PUPPET.name)


def model_folder(wanted: str | Path | None) -> Path:
    """The checkpoint folder of a shipped model, or of a path. None: the default model.

    To use your own folder with the name of a shipped model, write "./NAME".

    Raises:
        UserError: `wanted` is neither a shipped model nor a folder, or the folder lacks a file.
    """
    if wanted is None:
        return PUPPET
    if (name := _shipped_name(wanted, shipped_models())) is not None:
        return ASSETS / name
    path = Path(wanted)
    if is_url(str(wanted)):
        raise UserError(f"{wanted!s} is a web address: download the model first and give its folder")
    if not path.is_dir():
        raise UserError(
            f"{wanted!s} is neither a folder nor one of the shipped models ({', '.join(shipped_models())})"
        )
    files = [path / part / name for part in PARTS for name in ("config.json", "model.safetensors")]
    missing = [str(file.relative_to(path)) for file in files if not file.is_file()]
    if missing:
        raise UserError(f"{path} is not a complete model: {', '.join(missing)} missing")
    return path


def is_shipped(kind: str, wanted: str | Path | None) -> bool:
    """Whether `shipped` gives a shipped file for a name, not a file of the user."""
    return wanted is None or _shipped_name(wanted, shipped_names(kind)) is not None


def _shipped_name(wanted: str | Path, names: list[str]) -> str | None:
    """The one of `names` that is meant. Capitals do not matter, unless there is a file of that name."""
    if str(wanted) in names:
        return str(wanted)
    small = str(wanted).lower()
    return small if small in names and not Path(wanted).exists() else None


def shipped(kind: str, wanted: str | Path | None) -> Path:
    """The file of a shipped portrait or voice, or of a path. None: the first shipped one.

    `kind`: "portraits" or "voices".

    Raises:
        UserError: `wanted` is neither a shipped name nor an existing file.
    """
    names = shipped_names(kind)
    if wanted is None and names:
        wanted = names[0]
    if wanted is None:
        raise UserError(f"this installation has no shipped {kind}: give a file")
    if (name := _shipped_name(wanted, names)) is not None:
        return next((ASSETS / kind).glob(f"{name}.*"))
    path = Path(wanted)
    if not path.suffix and not path.exists():
        near = "".join(f"; did you mean {name}?" for name in get_close_matches(str(wanted).lower(), names, 1))
        raise UserError(
            f"{wanted!s} is neither a file nor one of the shipped {kind} ({', '.join(names)}){near}"
        )
    return check_input(wanted)
