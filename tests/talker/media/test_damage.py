"""Damaged and cut files: what cannot be read is counted and said in one line, whole files are never named."""

from __future__ import annotations

import logging
from pathlib import Path

import av
import numpy as np
import pytest
from media_files import chirps, write_video

from talker.errors import UserError
from talker.media.encoders import SoundWriter
from talker.media.face_track import FaceTrack
from talker.media.files import SOUND_FILES
from talker.media.loudness import measure_loudness
from talker.media.readers import VideoReader
from talker.media.remux import check_dub
from talker.media.tracks import Damage, damage_line, is_cut

NOISE = np.random.default_rng(0).integers(0, 256, (50, 64, 64, 3), np.uint8)


def damage(path: Path, kind: str, numbers: slice) -> Path:
    """Overwrite some packets of the sound or the picture with 0xff."""
    with av.open(str(path)) as container:
        track = getattr(container.streams, kind)[0]
        places = [(packet.pos, packet.size) for packet in container.demux(track) if packet.size]
    data = bytearray(path.read_bytes())
    for start, size in places[numbers]:
        data[start : start + size] = b"\xff" * size
    path.write_bytes(data)
    return path


def cut(path: Path, share: float = 0.6) -> Path:
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    return path


def test_damaged_pictures_are_counted_with_their_times(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", NOISE, options={"g": "1", "bf": "0"})
    reader = VideoReader(damage(path, "video", slice(10, 13)))
    for _ in range(2):
        assert len(list(reader)) == 50
        assert reader.damage.packets == 50
    assert [float(time * 25) for time in reader.damage.times] == [10, 11, 12]
    assert damage_line(path, reader.damage) == f"{path} is damaged: 3 of 50 packets cannot be decoded"


def test_damaged_sound_is_counted(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", NOISE, sound=True)
    measure_loudness(path, whole := Damage())
    measure_loudness(damage(path, "audio", slice(20, 30)), damaged := Damage())
    assert not whole.times
    assert 5 <= len(damaged.times) <= 12
    assert all(0.2 < time < 2 for time in damaged.times)


@pytest.mark.parametrize("extension", ["mkv", "mov"])
def test_the_end_that_is_missing_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, extension: str
) -> None:
    path = write_video(tmp_path / f"a.{extension}", NOISE, sound=True, options={"g": "1"})
    FaceTrack.from_video(path, crop="none")
    assert not caplog.records
    if extension == "mov":  # a file whose index is at its end cannot be read without the end
        with pytest.raises(UserError, match="damaged or incomplete"):
            check_dub(tmp_path / "b.mp4", cut(path))
        return
    with caplog.at_level(logging.WARNING):
        FaceTrack.from_video(cut(path), crop="none")
    (record,) = caplog.records
    assert "is cut short: 1." in record.message
    assert record.message.endswith("s of 2.0 s can be read")


def test_a_twentieth_of_the_length_and_half_a_second_may_be_missing() -> None:
    assert [is_cut(end, 100.0) for end in (94.9, 95.1, 101.0)] == [True, False, False]
    assert [is_cut(end, 2.0) for end in (1.4, 1.6, 2.5)] == [True, False, False]


def test_the_last_packet_need_not_be_the_last_frame(tmp_path: Path) -> None:
    order = {"bf": "2", "x264-params": "b-adapt=0:scenecut=0"}
    path = write_video(tmp_path / "a.mp4", NOISE[:7], rate=1, options=order)
    with av.open(str(path)) as container:
        stamps = [packet.pts for packet in container.demux(video=0) if packet.size]
    assert stamps[-1] < max(stamps)
    assert damage_line(path, Damage()) is None


@pytest.mark.parametrize("extension", SOUND_FILES)
def test_whole_recordings_have_no_damage(tmp_path: Path, extension: str) -> None:
    with SoundWriter(path := tmp_path / f"a{extension}") as writer:
        writer.write(chirps(2.3, 24_000)[0], np.zeros((0, 0, 0, 3), np.uint8))
    measure_loudness(path, found := Damage())
    assert found.packets > 1
    assert damage_line(path, found) is None
