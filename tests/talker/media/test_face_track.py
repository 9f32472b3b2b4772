"""The crop of each frame of a video with a tracked face."""

from __future__ import annotations

from fractions import Fraction

from talker.media.face import Box
from talker.media.face_track import DETECTION_INTERVAL, FaceTrack


def test_crop_is_linear_between_detections_and_constant_after_the_last() -> None:
    squares = (Box(0, 12, 100), Box(24, 0, 124), Box(12, 36, 112))
    track = FaceTrack(Fraction(0), Fraction(2), squares)
    assert [track.square(DETECTION_INTERVAL * k) for k in range(3)] == list(squares)
    assert track.square(DETECTION_INTERVAL // 4) == Box(6, 9, 106)
    assert track.square(DETECTION_INTERVAL + DETECTION_INTERVAL // 4) == Box(21, 9, 121)
    assert track.square(2 * DETECTION_INTERVAL + 5) == squares[2]
