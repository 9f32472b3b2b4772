"""Transcribes recordings with openai-whisper, whose weights must already be on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talker.clock import SAMPLE_RATE
from talker.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

RATE = 16_000  # sample rate of Whisper


def whisper_transcriber(model: str) -> Callable[[Tensor], str]:
    """A function that transcribes samples (n,) float32 at 24 kHz, at most 30 s, to English text.

    `model`: see `whisper_weights`. Nothing is downloaded, and no pickled code is executed.

    Raises:
        UserError: the weights do not exist or cannot be read.
    """
    network = whisper_network(whisper_weights(model))
    return lambda pcm: str(transcribed(network, pcm, language="en")["text"])


def whisper_weights(model: str) -> Path:
    """The weights file of a model.

    `model`: a path, or a name such as "base.en" in the cache folder of openai-whisper.

    Raises:
        UserError: the file does not exist.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "whisper"
    path = Path(model) if Path(model).is_file() else cache / f"{model}.pt"
    if not path.is_file():
        raise UserError(
            f"no Whisper weights {model} in {cache}: put them there, or give the text (animate: --text)"
        )
    return path


def whisper_network(path: Path, device: str = "cpu") -> Any:
    """Load Whisper from a weights file, in evaluation mode on `device`.

    Raises:
        UserError: the file does not hold Whisper weights.
    """
    import torch
    from whisper.model import ModelDimensions, Whisper

    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
        network = Whisper(ModelDimensions(**held["dims"]))
        network.load_state_dict(held["model_state_dict"])
    except Exception as error:  # other files raise many types of errors
        raise UserError(
            f"{path} holds no Whisper weights ({type(error).__name__}): give the text instead"
        ) from error
    return network.eval().to(device)


def transcribed(network: Any, pcm: Tensor, **options: Any) -> dict[str, Any]:
    """Result of `whisper.transcribe` for samples (n,) float32 at 24 kHz. `options` are its options."""
    import torchaudio
    from whisper.transcribe import transcribe

    samples = torchaudio.functional.resample(pcm, SAMPLE_RATE, RATE)
    found: dict[str, Any] = transcribe(network, samples, fp16=network.device.type != "cpu", **options)
    return found
