"""Windows cover the input, end at pauses, have a limited length, and share the words in order."""

from __future__ import annotations

import numpy as np
import pytest

from talker.clips.windows import Window, aligned, at_pauses, pauses


def speech(*lengths: int) -> np.ndarray:
    """Frames of speech and of silence in turn, speech first."""
    return np.concatenate([np.full(n, k % 2 == 0) for k, n in enumerate(lengths)])


def words(count: int, first: int = 0) -> str:
    """A text of `count` different words of four letters each."""
    return " ".join(f"w{first + k:03d}" for k in range(count))


def ends(windows: list[Window]) -> list[int]:
    """The frame at which each window ends."""
    return (np.cumsum([window.patches for window in windows]) * 4).tolist()


def test_pauses_lie_between_stretches_of_speech() -> None:
    assert pauses(speech(0, 20, 10, 3, 10, 8, 10, 30)) == [(47, 8)]
    assert pauses(speech(10, 6, 10, 4, 5)) == [(13, 6), (28, 4)]
    assert pauses(np.zeros(50, bool)) == pauses(np.ones(50, bool)) == pauses(np.zeros(0, bool)) == []


# -- lengths -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 4, 749, 750, 751, 3000])
def test_windows_cover_all_frames_and_last_at_most_30_seconds(frames: int) -> None:
    rng = np.random.default_rng(frames)
    for speaks in (np.ones(frames, bool), np.zeros(frames, bool), rng.random(frames) < 0.5):
        lengths = at_pauses(speaks, 4)
        assert sum(lengths) == -(-frames // 4)
        assert all(0 < length * 4 / 25 <= 30 for length in lengths)


def test_a_window_ends_in_the_longest_pause_of_its_second_half() -> None:
    speaks = speech(200, 40, 250, 8, 100, 12, 300)
    first, *_ = at_pauses(speaks, 4)
    assert first == round((200 + 40 + 250 + 8 + 100 + 6) / 4)
    centres = [at_pauses(speech(before, 12, 500), 4)[0] for before in (399, 401, 402, 403)]
    assert centres == [101, 102, 102, 102]  # to the nearest patch


# -- sentences -----------------------------------------------------------------------------------------------


def test_sentences_end_at_the_pauses_near_their_share_of_the_speech() -> None:
    # The pause of 10 frames lies inside the second sentence: it is too far from the end of either.
    speaks = speech(50, 10, 40, 12, 40, 9, 60)
    sentences = [words(10), words(16, 10), words(12, 26)]
    windows = aligned(sentences, speaks, 4)
    assert [window.text for window in windows] == sentences
    assert ends(windows) == [56, 156, 224]


def test_the_share_of_a_sentence_is_taken_from_the_speech_that_is_left() -> None:
    """Of three equal sentences, the second ends at the short pause after 100 frames, not at the long one."""
    speaks = speech(100, 15, 100, 5, 50, 15, 50)
    windows = aligned([words(10), words(10, 10), words(10, 20)], speaks, 4)
    assert ends(windows) == [108, 216, 336]


def test_the_weights_of_sentences_determine_their_shares_of_the_speech() -> None:
    speaks = speech(150, 12, 50)
    assert len(aligned(["a b", "c d"], speaks, 4)) == 1
    assert ends(aligned(["a b", "c d"], speaks, 4, lambda text: 3.0 if text == "a b" else 1.0)) == [156, 212]


@pytest.mark.parametrize(("away", "length"), [(8, 60), (8, 150), (16, 60)])
def test_pauses_longer_than_15_frames_count_as_15(away: int, length: int) -> None:
    """Of two pauses that are equally long for the score, the one nearer to the expected end wins."""
    speaks = speech(100, 15, away, length, 100 - away)  # the first half of the speech ends at frame 100
    windows = aligned(["aaaa", "bbbb"], speaks, 4)
    assert [window.text for window in windows] == ["aaaa", "bbbb"]
    assert ends(windows)[0] == 108


def test_a_longer_pause_of_up_to_15_frames_outweighs_a_little_distance() -> None:
    for near, cut in ((7, 136), (8, 104)):  # scores: near / 15 and 15 / 15 - 20 / 40
        assert ends(aligned(["aaaa", "bbbb"], speech(100, near, 20, 15, 80), 4))[0] == cut


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize(
    ("sentences", "share", "reach"),
    [
        (["a" * 100, "b" * 100], 100, 40),  # 0.4 of the share
        (["a" * 60, "b" * 140], 60, 24),
        (["a" * 20, "b" * 180], 20, 12),  # at least 12 frames
    ],
)
def test_pauses_are_searched_within_the_search_distance(
    sentences: list[str], share: int, reach: int, side: int
) -> None:
    for away, found in ((reach, 2), (reach + 1, 1)):
        spoken = share + side * away
        windows = aligned(sentences, speech(spoken, 20, 200 - spoken), 4)
        assert len(windows) == found
        assert " ".join(window.text for window in windows) == " ".join(sentences)


def test_without_pauses_sentences_share_a_window_up_to_the_limit() -> None:
    sentences = [words(10, 10 * k) for k in range(9)]
    assert aligned(sentences, np.ones(500, bool), 4) == [Window(125, words(90))]
    split = aligned(sentences, np.ones(2000, bool), 4)
    assert " ".join(window.text for window in split) == words(90)
    assert [window.patches for window in split] == [187, 187, 126]
    assert abs(len(split[0].text.split()) - 90 * 748 / 2000) <= 1


def test_a_word_belongs_to_the_window_that_holds_its_middle() -> None:
    # 1496 frames in two windows of 748; the words take 60 %, 30 % and 10 % of them.
    texts = [window.text for window in aligned(["a" * 12 + " " + "b" * 6 + " cc"], np.ones(1496, bool), 4)]
    assert texts == ["a" * 12, "b" * 6 + " cc"]
    texts = [window.text for window in aligned(["aa " + "b" * 6 + " " + "c" * 12], np.ones(1496, bool), 4)]
    assert texts == ["aa " + "b" * 6, "c" * 12]


def test_windows_without_speech_share_the_words_by_length() -> None:
    split = aligned([words(10)], np.zeros(1496, bool), 4)
    assert [len(window.text.split()) for window in split] == [5, 5]


def test_an_hour_of_speech_is_split_without_losing_patches_or_words() -> None:
    rng = np.random.default_rng(0)
    speaks = np.repeat(rng.random(9000) < 0.8, 10)
    windows = aligned([words(15)] * 300, speaks, 4)
    assert sum(window.patches for window in windows) == 22_500
    assert sum(len(window.text.split()) for window in windows) == 4500


def test_words_of_a_split_sentence_are_where_its_speech_is() -> None:
    speaks = np.arange(200) >= 80  # windows of 4 s, one sixth of the speech in the first
    first, second = aligned(["aa bb cc dd ee ff"], speaks, 4, longest=4.0)
    assert (first.patches, second.patches) == (25, 25)
    assert (first.text, second.text) == ("aa", "bb cc dd ee ff")
