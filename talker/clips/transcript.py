"""What is said in a recording, by openai-whisper, where its weights are on this machine already."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from talker.clock import SAMPLE_RATE
from talker.errors import UserError

RATE = 16_000


def whisper_transcriber(model: str) -> Callable[[Tensor], str]:
    """English text of samples (n,) float32 at 24 kHz, at most 30 s.

    `model`: as `whisper_weights` takes it. Nothing is downloaded, and no pickled object is executed.

    Raises:
        UserError: the weights are not here, or are none.
    """
    network = whisper_network(whisper_weights(model))
    return lambda pcm: str(transcribed(network, pcm, language="en")["text"])


def whisper_weights(model: str) -> Path:
    """The file of a name such as "base.en", where openai-whisper keeps its files, or of a path.

    Raises:
        UserError: there is none.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "whisper"
    path = Path(model) if Path(model).is_file() else cache / f"{model}.pt"
    if not path.is_file():
        raise UserError(
            f"no Whisper weights {model} in {cache}: put them there, or give the text (animate: --text)"
        )
    return path


def whisper_network(path: Path, device: str = "cpu") -> Any:
    """Whisper with the weights of a file.

    Raises:
        UserError: it holds others.
    """
    import torch
    from whisper.model import ModelDimensions, Whisper

    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
        network = Whisper(ModelDimensions(**held["dims"]))
        network.load_state_dict(held["model_state_dict"])
    except Exception as error:  # whatever a wrong file may raise
        raise UserError(
            f"{path} holds no Whisper weights ({type(error).__name__}): give the text instead"
        ) from error
    return network.eval().to(device)


def transcribed(network: Any, pcm: Tensor, **options: Any) -> dict[str, Any]:
    """Whisper's `text` and `segments` of samples (n,) float32 at 24 kHz; `options` are its `transcribe`'s."""
    import torchaudio
    from whisper.transcribe import transcribe

    samples = torchaudio.functional.resample(pcm, SAMPLE_RATE, RATE)
    found: dict[str, Any] = transcribe(network, samples, fp16=network.device.type != "cpu", **options)
    return found
