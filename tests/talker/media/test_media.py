"""Reading audio and video: any rate, width and container gives the same signal; headers are not believed."""

from __future__ import annotations

import itertools
import struct
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from talker.errors import UserError
from talker.media.audio import SAMPLE_RATE, read_audio, read_voice, resample
from talker.media.video import read_frames


def tone(rate: int, seconds: float = 1.0) -> np.ndarray:
    """(samples,) a swelling 440 Hz tone, peak 0.5."""
    time = np.arange(round(rate * seconds)) / rate
    return (0.5 * np.sin(2 * np.pi * 440 * time) * np.hanning(len(time))).astype(np.float32)


def write_audio(
    path: Path, pcm: np.ndarray, rate: int, codec: str, channels: int, layout_format: str
) -> Path:
    """`pcm` in any codec; a second channel is a copy."""
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
def test_any_wav_is_the_same_sound(tmp_path: Path, rate, channels, codec, sample_format) -> None:
    path = write_audio(tmp_path / "a.wav", tone(rate), rate, codec, channels, sample_format)
    pcm = read_audio(path).numpy()
    assert abs(len(pcm) - SAMPLE_RATE) <= 3
    expected = tone(SAMPLE_RATE)[: len(pcm)]
    assert np.abs(pcm[: len(expected)] - expected).max() < 0.012  # 8 bits: 1/128


@pytest.mark.parametrize(("name", "codec"), [("a.mp3", "libmp3lame"), ("a.m4a", "aac"), ("a.ogg", "libopus")])
def test_compressed_audio_is_read(tmp_path: Path, name: str, codec: str) -> None:
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


def test_only_the_first_seconds_are_decoded_whatever_the_header_claims(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", tone(8_000, 4.0), 8_000, "pcm_s16le", 1, "s16")
    assert len(read_audio(path, seconds=1.5)) == 36_000
    data = bytearray(path.read_bytes())
    at = data.index(b"data")
    data[at + 4 : at + 8] = struct.pack("<I", 0xFFFFFFF0)
    path.write_bytes(data)
    assert abs(len(read_audio(path)) - 96_000) <= 3


def _wav(path: Path, pcm: np.ndarray, rate: int = 24_000) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((pcm * 32767).astype("<i2").tobytes())
    return path


def test_what_is_no_voice_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("this is no sound " * 100)
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


def test_damage_in_the_middle_is_survived(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.mp3", tone(24_000, 3.0), 24_000, "libmp3lame", 1, "s16p")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = bytes(400)
    path.write_bytes(data)
    assert len(read_audio(path)) > 24_000
    path.write_bytes(data[: len(data) // 2])
    assert len(read_audio(path)) > 24_000


def _video(path: Path, times: list[Fraction]) -> Path:
    """A video whose k-th frame appears at times[k] and is grey 10 k."""
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


def test_frames_are_picked_by_their_timestamps(tmp_path: Path) -> None:
    path = _video(tmp_path / "v.mp4", [Fraction(k, 50) for k in range(20)])
    shades = [frame.mean() / 10 for frame in read_frames(path)]
    assert np.abs(np.array(shades) - np.arange(0, 20, 2)).max() < 0.4

    irregular = [0, Fraction(1, 25), Fraction(5, 25), Fraction(6, 25)]
    shades = [round(frame.mean() / 10) for frame in read_frames(_video(tmp_path / "w.mp4", irregular))]
    assert shades[:7] == [0, 1, 1, 1, 1, 2, 3]

    assert len(list(itertools.islice(read_frames(path, seconds=0.12), 10))) == 3


@pytest.mark.long
def test_many_long_stills_together_are_no_video(tmp_path: Path) -> None:
    path = _video(tmp_path / "v.mkv", [Fraction(250 * k) for k in range(5)])
    with pytest.raises(UserError, match=r"v\.mkv holds timestamps that jump: convert it"):
        list(read_frames(path))
    assert sum(1 for _ in read_frames(path, seconds=499)) == 499 * 25
    slow = _video(tmp_path / "w.mkv", [Fraction(k) for k in range(700)])
    assert sum(1 for _ in read_frames(slow)) >= 699 * 25


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    sound = _wav(tmp_path / "a.wav", tone(24_000))
    (tmp_path / "b.mp4").write_bytes(bytes(1000))
    for path, words in (
        (sound, "no video track"),
        (tmp_path / "b.mp4", "cannot be read"),
        (tmp_path, "folder"),
    ):
        with pytest.raises(UserError, match=words):
            list(read_frames(path))
