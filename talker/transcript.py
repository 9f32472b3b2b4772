"""What is said in a recording, by openai-whisper, where its weights are on this machine already."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from talker.config import SAMPLE_RATE
from talker.errors import UserError

RATE = 16_000


def whisper_transcriber(model: str) -> Callable[[Tensor], str]:
    """English text of samples (n,) float32 at 24 kHz, at most 30 s.

    `model`: a name such as "base.en", looked up where openai-whisper keeps its files, or a path. Nothing is
    downloaded, and no pickled object is executed.

    Raises:
        UserError: the weights are not here, or are none.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "whisper"
    path = Path(model) if Path(model).is_file() else cache / f"{model}.pt"
    if not path.is_file():
        raise UserError(f"no Whisper weights {model} in {cache}: put them there, or give --text instead")
    import torch
    import torchaudio
    from whisper.model import ModelDimensions, Whisper
    from whisper.transcribe import transcribe

    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
        network = Whisper(ModelDimensions(**held["dims"]))
        network.load_state_dict(held["model_state_dict"])
    except Exception as error:  # whatever a wrong file may raise
        raise UserError(
            f"{path} holds no Whisper weights ({type(error).__name__}): give --text instead"
        ) from error

    def heard(pcm: Tensor) -> str:
        samples = torchaudio.functional.resample(pcm, SAMPLE_RATE, RATE)
        return str(transcribe(network.eval(), samples, language="en", fp16=False)["text"])

    return heard
