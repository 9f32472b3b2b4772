"""The finish reason of a sequence whose given frames end before the text."""

from __future__ import annotations

import pytest
import torch

from heads.streams import Streams
from talker.generation.guards import Guard
from talker.generation.request import TokenRequest, drawn_noise
from talker.generation.sequence import Sequence
from talker.model.config import TalkerConfig
from talker.model.stats import LatentStats

TOKENS = 30


def finish_reason(task: str, spoken: float) -> str | None:
    """Finish reason of a request for two patches in which `spoken` of its 30 text tokens are spoken."""
    config = TalkerConfig.tiny()
    given = {"v2a": "motion", "a2v": "audio"}[task]
    request = TokenRequest(
        text_ids=[1] * TOKENS,
        task=task,
        speaker=torch.zeros(config.global_widths["audio"]),
        first_motion=torch.zeros(config.global_widths["motion"]),
        given=Streams(**{given: torch.zeros(2 * config.patch_frames, config.widths[given])}),
    )
    sequence = Sequence(config, request, drawn_noise(0), LatentStats(*config.widths.values()))
    while sequence.finish_reason is None:
        drawn = {name: torch.zeros(config.patch_frames, config.widths[name]) for name in sequence.wanted()}
        sequence.accept(drawn, spoken)
        if sequence.finish_reason is None:
            sequence.advance()
    assert len(sequence.patches) == 2
    return sequence.finish_reason


@pytest.mark.parametrize(
    ("unspoken", "reason"),
    [(0, "length"), (1.5, "length"), (2, "length"), (2.01, "overflow"), (19, "overflow")],
)
def test_speech_for_a_given_face_overflows_if_more_than_two_tokens_are_unspoken(unspoken, reason) -> None:
    assert finish_reason("v2a", TOKENS - unspoken) == reason


def test_given_speech_never_overflows() -> None:
    assert finish_reason("a2v", 0.0) == "length"


def audible_patches(spoken: list[float], audible: list[bool], task: str = "v2a") -> list[bool]:
    """Whether each patch is audible, for given tokens spoken and sound drawn at each patch."""
    config = TalkerConfig.tiny()
    quiet, loud = torch.zeros(config.widths["audio"]), torch.ones(config.patch_frames, config.widths["audio"])
    request = TokenRequest(
        text_ids=[1] * TOKENS,
        task=task,
        speaker=torch.zeros(config.global_widths["audio"]),
        first_motion=torch.zeros(config.global_widths["motion"]),
        given=Streams(motion=torch.zeros(len(spoken) * config.patch_frames, config.widths["motion"])),
        max_patches=len(spoken),
        guard=Guard(quiet=quiet),
    )
    sequence = Sequence(config, request, drawn_noise(0), LatentStats(*config.widths.values()))
    values = iter(zip(spoken, audible, strict=True))
    while sequence.finish_reason is None:
        drawn = {}
        if sequence.wanted():
            tokens, sounds = next(values)
            drawn = {"audio": loud if sounds else 0 * loud}
        sequence.accept(drawn, tokens if drawn else 0.0)
        if sequence.finish_reason is None:
            sequence.advance()
    return [bool(patch["audio"].any()) for patch in sequence.patches]


def test_sound_after_the_text_and_a_pause_is_silenced() -> None:
    """Pauses inside the text, and sound that goes on without a pause after it, stay as they are."""
    spoken = [5.0, 12.0, 20.0, 29.0, 30.0, 30.0, 30.0, 30.0]
    sounds = [True, False, True, True, True, False, True, True]
    assert audible_patches(spoken, sounds) == [True, False, True, True, True, False, False, False]
    assert audible_patches([9.0] * 8, sounds) == sounds
    assert audible_patches(spoken, sounds, "tts") == sounds, "the stop predictor ends speech alone"
