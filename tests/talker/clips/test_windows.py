"""Windows cover the input, end at pauses, share out the text in order, and none is too long."""

from __future__ import annotations

import numpy as np
import pytest

from talker.clips.windows import aligned, at_pauses, pauses


def speech(*lengths: int) -> np.ndarray:
    """Frames of sound and of silence in turn, sound first."""
    return np.concatenate([np.full(n, k % 2 == 0) for k, n in enumerate(lengths)])


def test_pauses_lie_between_stretches_of_speech() -> None:
    assert pauses(speech(0, 20, 10, 3, 10, 8, 10, 30)) == [(47, 8)]
    assert pauses(speech(10, 6, 10, 4, 5)) == [(13, 6), (28, 4)]
    assert pauses(np.zeros(50, bool)) == pauses(np.ones(50, bool)) == pauses(np.zeros(0, bool)) == []


@pytest.mark.parametrize("frames", [1, 4, 749, 750, 751, 3000])
def test_windows_cover_everything_and_none_is_too_long(frames: int) -> None:
    rng = np.random.default_rng(frames)
    for speaks in (np.ones(frames, bool), np.zeros(frames, bool), rng.random(frames) < 0.5):
        lengths = at_pauses(speaks, 4)
        assert sum(lengths) == -(-frames // 4)
        assert all(0 < length * 4 / 25 <= 30 for length in lengths)


def test_a_cut_is_in_the_longest_pause_of_the_second_half() -> None:
    speaks = speech(200, 40, 250, 8, 100, 12, 300)
    first, *_ = at_pauses(speaks, 4)
    assert first == round((200 + 40 + 250 + 8 + 100 + 6) / 4)


def test_sentences_end_at_the_pauses_near_their_place() -> None:
    # A long pause inside the second sentence must not count as its end.
    speaks = speech(50, 10, 40, 12, 40, 9, 60)
    sentences = [list(range(10)), list(range(10, 26)), list(range(26, 38))]
    windows = aligned(sentences, speaks, 4)
    assert [list(window.text) for window in windows] == sentences
    ends = np.cumsum([window.patches for window in windows]) * 4
    assert ends.tolist() == [56, 156, 224]


def test_without_pauses_sentences_share_a_window_up_to_the_limit() -> None:
    sentences = [list(range(k * 10, k * 10 + 10)) for k in range(9)]
    together = aligned(sentences, np.ones(500, bool), 4)
    assert [list(window.text) for window in together] == [list(range(90))]
    split = aligned(sentences, np.ones(2000, bool), 4)
    assert [token for window in split for token in window.text] == list(range(90))
    assert len(split) == 3
    assert all(window.patches <= 187 for window in split)
    assert abs(len(split[0].text) - 90 * 748 / 2000) <= 1


def test_an_hour_is_planned_in_no_time() -> None:
    rng = np.random.default_rng(0)
    speaks = np.repeat(rng.random(9000) < 0.8, 10)
    windows = aligned([[1] * 30] * 900, speaks, 4)
    assert sum(window.patches for window in windows) == 22_500
    assert sum(len(window.text) for window in windows) == 27_000
