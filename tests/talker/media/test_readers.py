"""Readers of sound and video: one signal from every rate, sample width and container; damaged files."""

from __future__ import annotations

import itertools
import struct
import wave
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from media_files import person, write_hdr, write_sound, write_video

from talker.clock import SAMPLE_RATE
from talker.errors import UserError
from talker.media import readers
from talker.media.readers import (
    VideoReader,
    blocks,
    read_audio,
    read_frames,
    read_voice,
    resample,
    stream_audio,
)


def tone(rate: int, seconds: float = 1.0) -> np.ndarray:
    """(samples,) float32: a 440 Hz tone that swells and fades, with a peak of 0.5."""
    time = np.arange(round(rate * seconds)) / rate
    return (0.5 * np.sin(2 * np.pi * 440 * time) * np.hanning(len(time))).astype(np.float32)


def write_audio(
    path: Path, pcm: np.ndarray, rate: int, codec: str, channels: int, layout_format: str
) -> Path:
    """Write pcm (samples,) in any codec; the second channel is a copy of the first."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="stereo" if channels == 2 else "mono")
        frame = av.AudioFrame.from_ndarray(np.repeat(pcm[None], channels, 0), "fltp", stream.layout.name)
        frame.sample_rate = rate
        for piece in av.AudioResampler(layout_format, stream.layout.name, rate).resample(frame):
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("rate", "channels", "codec", "sample_format"),
    [
        (8_000, 1, "pcm_s16le", "s16"),
        (22_050, 2, "pcm_s16le", "s16"),
        (44_100, 2, "pcm_f32le", "flt"),
        (48_000, 1, "pcm_u8", "u8"),
        (24_000, 2, "pcm_s24le", "s32"),
        (44_101, 1, "pcm_s32le", "s32"),
        (16_000, 1, "pcm_f64le", "dbl"),
    ],
)
def test_every_wav_format_gives_the_same_samples(
    tmp_path: Path, rate, channels, codec, sample_format
) -> None:
    path = write_audio(tmp_path / "a.wav", tone(rate), rate, codec, channels, sample_format)
    pcm = read_audio(path).numpy()
    assert abs(len(pcm) - SAMPLE_RATE) <= 3
    expected = tone(SAMPLE_RATE)[: len(pcm)]
    assert np.abs(pcm[: len(expected)] - expected).max() < 0.012  # the resolution of 8 bits is 1/128


def test_mono_is_the_mean_of_the_channels(tmp_path: Path) -> None:
    left = tone(24_000, 0.2)
    path = write_sound(tmp_path / "a.wav", "pcm_f32le", 24_000, pcm=np.stack([left, 0.5 * left]))
    for pcm in (read_audio(path), torch.cat(list(stream_audio(path)))):
        assert np.abs(pcm.numpy() - 0.75 * left).max() < 1e-6


@pytest.mark.parametrize(("name", "codec"), [("a.mp3", "libmp3lame"), ("a.m4a", "aac"), ("a.ogg", "libopus")])
def test_compressed_audio_keeps_length_and_level(tmp_path: Path, name: str, codec: str) -> None:
    path = write_audio(
        tmp_path / name, tone(48_000, 2.0), 48_000, codec, 2, "fltp" if codec == "aac" else "s16"
    )
    pcm = read_voice(path)
    assert abs(len(pcm) / SAMPLE_RATE - 2.0) < 0.06
    assert 0.4 < pcm.abs().max() < 0.6


def test_resampling_keeps_length_and_level_at_odd_rates() -> None:
    for rate in (11_025, 22_255, 23_999, 96_000):
        out = resample(torch.from_numpy(tone(rate)), rate)
        assert abs(len(out) - SAMPLE_RATE) <= 3
        assert abs(out.abs().max() - 0.5) < 0.01


def test_length_in_the_header_is_ignored(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", tone(8_000, 4.0), 8_000, "pcm_s16le", 1, "s16")
    assert len(read_audio(path, seconds=1.5)) == 36_000
    data = bytearray(path.read_bytes())
    position = data.index(b"data")
    data[position + 4 : position + 8] = struct.pack("<I", 0xFFFFFFF0)
    path.write_bytes(data)
    assert abs(len(read_audio(path)) - 96_000) <= 3


def _wav(path: Path, pcm: np.ndarray, rate: int = 24_000) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((pcm * 32767).astype("<i2").tobytes())
    return path


def test_files_without_a_voice_raise_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("this is text " * 100)
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:5,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n")
    _wav(tmp_path / "short.wav", tone(24_000, 0.05))
    _wav(tmp_path / "silent.wav", np.zeros(24_000))
    _wav(tmp_path / "nothing.wav", np.zeros(0))
    _wav(tmp_path / "rate.wav", tone(24_000), rate=100)
    expected = {
        "missing.wav": "does not exist",
        ".": "is a folder",
        "text.wav": "cannot be read",
        "empty.wav": "cannot be read",
        "list.m3u8": "cannot be read|no audio|no sound",
        "short.wav": "0.05 s",
        "silent.wav": "silent",
        "nothing.wav": "no sound",
        "rate.wav": "100 samples",
        "n" * 300: "cannot be opened",
    }
    for name, words in expected.items():
        with pytest.raises(UserError, match=words) as caught:
            read_voice(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="not a regular file"):
        read_voice("/dev/zero")


def test_damaged_packets_are_skipped(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.mp3", tone(24_000, 3.0), 24_000, "libmp3lame", 1, "s16p")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = bytes(400)
    path.write_bytes(data)
    assert len(read_audio(path)) > 24_000
    path.write_bytes(data[: len(data) // 2])
    assert len(read_audio(path)) > 24_000


def _video(path: Path, times: list[Fraction]) -> Path:
    """A video whose k-th frame appears at times[k] seconds and is grey of value 10 k."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1000, options={"crf": "1", "bf": "0"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for k, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 10 * k % 256, np.uint8), "rgb24")
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_frames_are_selected_by_their_timestamps(tmp_path: Path) -> None:
    path = _video(tmp_path / "v.mp4", [Fraction(k, 50) for k in range(20)])
    shades = [frame.mean() / 10 for frame in read_frames(path)]
    assert np.abs(np.array(shades) - np.arange(0, 20, 2)).max() < 0.4

    irregular = [0, Fraction(1, 25), Fraction(5, 25), Fraction(6, 25)]
    shades = [round(frame.mean() / 10) for frame in read_frames(_video(tmp_path / "w.mp4", irregular))]
    assert shades[:7] == [0, 1, 1, 1, 1, 2, 3]

    assert len(list(itertools.islice(read_frames(path, seconds=0.12), 10))) == 3


