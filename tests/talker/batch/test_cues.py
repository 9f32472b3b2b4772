"""Cues from subtitles: times, speakers, words; and captions."""

from __future__ import annotations

from pathlib import Path

import pytest

from talker.batch.cues import Cue, read_cues, write_captions
from talker.errors import UserError

SRT = """1
00:00:01,000 --> 00:00:02,500
Hello <i>there</i>,
you.

2
00:00:03,000 --> 00:00:04,000
Second.
"""
VTT = """WEBVTT

NOTE a comment

intro
00:01.000 --> 00:02.500 align:start
<v Anna>Hello <i>there</i>,
you.

00:03.000 --> 00:04.000
<v.loud Ben Smith>Second.</v>
"""
ASS = """[Script Info]
ScriptType: v4.00+

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:03.00,0:00:04.00,Default,Ben Smith,0,0,0,,Second.
Comment: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,not spoken
Dialogue: 0,0:00:01.00,0:00:04.00,Default,,0,0,0,,{\\p1}m 0 0 l 100 0 100 100{\\p0}
Dialogue: 0,0:00:01.00,0:00:02.50,Default,Anna,0,0,0,,{\\i1}Hello{\\i0} there,\\Nyou.
"""
TEXTS = [(1.0, 2.5, "Hello there, you."), (3.0, 4.0, "Second.")]


@pytest.mark.parametrize(
    ("name", "text", "speakers"),
    [("a.srt", SRT, ("", "")), ("a.vtt", VTT, ("Anna", "Ben Smith")), ("a.ass", ASS, ("Anna", "Ben Smith"))],
)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_all_formats_give_the_same_cues(tmp_path: Path, name: str, text: str, speakers, encoding) -> None:
    (tmp_path / name).write_bytes(text.encode(encoding))
    found = read_cues(tmp_path / name, name)
    assert found == tuple(Cue(*cue, speaker) for cue, speaker in zip(TEXTS, speakers, strict=True))


def test_a_cue_of_two_speakers_is_divided_by_letters(tmp_path: Path) -> None:
    words = "<v A>Abcdef.</v> <v B>[laughs] \u266a la la \u266a Abcdefghijklm."
    three = "One <v R&amp;B>Two<v C>Three."
    text = f"WEBVTT\n\n00:00.000 --> 00:03.000\n{words}\n\n00:04.000 --> 00:08.000\n{three}\n"
    (tmp_path / "a.vtt").write_text(text)
    one, other, *more = read_cues(tmp_path / "a.vtt", "a.vtt")
    assert [(cue.speaker, cue.text) for cue in more] == [("", "One"), ("R&B", "Two"), ("C", "Three.")]
    assert [(cue.start, cue.end) for cue in more] == [(4, 5), (5, 6), (6, 8)]
    assert (one.speaker, one.text, other.speaker, other.text) == ("A", "Abcdef.", "B", "Abcdefghijklm.")
    assert (one.start, other.end) == (0, 3)
    assert one.end == other.start == pytest.approx(1.0)


def test_overlapping_cues_are_cut_and_cues_without_words_left_out(tmp_path: Path) -> None:
    cues = [("00:00:02,000 --> 00:00:03,000", "b."), ("00:00:01,000 --> 00:00:02,500", "a."),
            ("00:00:05,000 --> 00:00:06,000", "[music]")]  # fmt: skip
    (tmp_path / "a.srt").write_text("\n".join(f"{k}\n{t}\n{x}\n" for k, (t, x) in enumerate(cues, 1)))
    assert read_cues(tmp_path / "a.srt", "a.srt") == (Cue(1, 2, "a."), Cue(2, 3, "b."))


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("a.srt", "nothing here", "no cue with words"),
        ("a.srt", "1\n00:00:01,000 --> 00:00:01,100\nGo.\n", "shorter than 0.16"),
        ("a.vtt", "\0\1\2", "cannot be read as subtitles"),
        ("a.doc", "", "is no subtitle file"),
    ],
)
def test_unusable_subtitles_are_errors_of_one_line(tmp_path: Path, name: str, text: str, match: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=match):
        read_cues(tmp_path / name, name)


def test_captions_are_read_back(tmp_path: Path) -> None:
    cues = (Cue(0.1, 1.25, "1 < 2 & <b>so {on}</b>"), Cue(1.5, 2, "Go."))
    write_captions(tmp_path / "a.vtt", cues)
    assert "&lt;b&gt;so (on)" in (tmp_path / "a.vtt").read_text()
    assert [(cue.start, cue.end) for cue in read_cues(tmp_path / "a.vtt", "a")] == [(0.1, 1.25), (1.5, 2)]
