"""Files that players show right and simple readers read wrong, through say, animate, dub and preparation."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from media_files import LAST, ONE, join_tracks, write_hdr, write_sound, write_video
from PIL import Image
from prepared_data import tiny_codecs
from takes import errors
from tiny_checkpoint import write_checkpoint, write_portrait, write_voice

from puppet.corpus import bench
from recipes.data.prepare.clips import Record, make_clips
from recipes.data.prepare.encode import Setup, encode_videos
from recipes.data.prepare.sources import Source
from talker.cli import main
from talker.clock import HOP, SAMPLE_RATE
from talker.media.readers import VideoReader, read_audio

pytestmark = pytest.mark.long
FRAMES = 40
CASES = [
    "plain.mp4",
    "mirrored_display_matrix.mp4",
    "anamorphic_sar2.mp4",
    "hdr_pq.mp4",
    "mjpeg_first_track.mp4",
    "antiphase_stereo.wav",
    "speech_gap_noise45.wav",
    "sideways.png",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_checkpoint(folder)
    write_portrait(folder / "face.png")
    write_voice(folder / "voice.wav", 1.3)
    return folder


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of one person with the same picture and sound: plain.mp4, and the others stored in odd ways."""
    folder = tmp_path_factory.mktemp("videos")
    clip = bench("heldout").clip(0)
    frames, pcm = clip.frames(256, 0, FRAMES), clip.pcm[: FRAMES * HOP].astype(np.float32)
    speech = write_sound(folder / "speech.m4a", "aac", SAMPLE_RATE, pcm=pcm[None])
    silence = write_sound(folder / "silence.m4a", "aac", SAMPLE_RATE, pcm=0 * pcm[None])
    inverted = write_sound(folder / "inverted.m4a", "alac", SAMPLE_RATE, pcm=np.stack([pcm, -pcm]))
    right = write_sound(folder / "right.m4a", "alac", SAMPLE_RATE, pcm=np.stack([0 * pcm, pcm]))
    plain = write_video(folder / "picture.mp4", frames)
    cover = write_video(folder / "cover.mp4", [np.full((300, 300, 3), 99, np.uint8)], codec="mjpeg")
    narrow = [np.asarray(Image.fromarray(frame).resize((128, 256))) for frame in frames]
    odd = {
        "mirrored": write_video(folder / "a.mp4", frames[:, :, ::-1], matrix=(-ONE, 0, 0, 0, ONE, *LAST)),
        "flipped": write_video(folder / "b.mp4", frames[:, ::-1], matrix=(ONE, 0, 0, 0, -ONE, *LAST)),
        "transposed": write_video(folder / "c.mp4", frames.swapaxes(1, 2), matrix=(0, ONE, 0, ONE, 0, *LAST)),
        "turned": write_video(
            folder / "d.mp4", np.rot90(frames, 1, (1, 2)), matrix=(0, ONE, 0, -ONE, 0, *LAST)
        ),
        "lying": write_video(folder / "h.mp4", np.rot90(frames, 1, (1, 2))),  # without a tag
        "anamorphic": write_video(folder / "e.mp4", narrow, aspect=Fraction(2)),
        "pq": write_hdr(folder / "f.mp4", frames[0], 16, 100, FRAMES),
        "hlg": write_hdr(folder / "g.mp4", frames[0], 18, 100, FRAMES),
    }
    (folder / "odd").mkdir()
    for name, picture in odd.items():
        join_tracks(folder / f"odd/{name}.mp4", [(picture, True), (speech, True)])
    join_tracks(folder / "odd/plain.mp4", [(plain, True), (speech, True)])
    join_tracks(folder / "odd/cover.mp4", [(cover, True), (plain, True), (speech, True)])
    join_tracks(folder / "odd/silent track.mp4", [(plain, True), (silence, True), (speech, False)])
    join_tracks(folder / "odd/inverted.mp4", [(plain, True), (inverted, True)])
    join_tracks(folder / "odd/right.mp4", [(plain, True), (right, True)])
    return folder / "odd"


def test_clips_of_odd_files_are_those_of_the_plain_file(videos: Path, tmp_path: Path) -> None:
    clips, keys = tmp_path / "clips", []
    clips.mkdir()
    (tmp_path / "latents").mkdir()
    found = {}
    for path in sorted(videos.glob("*.mp4")):
        path.with_suffix(".txt").write_text("It was a bright cold day.")
        make_clips(Source(path, path.name, path.stem), clips / path.stem, 64, None)
        assert len(Record.read(clips / path.stem).clips) == 1, Record.read(clips / path.stem)
        clip = clips / path.stem / "000.mkv"
        found[path.stem] = np.stack(list(VideoReader(clip))).astype(float), read_audio(clip)
        keys.append(path.stem)
    picture, sound = found["plain"]
    level = float(sound.square().mean().sqrt())
    for name, (frames, pcm) in found.items():
        assert frames.shape[1:] == picture.shape[1:]
        assert np.abs(frames[0] - picture[0]).mean() < 12, name
        assert float(pcm.square().mean().sqrt()) == pytest.approx(level, rel=0.1), name
    encode_videos(
        Setup(tiny_codecs(tmp_path / "codecs"), "cpu", None, 0.0), clips, tmp_path / "latents", keys
    )
    assert len(list((tmp_path / "latents").glob("*.npz"))) == len(keys)


def run(folder: Path, capsys: pytest.CaptureFixture[str], out: Path, *arguments: str | Path) -> str:
    """Run a command with tiny weights; returns its error, one line, or "" if it wrote `out`."""
    flat = [*map(str, arguments), "-o", str(out), "--model", str(folder), "--steps", "1"]
    code, printed = main(flat), capsys.readouterr()
    assert (code == 0) == out.exists()
    if code == 0:
        return ""
    assert code == 2
    (line,) = errors(printed.err)
    return line


def commands(folder: Path, capsys: pytest.CaptureFixture[str], path: Path, out: Path) -> dict[str, str]:
    """The error of each command that can take the file, "" for none."""
    face, voice = folder / "face.png", folder / "voice.wav"
    errors = {}
    if path.suffix == ".png":
        return {"say": run(folder, capsys, out / "a.mp4", "say", "Hi.", "--portrait", path, "--voice", voice)}
    errors["say"] = run(folder, capsys, out / "a.mp4", "say", "Hi.", "--portrait", face, "--voice", path)
    errors["animate"] = run(folder, capsys, out / "b.mp4", "animate", path, "--portrait", face)
    if path.suffix == ".mp4":
        errors["dub"] = run(folder, capsys, out / "c.mp4", "dub", path, "Go.", "--voice", voice)
    return errors


def test_commands_take_odd_files(folder: Path, videos: Path, tmp_path: Path, capsys) -> None:
    for path in sorted(videos.glob("*.mp4")):
        out = tmp_path / path.stem
        out.mkdir()
        assert set(commands(folder, capsys, path, out).values()) == {""}, path.name
        first, dubbed = (next(iter(VideoReader(one))) for one in (path, out / "c.mp4"))
        assert np.array_equal(first, dubbed), path.name


@pytest.mark.parametrize("name", CASES)
def test_commands_take_the_cases(folder: Path, shared: Path, tmp_path: Path, capsys, name: str) -> None:
    assert set(commands(folder, capsys, shared / "cases" / name, tmp_path).values()) == {""}
