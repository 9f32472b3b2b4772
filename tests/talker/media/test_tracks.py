"""The choice of tracks and channels: speech keeps its level, and the picture is the moving one."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.stream import Disposition
from media_files import chirps, join_tracks, person, write_sound, write_video

from talker.errors import UserError
from talker.media.face_track import FaceTrack
from talker.media.readers import VideoReader, read_audio, read_voice, stream_audio
from talker.media.tracks import Sound, choose_channels, find_picture, find_sound, find_sound_track

RATE = 24_000
STEREO, SURROUND = ("FL", "FR"), ("FL", "FR", "FC", "LFE", "BL", "BR")
SPEECH = chirps(2.3, RATE)[0]
OTHER = np.roll(SPEECH[::-1], RATE // 7).copy()  # as loud, not correlated
NOISE = (0.003 * np.random.default_rng(0).standard_normal(len(SPEECH))).astype(np.float32)
LATER = np.arange(len(SPEECH)) > len(SPEECH) // 2
ZERO = np.zeros_like(SPEECH)

# Name, the two channels, and the mono signal.
PAIRS = {
    "in phase": (SPEECH, SPEECH, SPEECH),
    "one louder": (SPEECH, 0.5 * SPEECH, 0.75 * SPEECH),
    "two speakers": (SPEECH, OTHER, (SPEECH + OTHER) / 2),
    "in turn": (SPEECH * LATER, SPEECH * ~LATER, SPEECH / 2),
    "inverted": (SPEECH, -SPEECH, SPEECH),
    "inverted with noise": (SPEECH, NOISE - SPEECH, SPEECH),
    "inverted, louder": (0.5 * SPEECH, -SPEECH, -SPEECH),
    "inverted, softer": (SPEECH, -0.5 * SPEECH, SPEECH),
    "inverted later": (SPEECH, np.where(LATER, -SPEECH, SPEECH), SPEECH),
    "only left": (SPEECH, ZERO, SPEECH),
    "only right": (ZERO, SPEECH, SPEECH),
    "right is noise": (SPEECH, NOISE, SPEECH),
    "not a number": (np.where(SPEECH < -0.2, np.nan, SPEECH), ZERO, np.where(SPEECH < -0.2, 0, SPEECH)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_speech_in_stereo_keeps_its_level(tmp_path: Path, name: str) -> None:
    *channels, expected = PAIRS[name]
    path = write_sound(tmp_path / "a.wav", "pcm_f32le", RATE, pcm=np.stack(channels).astype(np.float32))
    streamed = torch.cat(list(stream_audio(path)))
    assert np.abs(streamed.numpy() - expected).max() < 1e-6
    assert torch.equal(read_audio(path), streamed)


def test_frames_with_another_number_of_channels_are_averaged() -> None:
    samples = np.stack([SPEECH, OTHER, ZERO])
    assert np.array_equal(Sound(0, (1,), 3).mono(samples), OTHER)
    for count in (1, 2):
        assert np.array_equal(Sound(0, (1,), 3).mono(samples[:count]), samples[:count].mean(0))


# Name, the channels that have sound, and those that are heard.
SURROUNDS = {
    "centre": ((2,), (2,)),
    "centre and music": ((0, 1, 2, 4, 5), (2,)),
    "front": ((0, 1), (0, 1)),
    "front and surround": ((0, 1, 4, 5), (0, 1)),
    "left": ((0,), (0,)),
    "back": ((4, 5), (4, 5)),
    "with bass": ((2, 3), (2,)),
    "bass alone": ((3,), (0, 1, 2, 3, 4, 5)),
    "silence": ((), (0, 1, 2, 3, 4, 5)),
}


@pytest.mark.parametrize("name", SURROUNDS)
def test_speech_in_surround_sound_is_in_the_centre_or_in_front(name: str) -> None:
    sounding, heard = SURROUNDS[name]
    power = np.diag([float(channel in sounding) for channel in range(6)])[None]
    assert choose_channels(power, SURROUND) == heard


def test_soft_centre_is_not_the_speech() -> None:
    power = np.diag([1.0, 1, 0.01, 0, 0, 0])[None]
    assert choose_channels(power, SURROUND) == (0, 1)
    assert choose_channels(np.diag([1.0] * 6)[None], ("",) * 6) == tuple(range(6))


def test_surround_file_is_read_from_its_centre(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=RATE, layout="5.1")
        pcm = np.zeros((6, RATE), np.int16)
        pcm[2] = (32767 * SPEECH[:RATE]).round()
        pcm[0] = pcm[4] = pcm[2] // 2
        frame = av.AudioFrame.from_ndarray(pcm.T.reshape(1, -1).copy(), format="s16", layout="5.1")
        frame.sample_rate = RATE
        container.mux([*stream.encode(frame), *stream.encode(None)])
    assert np.abs(read_audio(path).numpy() - SPEECH[:RATE]).max() < 1e-4


def test_short_cancellation_does_not_drop_a_channel() -> None:
    power = np.array([[[1.0, 1], [1, 1]]] * 19 + [[[1, -1], [-1, 1]]])
    assert choose_channels(power, STEREO) == (0, 1)
    assert choose_channels(power[10:], STEREO) == (0, 1)
    assert choose_channels(power[11:], STEREO) == (0,)


def sound(folder: Path, name: str, pcm: np.ndarray) -> Path:
    return write_sound(folder / f"{name}.mka", "pcm_s16le", RATE, pcm=pcm.astype(np.float32)[None])


SOUNDS = {
    "silent, then speech": ([("zero", True), ("speech", False)], 1),
    "hum, then speech": ([("hum", True), ("speech", True)], 1),
    "default second": ([("other", False), ("speech", True)], 1),
    "both default": ([("speech", True), ("other", True)], 0),
    "short, then long": ([("short", True), ("speech", True)], 1),
    "all silent": ([("zero", True), ("zero", True)], 0),
}


@pytest.mark.parametrize("name", SOUNDS)
def test_the_best_sound_track_is_heard(tmp_path: Path, name: str) -> None:
    tracks, expected = SOUNDS[name]
    signals = {
        "zero": ZERO,
        "speech": SPEECH,
        "other": OTHER,
        "hum": 0.002 * SPEECH,
        "short": SPEECH[: RATE // 2],
    }
    sources = [(sound(tmp_path, key, signals[key]), default) for key, default in tracks]
    path = join_tracks(tmp_path / "joined.mka", sources)
    assert find_sound_track(path) == expected
    heard = signals[tracks[expected][0]]
    assert np.abs(torch.cat(list(stream_audio(path))).numpy() - heard).max() < 1e-3
    if heard.any():
        assert np.abs(read_voice(path).numpy() - heard).max() < 1e-3


def test_channels_are_chosen_in_the_track_that_is_heard(tmp_path: Path) -> None:
    silent = write_sound(tmp_path / "silent.wav", "pcm_s16le", RATE, pcm=np.stack([ZERO, ZERO]))
    spoken = write_sound(tmp_path / "spoken.wav", "pcm_s16le", RATE, pcm=np.stack([ZERO, SPEECH]))
    path = join_tracks(tmp_path / "joined.mka", [(silent, True), (spoken, False)])
    assert find_sound(path) == Sound(track=1, channels=(1,), total=2)


@pytest.mark.parametrize("flag", ["comment", "hearing_impaired", "visual_impaired"])
def test_commentary_and_descriptions_come_last(tmp_path: Path, flag: str) -> None:
    path = tmp_path / "a.mka"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("pcm_s16le", rate=RATE, layout="mono") for _ in range(2)]
        streams[0].disposition = Disposition[flag]
        for stream in streams:
            frame = av.AudioFrame.from_ndarray(SPEECH[None], format="fltp", layout="mono")
            frame.sample_rate = RATE
            container.mux([*stream.encode(frame), *stream.encode(None)])
    assert find_sound_track(path) == 1


PICTURES = {
    "cover first": ([("cover", True), ("large", False)], 1),
    "cover last": ([("large", True), ("cover", True)], 0),
    "one frame first": ([("single", True), ("small", True)], 1),
    "larger second": ([("small", True), ("large", True)], 1),
    "default second": ([("large", False), ("small", True)], 1),
    "both alike": ([("large", True), ("large", True)], 0),
    "longer second": ([("part", True), ("large", True)], 1),
    "larger and shorter second": ([("small", True), ("part", True)], 1),
}


@pytest.mark.parametrize("ending", [".mkv", ".mp4"])
@pytest.mark.parametrize("name", PICTURES)
def test_the_best_video_track_is_shown(tmp_path: Path, name: str, ending: str) -> None:
    tracks, expected = PICTURES[name]
    kinds = {
        "cover": (200, 1, "mjpeg"),
        "single": (200, 1, "libx264"),
        "small": (64, 15, "libx264"),
        "large": (96, 15, "libx264"),
        "part": (96, 9, "libx264"),
    }
    sources = []
    for key, default in tracks:
        size, count, codec = kinds[key]
        path = write_video(tmp_path / f"{key}.mp4", [person(size)] * count, codec=codec)
        sources.append((path, default))
    path = join_tracks(tmp_path / f"joined{ending}", sources)
    size, count, _ = kinds[tracks[expected][0]]
    assert find_picture(path) == expected
    frames = list(VideoReader(path))
    assert (len(frames), frames[0].shape) == (count, (size, size, 3))


def test_cover_picture_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt, stream.disposition = "yuvj420p", Disposition.attached_pic
        frame = av.VideoFrame.from_ndarray(person(64), format="rgb24")
        container.mux([*stream.encode(frame), *stream.encode(None)])
    assert find_picture(path) is None
    with pytest.raises(UserError, match="no video track"):
        list(VideoReader(path))


# What each file must give: mean of the picture (+- 6), size, or level of the sound.
CASES = {
    "plain.mp4": (640, 480),
    "mirrored_display_matrix.mp4": (640, 480),
    "anamorphic_sar2.mp4": (640, 480),
    "hdr_pq.mp4": (640, 480),
    "mjpeg_first_track.mp4": (640, 480),
}


@pytest.mark.parametrize("name", CASES)
def test_case_has_the_picture_of_the_plain_video(shared: Path, name: str) -> None:
    """The same face in the same place, as bright as in plain.mp4."""
    plain = next(iter(VideoReader(shared / "cases/plain.mp4")))
    frame = next(iter(VideoReader(shared / "cases" / name)))
    assert frame.shape[1::-1] == CASES[name]
    mirrored = np.fliplr(frame) if name.startswith("mirrored") else frame
    assert abs(frame.mean() - plain.mean()) < 6
    assert min(np.abs(one - plain.astype(float)).mean() for one in (frame, mirrored)) < 8


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.long) for name in CASES])
def test_face_of_the_case_is_tracked(shared: Path, name: str) -> None:
    plain, found = (FaceTrack.from_video(shared / "cases" / one).squares for one in ("plain.mp4", name))
    assert found is not None
    assert plain is not None
    assert abs(found[0].side / plain[0].side - 1) < 0.1
    assert abs(found[0].top - plain[0].top) < 20


def test_case_of_antiphase_stereo_is_a_voice(shared: Path) -> None:
    path = shared / "cases/antiphase_stereo.wav"
    with av.open(str(path)) as container:
        left = (
            np.concatenate([f.to_ndarray().reshape(-1, 2)[:, 0] for f in container.decode(audio=0)]) / 2**15
        )
    assert read_voice(path).square().mean().sqrt() == pytest.approx(np.sqrt((left**2).mean()), rel=0.05)
