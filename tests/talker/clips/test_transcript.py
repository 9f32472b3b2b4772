"""Transcripts by Whisper: the weights are found by path or name, and samples have its rate."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from talker import UserError
from talker.clips.transcript import whisper_network, whisper_transcriber, whisper_weights

SIZES = dict.fromkeys(("n_audio_state", "n_text_state", "n_vocab"), 8) | dict.fromkeys(
    ("n_audio_head", "n_audio_layer", "n_text_head", "n_text_layer"), 1
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder with the weights of a Whisper without training, named "small"."""
    from whisper.model import ModelDimensions, Whisper

    dims = SIZES | {"n_mels": 80, "n_audio_ctx": 10, "n_text_ctx": 10}
    (tmp_path / "whisper").mkdir()
    # Whisper leaves some of its parameters uninitialised; they may be NaN.
    state = {name: torch.randn_like(x) for name, x in Whisper(ModelDimensions(**dims)).state_dict().items()}
    torch.save({"dims": dims, "model_state_dict": state}, tmp_path / "whisper" / "small.pt")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "whisper"


def test_sound_is_transcribed_as_english_at_16_khz(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[torch.Tensor, dict[str, object]]] = []

    def transcribe(network: torch.nn.Module, samples: torch.Tensor, **options: object) -> dict[str, str]:
        assert not network.training
        calls.append((samples, options))
        return {"text": " So it goes."}

    transcriber = whisper_transcriber("small")
    monkeypatch.setattr(sys.modules["whisper.transcribe"], "transcribe", transcribe)
    time = torch.arange(24_000) / 24_000
    assert transcriber(torch.sin(2 * torch.pi * 100 * time)) == " So it goes."
    ((samples, options),) = calls
    assert options == {"language": "en", "fp16": False}
    expected = torch.sin(2 * torch.pi * 100 * torch.arange(16_000) / 16_000)
    assert samples.shape == (16_000,)
    assert torch.allclose(samples[100:-100], expected[100:-100], atol=0.01)


def test_weights_are_found_by_path_or_by_name_in_the_cache(cache: Path) -> None:
    own = cache / "small.pt"
    assert whisper_weights("small") == whisper_weights(str(own)) == own
    with pytest.raises(UserError, match="no Whisper weights large in "):
        whisper_weights("large")


def test_weights_are_loaded_exactly(cache: Path) -> None:
    network = whisper_network(cache / "small.pt")
    held = torch.load(cache / "small.pt", weights_only=True)["model_state_dict"]
    assert all(torch.equal(value, held[name]) for name, value in network.state_dict().items())


class Evil:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_no_code_of_a_weights_file_is_executed(cache: Path) -> None:
    torch.save({"dims": Evil(cache / "executed"), "model_state_dict": {}}, cache / "evil.pt")
    with pytest.raises(UserError, match="no Whisper weights"):
        whisper_network(cache / "evil.pt")
    assert not (cache / "executed").exists()
