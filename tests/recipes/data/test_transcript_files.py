"""Transcript files of all formats become cues; an odd word or cue loses at most itself."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest

from recipes.data.transcript import Cue
from recipes.data.transcript_files import Transcript, read_transcript
from recipes.data.whisper_json import LETTER_SECONDS
from talker.errors import UserError

Times = list[tuple[str, float, float]]


def read(tmp_path: Path, suffix: str, content: str | bytes | Any) -> Transcript:
    """Return the transcript of a video whose transcript file has this content; no JSON text is encoded."""
    path = (tmp_path / "a.mp4").with_suffix(suffix)
    text = content if isinstance(content, str | bytes) else json.dumps(content)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_transcript(tmp_path / "a.mp4")


def times(transcript: Transcript) -> Times:
    return [(cue.text, pytest.approx(cue.start), pytest.approx(cue.end)) for cue in transcript.cues]


def spoken(*words: Any, start: Any = 0.0, end: Any = 4.0, text: str = "") -> dict[str, Any]:
    """A WhisperX file with one segment. A word is (text, start, end); None leaves a time out."""
    held = [
        {"word": f" {w[0]}", **{n: t for n, t in zip(("start", "end"), w[1:], strict=True) if t is not None}}
        if isinstance(w, tuple)
        else w
        for w in words
    ]
    segment = {"start": start, "end": end, "text": text or " ".join(w[0] for w in words if len(w) == 3)}
    return {"segments": [{name: v for name, v in segment.items() if v is not None} | {"words": held}]}


def test_transcripts_are_read_in_four_formats(tmp_path: Path) -> None:
    video = tmp_path / "Zoë 1.mp4"
    assert read_transcript(video) == Transcript()
    video.with_suffix(".txt").write_text("\ufeffSo it\n goes.\n", encoding="utf-8")
    assert read_transcript(video).cues == (Cue(0.0, math.inf, "So it goes."),)
    video.with_suffix(".VTT").write_text("WEBVTT\n\n00:01.000 --> 00:02.000 align:start\nSo it goes.\n")
    assert read_transcript(video).cues == (Cue(1.0, 2.0, "So it goes."),)
    video.with_suffix(".srt").write_text(
        "1\r\n00:00:01,500 --> 00:00:02,000\r\n<i>So it</i>\r\n\r\n"
        "2\r\n01:00:00.5 --> 01:00:01,000\r\ngoes.\r\nOn."
    )
    assert read_transcript(video).cues == (Cue(1.5, 2.0, "So it"), Cue(3600.5, 3601.0, "goes. On."))
    words = [{"word": " So", "start": 0.1, "end": 0.2}, {"word": " it", "start": 0.2, "end": 0.4}]
    segments = [
        {"start": 0.1, "end": 0.4, "text": "So it", "words": words},
        {"start": 1, "end": 2, "text": "goes"},
    ]
    video.with_suffix(".json").write_text(json.dumps({"segments": segments}))
    assert [cue.text for cue in read_transcript(video).cues] == ["So", "it", "goes"]
    video.with_suffix(".json").write_text(json.dumps({"text": "So it goes."}))
    assert read_transcript(video) == Transcript((Cue(0.0, math.inf, "So it goes."),))


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".json", "{"),
        (".json", '{"segments": 3}'),
        (".json", "[" * 100_000),
        (".json", "null"),
        (".json", "7"),
        (".json", "[1, 2]"),
        (".json", "[]"),
        (".json", "{}"),
        (".json", '{"text": null}'),
        (".json", '{"text": {"a": "b"}}'),
        (".json", '{"segments": [{"text": ["a"]}]}'),
        (".txt", b"\xff\xfe\x00\xd8"),
        (".json", '{"segments": [{"start": 0, "end": 1, "text": ""}]}'),
        (".srt", "no times"),
        (".srt", "00:00:02,000 --> 00:00:01,000\nback"),
        (".VTT", "WEBVTT\n\n00:00.000 --> 00:01.000\n\n"),
        (".txt", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"),
    ],
)
def test_unusable_transcripts_are_refused_in_one_line(
    tmp_path: Path, suffix: str, content: str | bytes
) -> None:
    with pytest.raises(UserError, match=rf"a{suffix} (is not a transcript|has no usable cue)") as caught:
        read(tmp_path, suffix, content)
    assert "\n" not in str(caught.value)
    for python in ("NoneType", "object", "codec", "recursion", "Errno", "('"):
        assert python not in str(caught.value)


@pytest.mark.parametrize("arrow", ["-->", "->", " --> ", "-- >", "\u2192", "\u2013>", "\u2014>", "--"])
def test_times_are_found_with_any_arrow(tmp_path: Path, arrow: str) -> None:
    lines = "1\n00:00:00,500 --> 00:00:01,000\nSo it\n\n2\n00:00:01,500{}00:00:02,000\ngoes.\n"
    found = read(tmp_path, ".srt", lines.format(arrow))
    assert found == Transcript((Cue(0.5, 1.0, "So it"), Cue(1.5, 2.0, "goes.")))


def test_order_of_the_cues_in_the_file_does_not_matter(tmp_path: Path) -> None:
    cues = [f"00:0{t},000 --> 00:0{t + 1},000\nWord {t}.\n" for t in range(3)]
    found = {read(tmp_path, ".srt", "\n".join(order)).cues for order in itertools.permutations(cues)}
    assert [[cue.text for cue in one] for one in found] == [["Word 0.", "Word 1.", "Word 2."]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[MUSIC]", ""),
        ("\u266a la la \u266a", ""),
        ("\u266b", ""),
        ("[door opens] Come in.", "Come in."),
        ("ANN: Hello.", "Hello."),
        ("- DR. LEE: Hello.", "Hello."),
        ("- Hello.", "Hello."),
        ("Note: it is #1, or #2.", "Note: it is #1, or #2."),
        ("OK: go", "OK: go"),
        ("(quietly) -5", "(quietly) -5"),
    ],
)
def test_sounds_songs_and_names_of_speakers_are_not_spoken(tmp_path: Path, text: str, words: str) -> None:
    found = read(tmp_path, ".srt", f"00:01,000 --> 00:02,000\n{text}\n\n00:02,000 --> 00:03,000\nOn.\n")
    assert [cue.text for cue in found.cues] == [words, "On."][not words :]
    assert found.lost == ({} if words else {"cue of music or sounds": 1})


def test_words_in_another_order_than_the_text_are_sorted_by_their_times(tmp_path: Path) -> None:
    words = (("friend.", 2.0, 2.5), ("Hello", 0.0, 0.4))
    found = read(tmp_path, ".json", spoken(*words, text="Hello there my friend."))
    assert [cue.text for cue in found.cues] == ["Hello", "there", "my", "friend."]
    assert found.cues[0] == Cue(0.0, 0.4, "Hello")
    assert (found.cues[-1].start, found.cues[-1].end) == (2.0, 2.5)
    assert found.lost == {}


def test_segments_that_are_no_text_are_left_out_and_counted(tmp_path: Path) -> None:
    segments = [5, {"start": 0, "end": 1, "text": "So it goes."}, None, [1]]
    found = read(tmp_path, ".json", {"segments": segments})
    assert found.cues == (Cue(0.0, 1.0, "So it goes."),)
    assert found.lost == {"segment without text": 3}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param((("at", 0.0, 0.5), ("7", None, 1.1), ("pm", 1.1, 2.0)), ("7", 0.5, 1.1), id="no start"),
        pytest.param((("at", 0.0, 0.5), ("7", 0.8, None), ("pm", 0.9, 2.0)), ("7", 0.8, 0.9), id="no end"),
        pytest.param((("at", 0.0, 0.5), ("7", None, None), ("pm", 0.7, 2.0)), ("7", 0.5, 0.7), id="neither"),
        pytest.param((("7", None, 0.2), ("pm", 0.7, 2.0)), ("7", 0.0, 0.2), id="first word"),
        pytest.param((("at", 0.0, 3.8), ("7", None, None)), ("7", 3.8, 4.0), id="last word"),
        pytest.param((("at", 0.0, 0.5), ("7", 0.5, 99.0), ("pm", 0.7, 2.0)), ("7", 0.5, 0.7), id="late"),
        pytest.param((("at", 0.0, 0.5), ("7", 3.5, 3.6), ("pm", 0.7, 2.0), ("on", 2.0, 3.0)),
                     ("7", 0.5, 0.7), id="out of order"),
        pytest.param((("at", 0.0, 0.5), ("7", 0.6, 0.9), ("pm", 0.7, 2.0)), ("7", 0.6, 0.7), id="overlap"),
        pytest.param((("at", 0.0, 0.5), ("7", 0.9, 0.6), ("pm", 0.7, 2.0)), ("7", 0.5, 0.7), id="backwards"),
        pytest.param((("at", 0.0, 0.5), ("7", math.nan, -1), ("pm", 0.7, 2.0)), ("7", 0.5, 0.7), id="NaN"),
        pytest.param((("at", 0.0, 0.5), ("7", "x", []), ("pm", 0.7, 2.0)), ("7", 0.5, 0.7), id="no number"),
        pytest.param((("at", "0.0", "0.5"), ("7", "0.5", "0.7"), ("pm", 0.7, 2.0)),
                     ("7", 0.5, 0.7), id="strings"),
        pytest.param((("at", 0.0, 0.5), ("7", None, None), ("pm", 3.0, 4.0)), ("7", 0.5, 1.3), id="pause"),
        pytest.param((("at", 0.0, 0.5), ("7", 3.0, None)), ("7", 3.0, 3.8), id="pause at the end"),
        pytest.param((("7", None, 2.0), ("pm", 2.0, 4.0)), ("7", 1.2, 2.0), id="pause at the start"),
        pytest.param((("at", 0.0, 0.5), ("pm", 0.7, 2.0), ("7", 50.0, 51.0)), ("7", 2.0, 2.8), id="far"),
        pytest.param((("at", 0.0, 0.5), ("7", None, 3.0), ("pm", 3.0, 4.0)), ("7", 2.2, 3.0), id="far start"),
        pytest.param((("at", 0.0, 0.5), ("on", 1.0, 1.2), ("an", 1.2, 1.5), ("7", 0.2, 0.3), ("pm", 2.0, 3)),
                     ("7", 1.5, 2.0), id="too early"),
    ],
)  # fmt: skip
def test_odd_times_of_a_word_come_from_its_neighbours_and_the_segment(
    tmp_path: Path, words: Any, expected: tuple[str, float, float]
) -> None:
    found = read(tmp_path, ".json", spoken(*words))
    assert expected in times(found)
    odd = [word for word in words if word[0] != "7"]
    assert [cue.text for cue in found.cues] == [word[0] for word in words]
    assert {cue.start for cue in found.cues if cue.text != "7"} == {float(word[1]) for word in odd}
    assert found.lost == {}


def test_words_without_times_share_the_time_by_their_letters(tmp_path: Path) -> None:
    found = read(
        tmp_path, ".json", spoken(("a", 0, 1), ("abc", None, None), ("d", None, None), ("e", 1.8, 2))
    )
    assert times(found)[1:3] == [("abc", 1.0, 1.6), ("d", 1.6, 1.8)]


def test_words_that_only_the_text_has_are_inserted(tmp_path: Path) -> None:
    one = spoken(("So", 0, 1), ("goes.", 1.2, 2), text="So it goes. On")
    assert times(read(tmp_path, ".json", one)) == [
        ("So", 0, 1), ("it", 1, 1.2), ("goes.", 1.2, 2), ("On", 2, 3.1)
    ]  # fmt: skip
    other = spoken(("So", 0, 1), ("goes.", 1.2, 2), text="So it went. On")
    assert [cue.text for cue in read(tmp_path, ".json", other).cues] == ["So", "goes."]


@pytest.mark.parametrize("words", [None, [], ["So", "it"], [{"word": "So"}, {"word": "it"}]])
def test_segment_with_times_is_one_cue_if_its_words_have_none(tmp_path: Path, words: Any) -> None:
    segment = {"start": 1, "end": 2, "text": "So it"} | ({} if words is None else {"words": words})
    assert times(read(tmp_path, ".json", {"segments": [segment]})) == [("So it", 1, 2)]


def test_segment_without_times_takes_them_from_its_words_or_the_other_segments(tmp_path: Path) -> None:
    own = [{"word": "So", "start": 1, "end": 1.5}, {"word": "it"}, {"word": "goes", "start": 1.7, "end": 2}]
    others = [{"text": "on"}, {"text": "now", "start": 2.4, "end": 3}, {"text": "here"}]
    found = read(tmp_path, ".json", {"segments": [{"text": "So it goes", "words": own}, *others]})
    assert times(found)[1:] == [
        ("it", 1.5, 1.7), ("goes", 1.7, 2), ("on", 2, 2.4), ("now", 2.4, 3),
        ("here", 3, 3 + 4 * LETTER_SECONDS),
    ]  # fmt: skip


def test_wrong_times_of_a_segment_do_not_move_its_words(tmp_path: Path) -> None:
    words = (("So", 10, 11), ("it", 11, 12), ("goes", None, 13))
    assert times(read(tmp_path, ".json", spoken(*words)))[2] == ("goes", 12, 13)


@pytest.mark.parametrize("odd", [5, None, True, [1], {"word": {"a": 1}}])
def test_a_word_that_is_no_text_is_counted_and_comes_from_the_text(tmp_path: Path, odd: Any) -> None:
    words = (("the", 0, 1), ("fox", 1, 2), odd, ("lazy", 3, 4))
    found = read(tmp_path, ".json", spoken(*words, text="the fox is lazy"))
    assert times(found) == [("the", 0, 1), ("fox", 1, 2), ("is", 2, 3), ("lazy", 3, 4)]
    assert found.lost == {"word without text": 1}


def test_words_without_text_are_counted(tmp_path: Path) -> None:
    found = read(tmp_path, ".json", spoken(("So", 0, 1), {"start": 1, "end": 2}, {"word": None}, {"word": 7}))
    assert [cue.text for cue in found.cues] == ["So", "7"]
    assert found.lost == {"word without text": 2}
    assert found.notes == ("a.json: word without text (2)",)


def test_file_without_any_times_is_one_cue(tmp_path: Path) -> None:
    for content in (spoken(("So", None, None), start=None, end=None), [{"text": "So"}], ["So"]):
        assert read(tmp_path, ".json", content).cues == (Cue(0.0, math.inf, "So"),)


GOOD = "00:00:01,000 --> 00:00:02,000\nSo it\n\n"


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ("00:00:03,000 --> 00:00:04,000\n\n", "cue without text"),
        ("00:00:03,000 --> 00:00:04,000\n<i> </i>\n\n", "cue without text"),
        ("00:00:04,000 --> 00:00:03,000\nback\n\n", "cue that ends before it starts"),
        ("00:00:xx --> 00:00:04,000\nlost\n\n", "cue without readable times"),
        ("00:00:03:12 --> 00:00:04:00\nlost\n\n", "cue without readable times"),
        ("00:00:03,000 -->\nlost\n\n", "cue without readable times"),
        ("00:99:03,000 --> 01:00:04,000\nlost\n\n", "cue without readable times"),
    ],
)
@pytest.mark.parametrize("numbers", [False, True])
def test_an_odd_cue_loses_only_itself_and_is_counted(
    tmp_path: Path, odd: str, reason: str, numbers: bool
) -> None:
    blocks = [GOOD, odd, "00:00:05,000 --> 00:00:06,000\ngoes.\n"]
    text = "".join(f"{number}\n{block}" if numbers else block for number, block in enumerate(blocks, 1))
    for suffix, content in ((".srt", text), (".vtt", f"WEBVTT\n\n{text.replace(',', '.')}")):
        found = read(tmp_path, suffix, content)
        assert times(found) == [("So it", 1, 2), ("goes.", 5, 6)]
        assert found.lost == {reason: 1}
        assert found.notes == (f"a{suffix}: {reason} (1)",)
        (tmp_path / f"a{suffix}").unlink()


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("<i>So</i> <font color=\"#fff\">it</font> goes.", "So it goes."),
        ("{\\an8}So\\Nit goes.", "So it goes."),
        ("<v Ada Lovelace>So <c.loud>it</c> <00:00:01.500>goes.", "So it goes."),
        ("Salt &amp; pepper, 3 < 4", "Salt & pepper, 3 < 4"),
        ("So it\n\ngoes.", "So it goes."),
        ("42", "42"),
    ],
)  # fmt: skip
def test_text_of_a_cue_has_no_markup(tmp_path: Path, written: str, said: str) -> None:
    text = f"1\n00:00:01,000 --> 00:00:02,000\n{written}\n\n2\n00:00:03,000 --> 00:00:04,000\nOn.\n"
    assert times(read(tmp_path, ".srt", text)) == [(said, 1, 2), ("On.", 3, 4)]


@pytest.mark.parametrize(
    ("line", "start", "end"),
    [
        ("00:01,500 --> 00:02,000", 1.5, 2.0),
        ("1:2.5 --> 1:03.25", 62.5, 63.25),
        ("00:00:01 --> 00:00:02", 1.0, 2.0),
        (" 00:00:01 , 500 --> 00:00:02 , 000  X1:100", 1.5, 2.0),
        ("100:00:00.000-->100:00:01.000", 360_000.0, 360_001.0),
    ],
)
def test_times_are_read_in_common_spellings(tmp_path: Path, line: str, start: float, end: float) -> None:
    assert times(read(tmp_path, ".srt", f"{line}\nSo it goes.\n")) == [("So it goes.", start, end)]


def test_missing_blank_lines_and_comments_are_no_text(tmp_path: Path) -> None:
    first, second = "1\n00:00:01,000 --> 00:00:02,000\nSo it", "2\n00:00:03,000 --> 00:00:04,000\ngoes."
    expected = [("So it", 1, 2), ("goes.", 3, 4)]
    assert times(read(tmp_path, ".srt", f"{first}\n{second}\n")) == expected
    (tmp_path / "a.srt").unlink()
    vtt = f"WEBVTT\n\nSTYLE\n::cue {{}}\n\n{first}\n\nNOTE so\nit goes\n\nname\n{second}".replace(",", ".")
    assert times(read(tmp_path, ".vtt", vtt)) == expected


def test_encodings_are_recognised_and_a_guess_is_noted(tmp_path: Path) -> None:
    text = "1\r\n00:00:01,000 --> 00:00:02,000\r\nIt’s a café.\r\n"
    encodings = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252")
    for encoding in encodings:
        found = read(tmp_path, ".srt", text.encode(encoding))
        assert times(found) == [("It’s a café.", 1, 2)], encoding
        assert bool(found.notes) == (encoding == "cp1252")
        assert found.lost == {}
