"""Speech without a face is audible, or says that it is silent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from takes import QUICK
from tiny_checkpoint import write_checkpoint, write_portrait, write_voice

from heads.streams import Streams
from talker import Talker
from talker.clips.clip import Take
from talker.generation.request import Request
from talker.identity import Voice


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_checkpoint(folder)
    write_portrait(folder / "face.png")
    write_voice(folder / "voice.wav")
    return folder


class Scripted:
    """Patches of a request: silent ones, then audible ones if this draw is `audible`."""

    words = (("No", 2),)

    def __init__(self, talker: Talker, audible: bool) -> None:
        silence = talker.system.silence.expand(4, -1)
        loud = silence + 9 * talker.system.generator.scale["audio"]
        self.finish_reason = "stop" if audible else "length"
        self._patches = [Streams(audio=x) for x in (silence, silence, loud if audible else silence)]

    def __iter__(self) -> Iterator[Streams]:
        return iter(self._patches)

    def tail(self, frames: int) -> Streams:
        return Streams(audio=self._patches[-1]["audio"][-frames:], motion=torch.zeros(frames, 1))

    def close(self) -> None:
        pass


def made(talker: Talker, voice: Voice, audible_draw: int, text: str = "No.") -> tuple[Take, list[Request]]:
    """A take of one word whose first audible draw is the one of this number."""
    requests: list[Request] = []
    take = talker.say(text, voice, sampling=QUICK, audio_only=True).take()

    def generate(request: Request) -> Scripted:
        requests.append(request)
        return Scripted(talker, len(requests) > audible_draw)

    take.keep(generate)  # type: ignore[arg-type]
    return take, requests


def test_a_silent_sentence_is_drawn_again_with_other_seeds(talker: Talker, voice: Voice) -> None:
    take, requests = made(talker, voice, audible_draw=3)
    assert [request.task for request in requests] == ["tts", "t2av", "t2av", "t2av"]
    assert len({(request.task, request.seed) for request in requests}) == 4
    assert all(torch.equal(request.silence, talker.system.silence) for request in requests)
    assert (take.patches, take.finish_reason, take.starts) == (3, "stop", [0])
    assert take.words == [("No", 2)]
    audible = [bool(talker.system.audible(streams["audio"]).any()) for streams in take.latents()]
    assert audible == [False, False, True]


def test_a_sentence_after_a_redrawn_one_continues_its_sound_alone(talker: Talker, voice: Voice) -> None:
    _, requests = made(talker, voice, audible_draw=1, text="No. Go.")
    assert [(request.text, request.task) for request in requests] == [
        ("No.", "tts"),
        ("No.", "t2av"),
        ("Go.", "tts"),
    ]
    assert [request.prefix and [name for name, _ in request.prefix.items()] for request in requests] == [
        None,
        None,
        ["audio"],
    ]


def test_an_audible_sentence_is_drawn_once(talker: Talker, voice: Voice) -> None:
    take, requests = made(talker, voice, audible_draw=0)
    assert len(requests) == 1
    assert (take.patches, take.finish_reason) == (3, "stop")


def test_a_sentence_that_stays_silent_has_that_finish_reason(talker: Talker, voice: Voice) -> None:
    take, requests = made(talker, voice, audible_draw=99)
    assert len(requests) > 3
    assert (take.patches, take.finish_reason, take.starts) == (3, "silence", [0])


def test_the_finish_reason_is_that_of_the_first_sentence_that_did_not_stop(
    talker: Talker, voice: Voice
) -> None:
    reasons = iter(("stop", "length", "repetition"))

    def generate(request: Request) -> Scripted:
        patches = Scripted(talker, audible=True)
        patches.finish_reason = next(reasons)
        return patches

    take = talker.say("No. Go. Hi.", voice, sampling=QUICK, audio_only=True).take()
    take.keep(generate)  # type: ignore[arg-type]
    assert take.finish_reason == "length"


@pytest.mark.parametrize("text", ["No.", pytest.param("Why?", marks=pytest.mark.long)])
def test_the_default_speaks_single_words(text: str) -> None:
    """Seeds at which its first draw is silent (see docs/log.md)."""
    talker = Talker.from_pretrained()
    take = talker.say(text, talker.voice(), audio_only=True).take()
    with torch.inference_mode():
        latents = torch.cat([streams["audio"] for streams in take.latents()])
    assert talker.system.audible(latents).sum() >= 4
    assert take.finish_reason == "stop"


@pytest.mark.long
def test_the_default_speaks_a_text_that_repeats_itself_to_its_end() -> None:
    talker = Talker.from_pretrained()
    take = talker.say("Ha ha ha ha ha ha ha ha ha ha ha ha.", audio_only=True).take()
    assert sum(len(streams["audio"]) for streams in take.latents()) > 2.5 * 25
    assert take.finish_reason == "stop"
