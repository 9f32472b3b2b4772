"""Text that arrives in pieces is split into the same parts as at once, and is spoken like the whole text."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from takes import QUICK, joined
from tiny_checkpoint import write_checkpoint, write_portrait, write_voice

from talker import Talker
from talker.clips.live_text import COMMA_WORDS, LONGEST_PART, LiveText
from talker.clips.say import LiveUtterance
from talker.generation.request import Request
from talker.identity import Portrait, Voice
from talker.stages import Channel

TEXT = (
    'It was 3.5 p.m. when Dr. Smith came in. "Really?" he asked. I do not know, but they said that we should '
    "all go now, and so we went home.\nA list:\n- milk\n- eggs\n\nThe end... or not! Yes"
)
PARTS = [
    "It was 3.5 p.m. when Dr. Smith came in.",
    '"Really?" he asked.',
    "I do not know, but they said that we should all go now,",
    "and so we went home.",
    "A list:\n- milk\n- eggs",  # `sentences_of` splits it into lines
    "The end... or not! Yes",  # the last word is complete only at the commit
]


def parts(pieces: Iterable[str]) -> list[str]:
    text = LiveText()
    return [part for piece in pieces for part in text.append(piece)] + text.commit()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 40, 1000])
def test_the_parts_do_not_depend_on_the_pieces(size: int) -> None:
    assert parts(TEXT[k : k + size] for k in range(0, len(TEXT), size)) == PARTS


def test_a_sentence_is_complete_with_the_following_word() -> None:
    text = LiveText()
    assert text.append("Go on. And") == []
    assert text.append(" now") == ["Go on."]


def test_a_comma_ends_a_part_of_eight_words_at_once() -> None:
    assert COMMA_WORDS == 8
    assert LiveText().append("one two three four five six seven, and ") == []
    assert LiveText().append("one two three four five six seven eight, ") == [
        "one two three four five six seven eight,"
    ]


def test_commit_returns_the_rest_once() -> None:
    text = LiveText()
    text.append("Well then")
    assert text.commit() == ["Well then"]
    assert text.commit() == []
    text.append(" - ")
    assert text.commit() == []


def test_a_text_without_punctuation_is_split_after_a_limit() -> None:
    found = parts(["word " * 500])
    assert " ".join(found).split() == ["word"] * 500
    assert max(map(len, found)) <= LONGEST_PART + len("word ")


# -- speech --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_checkpoint(folder)
    write_portrait(folder / "face.png")
    write_voice(folder / "voice.wav")
    return folder


@pytest.fixture
def sentences() -> Channel[str]:
    return Channel(100)


@pytest.fixture
def live(talker: Talker, voice: Voice, portrait: Portrait, sentences: Channel[str]) -> LiveUtterance:
    return LiveUtterance(talker.system, sentences, voice, portrait, 3, QUICK)


def test_arriving_sentences_are_spoken_like_a_whole_text(
    talker: Talker, voice: Voice, portrait: Portrait, sentences: Channel[str], live: LiveUtterance
) -> None:
    whole = talker.say("Go on. Oh no!", voice, portrait, seed=3, sampling=QUICK)
    expected = whole.take()
    pcm, frames = joined(expected)
    take = live.take()
    chunks = iter(take)
    sentences.put("Go on.")
    arrived = [next(chunks)]  # before the second sentence has arrived
    sentences.put("Oh no!")
    sentences.close()
    arrived += chunks
    assert np.array_equal(joined(arrived)[0], pcm)
    assert np.array_equal(joined(arrived)[1], frames)
    assert (take.finish_reason, take.starts) == (expected.finish_reason, expected.starts)
    assert len(take.starts) == 2


def test_closing_live_speech_ends_its_request(
    talker: Talker, sentences: Channel[str], live: LiveUtterance
) -> None:
    before = threading.active_count()
    with talker.system.generator.scheduler(1) as scheduler:
        requests, tickets = [], []

        def submit(request: Request) -> Iterator:
            requests.append(request)
            tickets.append(scheduler.submit(request))
            return tickets[-1]

        sentences.put("So we go on and on and on.")
        take = live.take()
        chunks = take.chunks(submit)  # type: ignore[arg-type]
        next(chunks)
        chunks.close()  # type: ignore[attr-defined]
        assert (tickets[0].finish_reason, take.finish_reason) == ("interrupted", "interrupted")
        assert sentences.cancelled
        assert len(list(scheduler.submit(requests[0]))) > 1  # the only row is free
    assert threading.active_count() == before
