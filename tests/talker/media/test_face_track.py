"""The crop of each frame of a video with a tracked face."""

from __future__ import annotations

from fractions import Fraction

from media_files import person
from PIL import Image

from talker.media.face import Box, find_faces
from talker.media.face_track import DETECTION_INTERVAL, FaceTrack, track_face


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
