"""What ends speech: long silence and repetition, never ordinary speech."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from heads.streams import Streams
from talker.checkpoint import PUPPET, load_component
from talker.generation.autoregressive import generate
from talker.generation.guards import Guard, Watch
from talker.generation.request import Request, StopRule
from talker.generation.running_batch import RunningBatch
from talker.model.config import TalkerConfig
from talker.model.model import TalkerModel

CACHE = Path(__file__).resolve().parents[3] / "runs" / "latents"
QUIET = torch.zeros(16)
GUARD = Guard(quiet=QUIET)


def verdict(frames: Tensor, guard: Guard = GUARD) -> tuple[str | None, int]:
    """What the guard said first, and after how many frames."""
    watch = Watch(guard)
    for number, patch in enumerate(frames.split(4)):
        reason = watch.see(patch)
        if reason is not None:
            return reason, 4 * (number + 1)
    return None, len(frames)


def noise(frames: int, seed: int = 0) -> Tensor:
    return torch.randn(frames, 16, generator=torch.Generator().manual_seed(seed))


def test_noise_and_short_pauses_pass() -> None:
    assert verdict(noise(1000)) == (None, 1000)
    pauses = torch.cat([torch.cat([noise(30, k), QUIET.expand(40, -1)]) for k in range(20)])
    assert verdict(pauses) == (None, 1400)


@pytest.mark.parametrize("before", [0, 30, 33])
def test_silence_ends_after_two_seconds_wherever_it_begins(before: int) -> None:
    reason, at = verdict(torch.cat([noise(before), 0.1 * noise(400, 1)]))
    assert reason == "silence"
    assert before + 50 <= at < before + 54


@pytest.mark.parametrize("period", [1, 7, 25, 50])
def test_going_round_in_circles_ends(period: int) -> None:
    """A part that comes again and again, with some noise; a hanging sound is one of period 1."""
    circle = noise(period, 1).repeat(400 // period, 1)
    reason, at = verdict(torch.cat([noise(60), circle + 0.3 * noise(len(circle), 2)]))
    assert reason == "repetition"
    assert at <= 60 + period + 3 + 54


def test_saying_a_word_twice_is_allowed() -> None:
    phrase = noise(25, 1)
    assert verdict(torch.cat([noise(80), phrase, phrase, noise(80, 2)]))[0] is None


def test_what_is_loud_and_late_is_still_silence_of_this_codec() -> None:
    """Silence is the codec's own latent of it, wherever that lies."""
    guard = Guard(quiet=torch.full((16,), 3.0))
    assert verdict(3.0 + 0.1 * noise(100), guard)[0] == "silence"
    assert verdict(noise(100), guard)[0] is None


def test_ordinary_speech_of_the_corpus_passes() -> None:
    shards = sorted(CACHE.glob("*/*.npz"))
    if not shards:
        pytest.skip("needs the corpus's latents: python -m recipes.data.latents")
    from audio_vae.config import AudioVAEConfig
    from audio_vae.model import AudioVAE

    stats = load_component(TalkerModel, TalkerConfig, PUPPET / "talker").stats
    with torch.inference_mode():
        silence = load_component(AudioVAE, AudioVAEConfig, PUPPET / "audio_vae").encode(
            torch.zeros(1, 24_000)
        )
    quiet = stats.normalise(Streams(audio=silence[0, 12])).audio
    assert quiet is not None
    held = np.load(shards[0])
    spoken = held["letters"] > 0
    bounds = np.concatenate([[0], held["frames"].cumsum()])
    for clip in np.flatnonzero(spoken)[:40]:
        audio = torch.from_numpy(held["audio"][bounds[clip] : bounds[clip + 1]].astype(np.float32))
        normalised = stats.normalise(Streams(audio=audio)).audio
        assert normalised is not None
        assert verdict(normalised, Guard(quiet=quiet))[0] is None


# -- in a request --------------------------------------------------------------------------------------------


def test_the_guard_of_a_request_ends_it() -> None:
    """Frames that are always called silent end speech, but not where its length is given."""
    torch.manual_seed(0)
    config = TalkerConfig.tiny()
    model = TalkerModel(config).eval()
    guard = Guard(quiet=torch.zeros(config.widths["audio"]), near_quiet=1e9)
    request = Request(
        text_ids=[1, 2, 3],
        task="tts",
        speaker=torch.zeros(config.global_widths["audio"]),
        stop=StopRule.never(),
        max_patches=20,
        guard=guard,
    )
    generation = generate(model, request)
    assert len(list(generation)) == 13
    assert generation.finish_reason == "silence"
    batch = RunningBatch(model, 4)
    row = batch.join(request)
    while row.finish_reason is None:
        batch.step()
    assert (len(row.patches), row.finish_reason) == (13, "silence")
    fitted = dataclasses.replace(
        request,
        task="v2a",
        given=Streams(motion=torch.zeros(80, config.widths["motion"])),
        first_motion=torch.zeros(config.global_widths["motion"]),
    )
    assert len(list(generate(model, fitted))) == 20


@pytest.mark.parametrize(("pace", "reason"), [(0.0, "overflow"), (9.0, "length")])
def test_text_that_did_not_fit_is_reported(pace: float, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reading of the text, at the end of the given frames, decides."""
    config = TalkerConfig.tiny()
    model = TalkerModel(config).eval()
    assert model.reading is not None
    monkeypatch.setattr(model.reading, "forward", lambda hidden: torch.full((len(hidden),), pace))
    request = Request(
        text_ids=list(range(1, 20)),
        task="v2a",
        speaker=torch.zeros(config.global_widths["audio"]),
        first_motion=torch.zeros(config.global_widths["motion"]),
        given=Streams(motion=torch.zeros(16, config.widths["motion"])),
    )
    generation = generate(model, request)
    assert len(list(generation)) == 4
    assert generation.finish_reason == reason