def test_rounded_timestamps_delay_no_frame(tmp_path: Path) -> None:
    late = [Fraction(k, 25) + Fraction(k > 0, 1000) for k in range(10)]
    shades = [round(frame.mean() / 10) for frame in read_frames(_video(tmp_path / "v.mp4", late))]
    assert shades == list(range(10))


@pytest.mark.parametrize("last", [0, 1, 3, 5])
def test_the_last_frame_is_shown_for_its_own_duration(tmp_path: Path, last: int) -> None:
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuvj420p"
        for number in range(4):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
            frame.pts = number
            for packet in stream.encode(frame):
                packet.duration = last if number == 3 else 1
                container.mux(packet)
    video = VideoReader(path)
    last = last or 1  # without a duration, the usual one
    assert len(list(video)) == 3 + last
    assert round(video.seconds * 25) == 3 + last


def test_the_white_of_an_hdr_video_is_measured_over_its_first_two_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_hdr(tmp_path / "a.mkv", person(32), 16, 203.0, count=56)
    measured: list[list[int]] = []

    def white(frames: list[av.VideoFrame]) -> float:
        measured.append([round(frame.time * 25) for frame in frames])
        return 150.0

    monkeypatch.setattr(readers, "reference_white", white)
    assert next(VideoReader(path).source_frames()).white == 150
    assert measured == [[0, 10, 20, 30, 40]]


@pytest.mark.long
def test_total_time_of_long_still_frames_is_limited(tmp_path: Path) -> None:
    path = _video(tmp_path / "v.mkv", [Fraction(250 * k) for k in range(5)])
    with pytest.raises(UserError, match=r"v\.mkv has timestamps that jump: convert it"):
        list(read_frames(path))
    assert sum(1 for _ in read_frames(path, seconds=499)) == 499 * 25
    slow = _video(tmp_path / "w.mkv", [Fraction(k) for k in range(700)])
    assert sum(1 for _ in read_frames(slow)) >= 699 * 25


def test_files_without_a_video_track_raise(tmp_path: Path) -> None:
    sound = _wav(tmp_path / "a.wav", tone(24_000))
    (tmp_path / "b.mp4").write_bytes(bytes(1000))
    for path, words in (
        (sound, "no video track"),
        (tmp_path / "b.mp4", "cannot be read"),
        (tmp_path, "folder"),
    ):
        with pytest.raises(UserError, match=words):
            list(read_frames(path))


OTHER_RATES = [pytest.param(rate, marks=pytest.mark.long) for rate in (22_050, 24_000, 48_000)]


@pytest.mark.parametrize("rate", [8000, 11_025, 44_100, 23_999, *OTHER_RATES])
def test_streamed_audio_equals_the_whole(tmp_path: Path, rate: int) -> None:
    path = write_sound(tmp_path / "a.wav", "pcm_s16le", rate, seconds=1.7)
    whole, pieces = read_audio(path), list(stream_audio(path))
    assert len(pieces) > 3
    assert len(torch.cat(pieces)) == len(whole)
    assert (torch.cat(pieces) - whole).abs().max() < 1e-5


