"""The crop of each frame of a video with a tracked face."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from media_files import person, write_video
from PIL import Image
from skimage.data import astronaut

from talker.media.face import Box, find_faces
from talker.media.face_track import DETECTION_INTERVAL, FaceTrack, smooth_squares, track_face


def test_crop_is_linear_between_detections_and_constant_after_the_last() -> None:
    squares = (Box(0, 12, 100), Box(24, 0, 124), Box(12, 36, 112))
    track = FaceTrack(Fraction(0), Fraction(2), squares)
    assert [track.square(DETECTION_INTERVAL * k) for k in range(3)] == list(squares)
    assert track.square(DETECTION_INTERVAL // 4) == Box(6, 9, 106)
    assert track.square(DETECTION_INTERVAL + DETECTION_INTERVAL // 4) == Box(21, 9, 121)
    assert track.square(2 * DETECTION_INTERVAL + 5) == squares[2]


def test_a_face_of_at_most_half_the_size_of_the_last_one_is_another_person() -> None:
    scene = Image.new("RGB", (260, 260), "grey")
    scene.paste(Image.fromarray(person(96)))
    face = find_faces(scene)[0]
    for ratio, found in ((0.49, None), (0.51, face)):
        side = face.side / ratio
        assert track_face(scene, [Box(260 - side, 260 - side, side), None]) == found


def test_a_face_is_searched_for_where_it_was_last() -> None:
    scene = Image.new("RGB", (288, 144), "grey")
    for left in (0, 144):
        scene.paste(Image.fromarray(person(144)), (left, 0))
    one, other = sorted(find_faces(scene), key=lambda face: face.left)
    for first, last in ((one, other), (other, one)):
        for detections in ([first, last], [first, last, None]):
            assert last.contains(track_face(scene, detections).centre)


def test_squares_without_a_face_are_interpolated_between_those_with_one() -> None:
    one, middle, other = Box(10, 20, 100), Box(40, 40, 120), Box(70, 60, 140)
    gaps = smooth_squares([None, one, None, other, None], (640, 480))
    assert gaps == smooth_squares([one, one, middle, other, other], (640, 480))


@pytest.mark.parametrize("turn", [1, 2])
def test_a_video_that_lies_on_its_side_is_read_upright(tmp_path: Path, caplog, turn: int) -> None:
    frame = astronaut()[:256, 60:380]
    upright = FaceTrack.from_video(write_video(tmp_path / "upright.mp4", [frame] * 13))
    path = write_video(tmp_path / "lying.mp4", [np.rot90(frame, -turn)] * 13)
    caplog.clear()
    track = FaceTrack.from_video(path)
    (record,) = caplog.records
    assert "is not upright" in record.message
    assert (upright.turn, track.turn) == (0, turn)
    found, expected = ((box.left, box.top, box.side) for box in (track.squares[0], upright.squares[0]))
    assert found == pytest.approx(expected, abs=6)
    seen, shown = next(track.pictures(path, 64)), next(upright.pictures(tmp_path / "upright.mp4", 64))
    assert (seen - shown).abs().mean() < 0.1
