"""The mp4: sound and picture stay together, and the file is whole or absent."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from talker.errors import UserError
from talker.media.audio import read_audio
from talker.media.mux import Mp4Writer, check_output
from talker.media.video import read_frames


def flash_and_click(patches: int, at: list[int], size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Silence and dark frames, 4 a patch; at each frame in `at` a white frame and a click begin together."""
    frames = np.full((patches * 4, size, size, 3), 30, np.uint8)
    pcm = np.zeros(patches * 3840, np.float32)
    for frame in at:
        frames[frame] = 255
        pcm[frame * 960 : frame * 960 + 480] = 0.8 * np.sin(np.arange(480))
    return pcm, frames


def write(path: Path, patches: int, at: list[int] = ()) -> None:
    pcm, frames = flash_and_click(patches, list(at))
    with Mp4Writer(path, 64) as writer:
        for k in range(patches):
            writer.write(pcm[k * 3840 : (k + 1) * 3840], frames[k * 4 : (k + 1) * 4])


def test_flash_and_click_stay_together(tmp_path: Path) -> None:
    at = [3, 50, 101]
    write(tmp_path / "a.mp4", 27, at)
    shades = np.array([frame.mean() for frame in read_frames(tmp_path / "a.mp4")])
    pcm = read_audio(tmp_path / "a.mp4").numpy()
    assert len(shades) == 108
    assert np.flatnonzero(shades > 150).tolist() == at
    for frame in at:
        near = np.abs(pcm[max(0, frame * 960 - 2000) : frame * 960 + 2000]) > 0.4
        assert abs(np.argmax(near) + max(0, frame * 960 - 2000) - frame * 960) < 960


def test_the_container_is_what_players_expect(tmp_path: Path) -> None:
    path = tmp_path / "naïve name: %d 100%.mp4"
    write(path, 26)
    with av.open(path.open("rb")) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec.name, video.pix_fmt, video.average_rate, video.frames) == (
            "h264",
            "yuv420p",
            25,
            104,
        )
        assert (audio.codec.name, audio.rate, audio.layout.nb_channels) == ("aac", 24_000, 1)
        assert video.start_time == audio.start_time == 0
        assert abs(float(video.duration * video.time_base) - float(audio.duration * audio.time_base)) <= 0.04
        assert "AI-generated" in container.metadata["title"]
        assert "AI-generated" in container.metadata["comment"]
        stamps = [frame.pts * video.time_base for frame in container.decode(video)]
        assert stamps == [k * stamps[1] for k in range(104)]
        assert stamps[1] == video.time_base * round(1 / (25 * video.time_base))
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # faststart
    assert path.stat().st_mode & 0o777 == 0o644


def test_colours_survive(tmp_path: Path) -> None:
    frames = np.zeros((4, 64, 64, 3), np.uint8)
    frames[:, :32, :32], frames[:, 32:, :32], frames[:, :, 32:] = (
        (200, 60, 40),
        (40, 180, 80),
        (220, 180, 160),
    )
    with Mp4Writer(tmp_path / "a.mp4", 64) as writer:
        writer.write(np.zeros(3840, np.float32), frames)
    back = next(read_frames(tmp_path / "a.mp4")).astype(int)
    for y, x in ((16, 16), (48, 16), (32, 48)):
        assert np.abs(back[y, x] - frames[0, y, x]).max() <= 6


def test_the_same_chunks_give_the_same_file(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", 5, [7])
    write(tmp_path / "b.mp4", 5, [7])
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_nothing_and_spares_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"the old one")

    def interrupted() -> None:
        with Mp4Writer(path, 64) as writer:
            writer.write(*flash_and_click(1, []))
            raise error

    with pytest.raises(error):
        interrupted()
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    assert path.read_bytes() == b"the old one"


def test_bad_outputs_are_named_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    for path, words in (
        (tmp_path / "a.avi", "try a.mp4"),
        (tmp_path / "none", "try none.mp4"),
        (tmp_path / "folder.mp4", "is a folder"),
        (tmp_path / "missing" / "a.mp4", "does not exist"),
        (tmp_path / ("long" * 80 + ".mp4"), "choose another name"),
        (Path("/proc/a.mp4"), "cannot write|not writable"),
    ):
        with pytest.raises(UserError, match=words), Mp4Writer(path, 64):
            pass
    assert check_output("a.MP4") == Path("a.MP4")


@pytest.mark.parametrize("limit", [20_000, 100_000])
def test_a_full_disk_is_one_line_and_nothing_stays(tmp_path: Path, limit: int) -> None:
    """A file-size limit stands for the disk: writing beyond it fails in the same places."""
    script = (
        "import sys, numpy as np\n"
        "from talker.media.mux import Mp4Writer\n"
        "noise = np.random.default_rng(0)\n"
        "with Mp4Writer(sys.argv[1], 64) as w:\n"
        "    for _ in range(40):\n"
        "        w.write(noise.normal(size=3840), noise.integers(0, 255, (4, 64, 64, 3), np.uint8))\n"
    )

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, "-c", script, str(tmp_path / "a.mp4")]
    result = subprocess.run(command, preexec_fn=small_files, capture_output=True, text=True)
    assert "UserError" in result.stderr.splitlines()[-1]
    assert "cannot be written" in result.stderr
    assert list(tmp_path.iterdir()) == []