def with_gaps(path: Path, starts: Iterable[float]) -> Path:
    """Half a second of a constant value of 0.3 at each of the times in seconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=24_000, layout="mono")
        for start in starts:
            frame = av.AudioFrame.from_ndarray(np.full((1, 12_000), 9830, np.int16), "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 24_000, round(24_000 * start), Fraction(1, 24_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("late", [0.0, 3.0])
def test_missing_packets_become_silence(tmp_path: Path, late: float) -> None:
    path = with_gaps(tmp_path / "gap.mkv", (late + start for start in (0.0, 2.0, 2.5, 4.0)))
    sounds = torch.cat(list(stream_audio(path))).unflatten(0, (-1, 12_000)) > 0.29
    assert [bool(half.all()) for half in sounds] == [half in (0, 4, 5, 8) for half in range(9)]
    assert sounds.sum() == 4 * 12_000


def test_a_jump_of_the_timestamps_is_no_silence(tmp_path: Path) -> None:
    path = with_gaps(tmp_path / "jump.mkv", (0.0, 100.0))
    assert torch.cat(list(stream_audio(path))).shape == (24_000,)


def test_one_word_in_a_quiet_recording_is_a_voice(tmp_path: Path) -> None:
    pcm = np.zeros(120_000, np.float32)
    pcm[48_000:52_800] = 0.01 * tone(24_000, 0.2)
    assert len(read_voice(write_sound(tmp_path / "a.wav", "pcm_f32le", 24_000, pcm=pcm[None]))) == 120_000


def test_a_change_of_the_sample_rate_is_refused(tmp_path: Path) -> None:
    parts = [write_sound(tmp_path / f"{rate}.aac", "aac", rate, 0.5) for rate in (24_000, 48_000)]
    both = tmp_path / "both.aac"
    both.write_bytes(b"".join(part.read_bytes() for part in parts))
    for read in (read_audio, lambda path: list(stream_audio(path))):
        with pytest.raises(UserError, match=r"sample rate.*convert it to wav first"):
            read(both)


def test_blocks_keep_every_sample() -> None:
    pcm = torch.arange(1003)
    for size in (1, 7, 100, 5000):
        regrouped = list(blocks(pcm.split(13), size))
        assert torch.equal(torch.cat(regrouped), pcm)
        assert all(len(block) == size for block in regrouped[:-1])


def test_truncated_files_give_a_part_or_one_error(tmp_path: Path) -> None:
    picture = person(64)
    video = write_video(tmp_path / "v.mkv", [np.roll(picture, k, axis=1) for k in range(30)], sound=True)
    whole, pcm = list(read_frames(video)), torch.cat(list(stream_audio(video)))
    data = video.read_bytes()
    complete = []
    for length in range(0, len(data), len(data) // 8):
        cut = tmp_path / "cut.mkv"
        cut.write_bytes(data[:length])
        try:
            frames = list(read_frames(cut))
        except UserError:
            frames = []
        assert len(frames) <= len(whole)
        complete.append(len(frames))
        try:
            part = torch.cat(list(stream_audio(cut)))
        except UserError:
            part = pcm[:0]
        sure = max(0, len(part) - 1000)  # the resampler and the decoder look ahead
        assert torch.equal(part[:sure], pcm[:sure])
    assert complete == sorted(complete)
    assert complete[0] == 0
    assert complete[-1] > 15


def test_frame_size_is_limited(tmp_path: Path) -> None:
    times = [Fraction(k, 25) for k in (0, 1, 2, 20, 21, 22)]
    small = write_video(tmp_path / "small.ts", [person(64)] * 3, stamps=times[:3])
    large = write_video(tmp_path / "large.ts", [person(128)] * 3, stamps=times[3:])
    with pytest.raises(UserError, match=r"128 x 128 pixels.* 16,383: scale the video down"):
        list(VideoReader(large, max_pixels=128 * 128 - 1))
    assert len(list(VideoReader(large, max_pixels=128 * 128))) == 3
    # Frames that become larger than the header claims are not decoded.
    both = tmp_path / "both.ts"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    assert {frame.shape for frame in read_frames(both)} == {(64, 64, 3), (128, 128, 3)}
    assert {frame.shape for frame in VideoReader(both, max_pixels=64 * 64)} == {(64, 64, 3)}
    # Times that go back are an error of the file.
    both.write_bytes(large.read_bytes() + small.read_bytes())
    with pytest.raises(UserError, match="timestamps that jump"):
        list(read_frames(both))


def test_float_recordings_are_read_within_full_scale(tmp_path: Path) -> None:
    pcm = np.array([[0.5, 1.5, -2.0, np.nan]], np.float32).repeat(6000, 1)
    path = write_sound(tmp_path / "loud.wav", "pcm_f32le", SAMPLE_RATE, pcm=pcm)
    for read in (read_audio(path), torch.cat(list(stream_audio(path)))):
        assert read[::6000].tolist() == [0.5, 1.0, -1.0, 0.0]
