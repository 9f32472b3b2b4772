"""The crop of each frame of a video with a tracked face."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from media_files import person, write_video
from PIL import Image
from skimage.data import astronaut

from talker.media import face_track
from talker.media.face import Box, find_faces, framed
from talker.media.face_track import DETECTION_INTERVAL, FaceTrack, choose_face, smooth_squares, track_face


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


def test_a_face_is_visible_between_two_detections_that_show_it() -> None:
    squares, seen = (Box(0, 0, 9),) * 4, (True, True, False, True)
    track = FaceTrack(Fraction(0), Fraction(2), squares, seen=seen)
    step = DETECTION_INTERVAL
    numbers = {0: True, 0.5: True, step: True, step + 0.1: False, 2 * step: False, 2 * step + 1: False,
               3 * step: True, 3 * step + 5: True, 99 * step: True}  # fmt: skip
    assert {number: track.visible(number) for number in numbers} == numbers
    assert track.square(99 * step) == squares[-1]


FACES = [Box(40, 10, 30), Box(10, 20, 20), Box(80, 0, 10)]  # largest first


@pytest.mark.parametrize(
    ("choice", "number"),
    [("largest", 0), ("first", 1), ("index:0", 1), ("index:1", 0), ("index:2", 2), ("index:3", None),
     ("track:0,0", 1), ("track:0.9,0.1", 2), ("track:0.5,0.5", 0)],
)  # fmt: skip
def test_a_face_is_chosen_by_its_size_or_its_place(choice: str, number: int | None) -> None:
    expected = None if number is None else FACES[number]
    assert choose_face(FACES, choice, (100, 50)) == expected
    assert choose_face([], choice, (100, 50)) is None


def test_a_chosen_face_that_is_lost_is_found_again_near_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    last = Box(40, 10, 20)
    near, same, far = Box(42, 12, 18), Box(30, 0, 40), Box(70, 10, 20)
    small, large = Box(45, 15, 9.9), Box(20, -10, 41)
    picture = Image.new("RGB", (100, 50))
    monkeypatch.setattr(face_track, "confirm_face", lambda picture, box: None)
    for faces, expected in (
        ([far, near], near), ([far, small], None), ([large, far], None), ([far], None), ([near, same], near)
    ):  # fmt: skip
        monkeypatch.setattr(face_track, "find_faces", lambda picture, faces=faces: faces)
        assert track_face(picture, [last, None], "first") == expected
    monkeypatch.setattr(face_track, "find_faces", lambda picture: [far, near])
    assert track_face(picture, [None], "first") == near
    assert track_face(picture, [last]) == far  # the largest, wherever it is


class Empty:
    """A video of grey frames."""

    start, seconds, damage, turn, path = Fraction(1, 3), Fraction(0), None, 0, "v.mp4"

    def __init__(self, path: object, frames: int = 145) -> None:
        self.frames = frames

    def __iter__(self):
        for _ in range(self.frames):
            self.seconds += Fraction(1, 25)
            yield np.zeros((40, 40, 3), np.uint8)


def test_a_video_is_searched_for_the_chosen_face_and_for_turned_ones_at_its_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    searched: list[str] = []
    found = {0: Box(0, 0, 5), 9: Box(0, 10, 10), 12: Box(10, 20, 10)}  # by number of the detection

    def upright(picture: Image.Image, video: Empty) -> tuple[Image.Image, list[Box]]:
        searched.append("turned")
        box = found.get(len(searched) - 1) if "late" in options else None
        return picture, [] if box is None or len(searched) < 2 else [box]

    def track(picture: Image.Image, detections: list, choice: str) -> Box | None:
        searched.append(choice)
        return found.get(len(detections))

    monkeypatch.setattr(face_track, "VideoReader", Empty)
    monkeypatch.setattr(face_track, "damage_line", lambda path, damage: None)
    monkeypatch.setattr(face_track, "turn_upright", upright)
    monkeypatch.setattr(face_track, "track_face", track)
    seconds: list[float] = []
    options: set[str] = set()
    made = FaceTrack.from_video(Path("v.mp4"), progress=seconds.append, choice="first")
    assert searched == ["turned"] * 10 + ["first"] * 3
    assert made.seen == (False,) * 12 + (True,)
    assert sum(seconds) == pytest.approx(145 / 25)
    assert (made.start, made.seconds) == (Fraction(1, 3), Fraction(145, 25))
    assert "no face was found for 6 s" in caplog.text
    searched.clear()
    options.add("late")
    made = FaceTrack.from_video(Path("v.mp4"))
    assert searched == ["turned"] * 10 + ["largest"] * 3  # once there is a face, it is tracked


def test_few_seconds_without_a_face_are_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    face_track._warn_of_gaps([None] * 4 + [Box(0, 0, 1)] * 9, Path("v.mp4"))
    assert not caplog.records
    face_track._warn_of_gaps([None] * 5 + [Box(0, 0, 1)] * 9, Path("v.mp4"))
    assert len(caplog.records) == 1


def test_the_crop_is_the_median_of_two_seconds_on_either_side() -> None:
    ramp = [Box(10 * k, 200 - 3 * k, 50 + k) for k in range(20)]
    smooth = smooth_squares(ramp, (640, 480))
    assert smooth[4:16] == tuple(framed(box) for box in ramp[4:16])
    jump = [Box(0, 0, 50)] * 10 + [Box(90, 0, 50)] * 10
    lefts = [square.left - framed(jump[0]).left for square in smooth_squares(jump, (640, 480))]
    assert lefts == [0] * 10 + [90] * 10


def test_a_face_that_fills_a_square_video_is_not_cropped() -> None:
    face = Box(100 - 200 / 1.87 / 2, 100 - 200 / 1.87 / 2, 200 / 1.87)
    assert smooth_squares([face, face], (200, 200)) == (Box(0, 0, 200),) * 2
    assert smooth_squares([face, face], (200, 201))[0].side == pytest.approx(200)


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
