"""A recording is split between the cues of its transcript and never inside one."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from recipes.data.transcript import Cue, spans, text_of


def test_every_cue_is_in_one_span_and_no_span_is_too_long() -> None:
    draw = random.Random(0)
    for _ in range(50):
        cues, time = [], 0.0
        while time < 200:
            start = time + draw.choice((0.0, 0.05, 0.3, 1.0, 2.5))
            time = start + draw.uniform(0.1, 1.2) * (8 if draw.random() < 0.05 else 1)
            cues.append(Cue(start, time, draw.choice(("so", "it", "goes."))))
        found, dropped = spans(cues, time + 1, longest=30.0)
        assert dropped == 0
        assert [cue for span in found for cue in span.cues] == cues
        for before, after in pairwise(found):
            assert before.end <= after.start + 1e-9
        for span in found:
            assert 0 <= span.start <= span.cues[0].start
            assert span.cues[-1].end <= span.end <= span.start + 30 + 1e-9
            gaps = [b.start - a.end for a, b in pairwise(span.cues)]
            assert max(gaps, default=0.0) <= 2.0


def test_cues_that_overlap_too_long_or_lie_outside_are_counted() -> None:
    crosstalk = [Cue(0, 20, "a"), Cue(10, 35, "b"), Cue(36, 40, "c"), Cue(41, 50, "late")]
    found, dropped = spans(crosstalk, 45)
    assert [text_of(span.cues) for span in found] == ["c"]
    assert dropped == 2


def test_spans_end_at_the_end_of_a_sentence() -> None:
    cues = [Cue(k, k + 0.8, "stop." if k == 21 else "go") for k in range(40)]
    found, _ = spans(cues, 40)
    assert found[0].cues[-1].text == "stop."


def test_spans_have_margins_that_share_short_pauses() -> None:
    found, dropped = spans([Cue(1.0, 2.0, "a"), Cue(5.0, 6.0, "b")], 6.1)
    assert [(span.start, span.end) for span in found] == [(0.75, 2.25), (4.75, pytest.approx(6.1))]
    assert dropped == 0
    found, _ = spans([Cue(0.1, 2.0, "a"), Cue(2.2, 3.0, "b")], 9.0, pause=0.1)
    times = [time for span in found for time in (span.start, span.end)]
    assert times == pytest.approx([0.0, 2.1, 2.1, 3.25])


@pytest.mark.parametrize(
    ("texts", "pauses", "expected"),
    [
        (("a", "b", "c"), (0.3, 0.1), 1),  # the longest pause
        (("a", "b.", "c"), (0.3, 0.1), 2),  # the end of a sentence counts as 0.5 s more
        (("a", "b.", "c"), (0.7, 0.1), 1),
    ],
)
def test_cuts_lie_at_the_longest_pause(
    texts: tuple[str, ...], pauses: tuple[float, ...], expected: int
) -> None:
    first = Cue(0.0, 20.0, texts[0])
    second = Cue(20.0 + pauses[0], 25.0, texts[1])
    third = Cue(25.0 + pauses[1], 40.0, texts[2])
    assert len(spans([first, second, third], 40.0)[0][0].cues) == expected


def test_cuts_lie_in_the_second_half_of_the_allowed_length() -> None:
    cues = [Cue(0.0, 5.0, "a"), Cue(6.5, 20.0, "b"), Cue(20.2, 40.0, "c")]
    assert [len(span.cues) for span in spans(cues, 40.0)[0]] == [2, 1]
