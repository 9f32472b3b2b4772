"""Written media files: sound and video stay together, and a file is complete or does not exist."""

from __future__ import annotations

import contextlib
import io
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest
from media_files import person, write_sound
from PIL import Image, ImageSequence

from talker.errors import UserError
from talker.media import encoders
from talker.media.encoders import (
    SoundWriter,
    VideoWriter,
    add_gif_comment,
    check_boxes,
    check_packets,
)
from talker.media.files import SOUND_FILES
from talker.media.provenance import generated_tags
from talker.media.readers import read_audio, read_frames
from talker.media.remux import AnimationWriter

NO_FRAMES = np.zeros((0, 0, 0, 3), np.uint8)


def flash_and_click(patches: int, events: list[int], size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Silence and dark frames, 4 per patch; at each frame in `events` a white frame and a click start."""
    frames = np.full((patches * 4, size, size, 3), 30, np.uint8)
    pcm = np.zeros(patches * 3840, np.float32)
    for frame in events:
        frames[frame] = 255
        pcm[frame * 960 : frame * 960 + 480] = 0.8 * np.sin(np.arange(480))
    return pcm, frames


TAGS = generated_tags("synthesised in the voice v", "generated from the portrait p")


def write(path: Path, patches: int, events: list[int] = ()) -> None:
    pcm, frames = flash_and_click(patches, list(events))
    with VideoWriter(path, 64, TAGS) as writer:
        for k in range(patches):
            writer.write(pcm[k * 3840 : (k + 1) * 3840], frames[k * 4 : (k + 1) * 4])


def write_noise(path: Path, patches: int = 10) -> None:
    """Write noise, which compresses badly; without frames if the extension is one of SOUND_FILES."""
    rng = np.random.default_rng(0)
    with SoundWriter(path) if path.suffix in SOUND_FILES else VideoWriter(path, 32) as writer:
        for _ in range(patches):
            writer.write(0.3 * rng.normal(size=3840), rng.integers(0, 255, (4, 32, 32, 3), np.uint8))


@pytest.mark.parametrize("extension", [".mp4", ".mov", ".mkv", ".webm"])
def test_flash_and_click_stay_together(tmp_path: Path, extension: str) -> None:
    events = [3, 50, 101]
    path = tmp_path / f"a{extension}"
    write(path, 27, events)
    shades = np.array([frame.mean() for frame in read_frames(path)])
    pcm = read_audio(path).numpy()
    with av.open(str(path)) as container:
        tags = {name.lower(): value for name, value in container.metadata.items()}
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc) == (1, 1, 1)  # BT.709
    assert tags["comment"] == TAGS["comment"]
    if extension in (".mp4", ".mov"):
        data = path.read_bytes()
        assert data.index(b"moov") < data.index(b"mdat")  # faststart
    assert len(shades) == 108
    assert np.flatnonzero(shades > 150).tolist() == events
    for frame in events:
        near = np.abs(pcm[max(0, frame * 960 - 2000) : frame * 960 + 2000]) > 0.4
        assert abs(np.argmax(near) + max(0, frame * 960 - 2000) - frame * 960) < 960


def test_mp4_has_the_streams_and_metadata_that_players_expect(tmp_path: Path) -> None:
    path = tmp_path / "naïve name: %d 100%.mp4"
    write(path, 26)
    with av.open(path.open("rb")) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        stored = (video.codec.name, video.pix_fmt, video.average_rate, video.frames)
        assert stored == ("h264", "yuv420p", 25, 104)
        assert (audio.codec.name, audio.rate, audio.layout.nb_channels) == ("aac", 24_000, 1)
        assert video.start_time == audio.start_time == 0
        assert abs(float(video.duration * video.time_base) - float(audio.duration * audio.time_base)) <= 0.04
        assert container.metadata["title"] == "AI-generated talking portrait"
        assert container.metadata["comment"] == TAGS["comment"]
        stamps = [frame.pts * video.time_base for frame in container.decode(video)]
        assert stamps == [k * stamps[1] for k in range(104)]
        assert stamps[1] == video.time_base * round(1 / (25 * video.time_base))
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_gif_has_every_frame_for_40_ms_and_the_comment(tmp_path: Path) -> None:
    write(tmp_path / "a.gif", 3, [3, 7])
    with Image.open(tmp_path / "a.gif") as gif:
        frames = [np.asarray(frame.convert("L")).mean() for frame in ImageSequence.Iterator(gif)]
        assert gif.info["duration"] == 40
        assert gif.info["loop"] == 0
    assert [shade > 200 for shade in frames] == [index in (3, 7) for index in range(12)]
    assert TAGS["comment"].encode() in (tmp_path / "a.gif").read_bytes()


@pytest.mark.parametrize("length", [1, 255, 256, 600])
def test_a_comment_of_any_length_is_added_to_a_gif(length: int) -> None:
    file, comment = io.BytesIO(), ("abcdefg " * length)[:length]
    Image.new("L", (4, 4)).save(file, "gif")
    whole = file.getvalue()
    add_gif_comment(file, comment)
    head, data = whole[:-1] + b"!\xfe", file.getvalue()
    found, place = b"", len(head)
    while size := data[place]:
        found, place = found + data[place + 1 : place + 1 + size], place + 1 + size
    assert (data[: len(head)], found, data[place:]) == (head, comment.encode(), b"\0;")


def test_an_error_before_the_first_packet_leaves_no_file(tmp_path: Path) -> None:
    class Failing(SoundWriter):
        def add_streams(self, container: av.container.OutputContainer) -> None:
            raise ValueError("no such codec")

    with pytest.raises(ValueError, match="no such codec"):
        Failing(tmp_path / "a.wav").__enter__()
    assert list(tmp_path.iterdir()) == []


def test_the_tags_name_only_the_parts_of_a_file() -> None:
    assert "Picture" not in generated_tags("synthesised in the voice v", None)["comment"]
    comment = generated_tags("the recording a.wav", "generated from the portrait p")["comment"]
    assert "Speech: the recording a.wav. Picture: generated from the portrait p." in comment


@pytest.mark.parametrize(
    ("extension", "codec", "copied"),
    [(".webm", "libopus", True), (".webm", "aac", False), (".mov", "libopus", False), (".mkv", "flac", True)],
)
def test_a_recording_is_copied_where_the_container_supports_its_codec(
    tmp_path: Path, extension: str, codec: str, copied: bool
) -> None:
    sound = write_sound(tmp_path / "a.mkv", codec, 48_000, seconds=1.6)
    path = tmp_path / f"b{extension}"
    with AnimationWriter(path, 64, sound) as writer:
        writer.write(np.zeros(0, np.float32), np.zeros((40, 64, 64, 3), np.uint8))

    def packets(path: Path) -> list[bytes]:
        with av.open(str(path)) as container:
            return [bytes(packet) for packet in container.demux(audio=0) if packet.size]

    assert (packets(path) == packets(sound)) == copied
    assert writer.source._file.closed
    assert abs(len(read_audio(path)) - 38_400) < 1200


@pytest.mark.parametrize(("channels", "rate"), [(1, 96_000), (2, 160_000)])
def test_a_recording_that_is_encoded_again_keeps_its_channels(
    tmp_path: Path, channels: int, rate: int
) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (channels, 48_000)).astype(np.float32)
    sound = write_sound(tmp_path / "a.wav", "pcm_s16le", 48_000, pcm=noise)
    with AnimationWriter(tmp_path / "b.mp4", 64, sound) as writer:
        writer.write(np.zeros(0, np.float32), np.zeros((25, 64, 64, 3), np.uint8))
    with av.open(str(tmp_path / "b.mp4")) as container:
        track = container.streams.audio[0]
        assert track.codec_context.layout.nb_channels == channels
        assert 8 * sum(packet.size for packet in container.demux(track)) == pytest.approx(rate, rel=0.15)


def test_a_recording_is_left_out_of_a_gif(tmp_path: Path) -> None:
    sound = write_sound(tmp_path / "a.wav", "pcm_s16le", 24_000, seconds=1.6)
    with AnimationWriter(tmp_path / "b.gif", 64, sound) as writer:
        writer.write(np.zeros(0, np.float32), np.zeros((40, 64, 64, 3), np.uint8))
    assert len(list(read_frames(tmp_path / "b.gif"))) == 40


@pytest.mark.parametrize("kind", ["speech", "recording"])
def test_decoding_order_is_presentation_order(tmp_path: Path, kind: str) -> None:
    picture = person(64)
    frames = np.stack([np.roll(picture, (k, 2 * k), (0, 1)) for k in range(40)])
    if kind == "speech":
        writer = VideoWriter(tmp_path / "a.mp4", 64)
    else:
        sound = write_sound(tmp_path / "a.mp3", "libmp3lame", 24_000, seconds=1.6)
        writer = AnimationWriter(tmp_path / "a.mp4", 64, sound)
    with writer:
        for chunk in frames.reshape(10, 4, 64, 64, 3):
            writer.write(np.zeros(3840, np.float32), chunk)
    with av.open(str(tmp_path / "a.mp4")) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        step = packets[0].duration
    assert [packet.pts for packet in packets] == [k * step for k in range(40)]
    assert [packet.dts for packet in packets] == [packet.pts for packet in packets]


def test_colours_survive(tmp_path: Path) -> None:
    frames = np.zeros((4, 64, 64, 3), np.uint8)
    frames[:, :32, :32] = (200, 60, 40)
    frames[:, 32:, :32] = (40, 180, 80)
    frames[:, :, 32:] = (220, 180, 160)
    with VideoWriter(tmp_path / "a.mp4", 64) as writer:
        writer.write(np.zeros(3840, np.float32), frames)
    decoded = next(read_frames(tmp_path / "a.mp4")).astype(int)
    for y, x in ((16, 16), (48, 16), (32, 48)):
        assert np.abs(decoded[y, x] - frames[0, y, x]).max() <= 6


def test_speech_is_coded_with_the_usual_bits_per_second(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 48_000).astype(np.float32)
    with SoundWriter(tmp_path / "a.m4a") as writer:
        writer.write(noise, np.zeros(0))
    assert abs(8 * (tmp_path / "a.m4a").stat().st_size / 2 - 96_000) < 10_000


def test_sound_and_frames_differ_by_a_frame_at_most(tmp_path: Path) -> None:
    for frames, samples, ends in ((4, 2880, True), (4, 4800, True), (4, 2879, False), (4, 4801, False)):
        block = np.zeros((frames, 64, 64, 3), np.uint8)
        writer = VideoWriter(tmp_path / "a.mp4", 64)
        with contextlib.nullcontext() if ends else pytest.raises(AssertionError, match="longer than"), writer:
            writer.write(np.zeros(samples, np.float32), block)
        assert (tmp_path / "a.mp4").exists() == ends
        (tmp_path / "a.mp4").unlink(missing_ok=True)


def test_sound_beyond_full_scale_is_clipped(tmp_path: Path) -> None:
    loud = np.array([2.0, -3.0, 0.5, 1.0], np.float32).repeat(600)
    for name, pcm in (("a.wav", loud), ("b.wav", loud.clip(-1, 1))):
        with SoundWriter(tmp_path / name) as writer:
            writer.write(pcm, NO_FRAMES)
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    assert read_audio(tmp_path / "a.wav")[[0, 600]].tolist() == pytest.approx([1, -1], abs=1e-3)


def test_equal_chunks_give_equal_files(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", 5, [7])
    write(tmp_path / "b.mp4", 5, [7])
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_keeps_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"the old one")

    def interrupted() -> None:
        with VideoWriter(path, 64) as writer:
            writer.write(*flash_and_click(1, []))
            raise error

    with pytest.raises(error):
        interrupted()
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    assert path.read_bytes() == b"the old one"


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Writing to a file beyond `size` bytes fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", ["a.mp4", "a.wav", "a.ogg"])
def test_full_disk_raises_one_error_and_leaves_no_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_noise(path)
    size = path.stat().st_size
    path.unlink()
    for limit in (0, size // 3, size - 1):
        with pytest.raises(UserError, match="cannot be written") as caught, file_size_limit(limit):
            write_noise(path)
        assert "\n" not in str(caught.value)
        assert list(tmp_path.iterdir()) == []
    with file_size_limit(size):
        write_noise(path)
    assert path.stat().st_size == size


class _Truncating:
    """An output container that loses the end of its file without an error."""

    def __init__(self, container: av.container.OutputContainer, path: Path) -> None:
        self._container, self._path = container, path

    def __getattr__(self, name: str) -> object:
        return getattr(self._container, name)

    def close(self) -> None:
        self._container.close()
        data = self._path.read_bytes()
        self._path.write_bytes(data[: len(data) * 2 // 3])


@pytest.mark.parametrize("name", ["a.mp4", "a.m4a", "a.mp3"])
def test_unreported_loss_raises_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    open_container = av.open

    def truncating(file: object, mode: str = "r", **options: object) -> object:
        container = open_container(file, mode, **options)
        return _Truncating(container, Path(file.removeprefix("file:"))) if mode == "w" else container

    monkeypatch.setattr(encoders.av, "open", truncating)
    with pytest.raises(UserError, match="cannot be written"):
        write_noise(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_every_proper_prefix_of_an_mp4_is_incomplete(tmp_path: Path) -> None:
    write_noise(tmp_path / "a.mp4", patches=1)
    data = (tmp_path / "a.mp4").read_bytes()
    check_boxes(io.BytesIO(data))
    for length in range(len(data)):
        with pytest.raises(OSError, match="incomplete"):
            check_boxes(io.BytesIO(data[:length]))


def test_boxes_may_have_64_bit_sizes(tmp_path: Path) -> None:
    moov = b"\0\0\0\x08moov"
    mdat = b"\0\0\0\x01mdat" + (20).to_bytes(8, "big") + b"data"
    check_boxes(io.BytesIO(moov + mdat))
    for broken in (moov + mdat[:-1], moov + mdat + b"\0", moov, mdat):
        with pytest.raises(OSError, match="incomplete"):
            check_boxes(io.BytesIO(broken))


def test_missing_packets_are_noticed(tmp_path: Path) -> None:
    write_noise(tmp_path / "a.mp3", patches=20)
    data = (tmp_path / "a.mp3").read_bytes()
    with av.open(io.BytesIO(data)) as container:
        count = sum(packet.size > 0 for packet in container.demux())
    check_packets(io.BytesIO(data), count)
    for length in range(0, len(data) * 9 // 10, len(data) // 8):
        with pytest.raises((OSError, av.FFmpegError)):
            check_packets(io.BytesIO(data[:length]), count)
