"""Checks of input and output paths, and the default names of dubbed videos."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from media_files import person, write_video

from talker.errors import UserError
from talker.media.encoders import VideoWriter
from talker.media.files import VIDEO_FILES, check_input, check_output, unused_name
from talker.media.remux import check_dub, dubbed_name


def test_unusable_outputs_raise_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder.mp4").mkdir()
    for path, words in (
        (tmp_path / "a.avi", "a.avi is not named .mp4 or .* choose an output name such as a.mp4"),
        (tmp_path / "none", "such as none.mp4"),
        (tmp_path / "folder.mp4", "is a folder"),
        (tmp_path / "missing" / "a.mp4", "does not exist: create it"),
        (tmp_path / ("long" * 80 + ".mp4"), "choose another name"),
        (Path("/proc/a.mp4"), "cannot write|not writable"),
    ):
        with pytest.raises(UserError, match=words), VideoWriter(path, 64):
            pass
    monkeypatch.setattr(os, "access", lambda *_: False)  # for root, every folder is writable
    with pytest.raises(UserError, match="is not writable: choose another folder"):
        check_output(tmp_path / "a.mp4")
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"rtmp://example\.org/live is a web address"):
        check_output("rtmp://example.org/live")
    assert check_output("a.MP4") == Path("a.MP4")
    assert check_output("a.Mkv", tuple(VIDEO_FILES)) == Path("a.Mkv")


def test_inputs_must_be_regular_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    assert check_input(str(tmp_path / "a")) == tmp_path / "a"
    for path, words in (
        (tmp_path / "b", "does not exist"),
        (tmp_path, "is a folder"),
        ("/dev/zero", "not a regular file"),
        ("n" * 300, "cannot be opened"),
        ("a\0b", "cannot be opened|does not exist"),
        ("https://example.org/a.wav", "https://example.org/a.wav is a web address: download the file first"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            check_input(path)
        assert "\n" not in str(caught.value)


def test_unused_names_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for expected in ("a.mp4", "a-2.mp4", "a-3.mp4"):
        assert unused_name("a", ".mp4") == Path(expected)
        Path(expected).symlink_to("a file that does not exist")


def test_dubbed_video_keeps_a_supported_container(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", [person(64)] * 3, codec="msmpeg4")
    assert dubbed_name(path) == Path("a-dubbed.avi")
    assert check_dub(tmp_path / "b.avi", path) == tmp_path / "b.avi"
    with pytest.raises(UserError, match=r"cannot be copied to \.mp4 \(msmpeg4v?3?\): name the output b\.avi"):
        check_dub(tmp_path / "b.mp4", path)
    (link := tmp_path / "link.avi").symlink_to(path)
    for itself in (path, link):
        with pytest.raises(UserError, match="is the video itself"):
            check_dub(itself, path)
