"""Tags of written files name each part, and are found again in files that are given."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from talker.clock import HOP
from talker.media.encoders import SoundWriter, VideoWriter
from talker.media.files import CLIP_FILES, SOUND_FILES
from talker.media.provenance import generated_tags, is_generated, kept_tags, origin_of

VOICE, FACE = "synthesised in the voice v", "generated from the portrait p"


def write(path: Path, tags: dict[str, str]) -> Path:
    """Write a file of any format with 8 frames."""
    pcm, frames = np.zeros(8 * HOP, np.float32), np.zeros((8, 64, 64, 3), np.uint8)
    sound = path.suffix in SOUND_FILES
    with SoundWriter(path, tags) if sound else VideoWriter(path, 64, tags) as writer:
        writer.write(pcm, frames)
    return path


def parts(path: Path) -> list[bool]:
    return [is_generated(path, part) for part in ("Speech", "Picture")]


@pytest.mark.parametrize("extension", [*SOUND_FILES, *CLIP_FILES])
def test_generated_parts_are_found_in_every_format(tmp_path: Path, extension: str) -> None:
    picture = None if extension in SOUND_FILES else FACE
    path = write(tmp_path / f"a.b{extension}", generated_tags(VOICE, picture))
    assert parts(path) == [True, picture is not None]
    assert origin_of(path, "recording") == f"the AI-generated recording a.b{extension}"


def test_each_part_keeps_its_origin_from_file_to_file(tmp_path: Path) -> None:
    """A given part stays given, and a generated part stays generated, however often it is used again."""
    real = write(tmp_path / "real. Picture: the video x.mp4", {})
    made = write(tmp_path / "made.mp4", generated_tags(VOICE, FACE))
    for number in range(2):
        dubs = {
            real: write(tmp_path / f"a{number}.mp4", generated_tags(VOICE, origin_of(real, "video"))),
            made: write(tmp_path / f"b{number}.mp4", generated_tags(VOICE, origin_of(made, "video"))),
        }
        assert [parts(path) for path in dubs.values()] == [[True, False], [True, True]]
        clip = write(tmp_path / f"c{number}.mp4", generated_tags(origin_of(real, "recording"), FACE))
        assert parts(clip) == [False, True]
        made = dubs[made]


def test_tags_of_other_programs_count_only_if_they_begin_with_the_claim(tmp_path: Path) -> None:
    claims = {
        "AI-generated: this speech and this face were synthesised": True,
        "(ai generated) clip": True,
        "How to spot AI-generated faces": False,
        "": False,
    }
    for claim, generated in claims.items():
        assert parts(write(tmp_path / "a.mp4", {"title": "A talk", "comment": claim})) == [generated] * 2
    (tmp_path / "text.mp4").write_text("no video")
    assert parts(tmp_path / "text.mp4") == [False, False]


def test_the_title_says_what_is_generated() -> None:
    titles = {
        (VOICE, None): "AI-generated speech",
        (VOICE, FACE): "AI-generated talking portrait",
        ("the recording a.wav", FACE): "AI-generated talking portrait",
        (VOICE, "the video a.mp4"): "Video with AI-generated speech",
        (VOICE, "the AI-generated video a.mp4"): "AI-generated talking portrait",
    }
    for origins, title in titles.items():
        assert generated_tags(*origins)["title"] == title


@pytest.mark.parametrize("extension", [".mp4", ".mkv", ".ogg"])
def test_title_and_comment_can_be_kept(tmp_path: Path, extension: str) -> None:
    tags = {"title": "A talk", "comment": "AI-generated: all of it"}
    assert kept_tags(write(tmp_path / f"a{extension}", tags)) == tags
    assert kept_tags(write(tmp_path / f"b{extension}", {})) == {}


def test_tags_of_the_file_precede_those_of_its_tracks(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        container.metadata["title"] = "A talk"
        track = container.add_stream("pcm_s16le", rate=24_000, layout="mono")
        track.metadata.update({"title": "Left microphone", "comment": "Room 2"})
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 100), np.int16), format="s16", layout="mono")
        frame.sample_rate = 24_000
        container.mux([*track.encode(frame), *track.encode(None)])
    assert kept_tags(tmp_path / "a.mkv") == {"title": "A talk", "comment": "Room 2"}
