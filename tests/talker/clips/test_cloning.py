"""Voices whose recording is the prefix of the speech: a sentence of its own, or the start of the text."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from media_files import chirps, write_sound
from takes import QUICK, pcm_of, recorded
from tiny_checkpoint import write_checkpoint, write_portrait, write_voice

from talker import UserError
from talker.clips.continuation import part_seed
from talker.media.loudness import LoudnessNormalizer
from talker.media.readers import read_voice
from talker.model.defaults import StopRule


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_checkpoint(folder)
    write_portrait(folder / "face.png")
    write_voice(folder / "voice.wav", 1.0)
    return folder


def test_a_recording_with_its_text_precedes_each_sentence(talker, voice, portrait, folder: Path) -> None:
    """The prefix of a request is the recording, then the carried patch. The result contains neither."""
    cloned = talker.voice(folder / "voice.wav", text="So.")
    assert cloned.said == "So."
    assert cloned.prefix.shape == (24, talker.system.audio_vae.latent_dim)  # 0.96 of 1.0 s
    assert torch.equal(cloned.embedding, voice.embedding)
    take, requests = recorded(talker.say("Hi. Go.", cloned, portrait, 2, QUICK, stop=StopRule.never()))
    assert [(request.said, request.text) for request in requests] == [("So.", "Hi."), ("So.", "Go.")]
    for number, request in enumerate(requests):
        assert (request.task, request.seed, request.sampling) == ("t2av", part_seed(2, number), QUICK)
        assert request.stop == StopRule.never()
        assert torch.equal(request.speaker, voice.embedding)
        assert torch.equal(request.first_motion, portrait.motion)
        assert torch.equal(request.silence, talker.system.silence)
    first, second = (request.prefix for request in requests)
    assert torch.equal(first["audio"], cloned.prefix)
    assert "motion" not in first
    assert torch.equal(second["audio"][:24], cloned.prefix.double())
    assert [len(second[name]) for name in ("audio", "motion")] == [28, 4]
    latents = list(take.latents())
    last_of_first = latents[take.starts[1] - 1]
    assert torch.allclose(second["audio"][24:].float(), last_of_first["audio"], atol=1e-5)
    assert torch.allclose(second["motion"].float(), last_of_first["motion"], atol=1e-5)
    assert len(pcm_of(take)) == 3840 * take.patches == 960 * sum(request.frames for request in requests)


def test_the_first_seconds_of_a_recording_precede_the_first_sentence(talker, portrait, folder: Path) -> None:
    begun = talker.voice(folder / "voice.wav", prefix_seconds=0.5)
    assert (begun.said, begun.prefix_frames) == ("", 12)  # whole patches of 0.16 s
    start = LoudnessNormalizer()(read_voice(folder / "voice.wav")[: 12 * 960])
    assert torch.equal(begun.prefix, talker.system.encode(start))
    assert torch.equal(begun.embedding, talker.system.embed_voice(read_voice(folder / "voice.wav")))
    take, requests = recorded(talker.say("Hi. Go.", begun, portrait, sampling=QUICK))
    assert [(request.said, request.text) for request in requests] == [("", "Hi."), ("", "Go.")]
    assert [len(request.prefix["audio"]) for request in requests] == [12, 4]
    assert len(pcm_of(take)) == 3840 * take.patches


def test_the_loudness_of_the_recording_does_not_change_its_prefix(talker, tmp_path: Path) -> None:
    pcm = chirps(0.5, 24_000)
    loud, quiet = (
        talker.voice(write_sound(tmp_path / f"{scale}.wav", "pcm_f32le", 24_000, pcm=pcm * scale), text="So.")
        for scale in (0.5, 0.05)
    )
    assert torch.allclose(loud.prefix, quiet.prefix, atol=1e-3)


def test_the_prefix_changes_what_is_generated(talker, voice, portrait, folder: Path) -> None:
    voices = [
        voice,
        talker.voice(folder / "voice.wav", text="So."),
        talker.voice(folder / "voice.wav", text="No."),
        talker.voice(folder / "voice.wav", prefix_seconds=0.5),
    ]
    first = [next(talker.say("Hi.", v, portrait, sampling=QUICK).take().latents())["audio"] for v in voices]
    assert all(not torch.equal(a, b) for k, a in enumerate(first) for b in first[:k])


def test_a_cloned_voice_speaks_without_a_portrait(talker, folder: Path) -> None:
    cloned = talker.voice(folder / "voice.wav", text="So.")
    assert len(pcm_of(talker.say("Hi. Go.", cloned, sampling=QUICK, audio_only=True))) > 0


def test_a_recording_that_cannot_be_a_prefix_is_refused(talker, folder: Path, tmp_path: Path) -> None:
    recording = folder / "voice.wav"
    with pytest.raises(UserError, match="not both"):
        talker.voice(recording, text="So.", prefix_seconds=0.5)
    with pytest.raises(UserError, match=r"at least 0\.16 s"):
        talker.voice(recording, prefix_seconds=0.1)
    for nonsense in (-3.0, float("nan")):
        with pytest.raises(UserError, match="at least"):
            talker.voice(recording, prefix_seconds=nonsense)
    assert talker.voice(recording, prefix_seconds=float("inf")).prefix_frames == 24
    with pytest.raises(UserError, match="10 s or less"):
        talker.voice(write_voice(tmp_path / "long.wav", 11.0), text="So.")
    with pytest.raises(UserError, match="Japanese letters"):
        talker.voice(recording, text="あ")
    with pytest.raises(UserError, match="recording is too long"):
        talker.say("Hi.", talker.voice(recording, text="word " * 300))
