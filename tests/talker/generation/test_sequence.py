"""The finish reason of a sequence whose given frames end before the text."""

from __future__ import annotations

import pytest
import torch

from heads.streams import Streams
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
