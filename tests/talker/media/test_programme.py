"""Sound as programmes: loudness by EBU R128, tempo, decoding at a time; and files with all their tracks."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyloudnorm
import pytest
from media_files import ORIENTATIONS, chirps, join_tracks, person, write_sound, write_video

from talker.media.display import display_matrix
from talker.media.programme import LoudnessMeter, changed_tempo, decode_programme, loudness_of
from talker.media.programme_writer import ProgrammeWriter
from talker.media.readers import read_audio

RATE = 24_000


def uneven(seconds: float, channels: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    levels = np.repeat(rng.random(int(seconds) + 1) ** 3, RATE)[: int(seconds * RATE)]
    return (0.3 * rng.normal(size=(channels, len(levels))) * levels).astype(np.float32)


@pytest.mark.parametrize(("seconds", "channels"), [(0.8, 1), (10.35, 2), (25.3, 1)])
def test_loudness_in_blocks_is_that_of_the_whole(seconds: float, channels: int) -> None:
    pcm = uneven(seconds, channels)
    pieces = np.array_split(pcm, range(1777, pcm.shape[1], 1777), axis=1)
    expected = pyloudnorm.Meter(RATE).integrated_loudness(pcm.T.astype(np.float64))
    assert loudness_of(pieces, RATE) == pytest.approx(expected, abs=1e-3)


def test_a_sine_of_997_hz_has_the_loudness_of_its_level() -> None:
    """EBU Tech 3341: -23 dBFS in both channels is -23 LUFS; silence around it does not count."""
    sine = 10 ** (-23 / 20) * np.sin(2 * np.pi * 997 * np.arange(4 * RATE) / RATE)
    both = np.stack([sine, sine]).astype(np.float32)
    assert loudness_of([both], RATE) == pytest.approx(-23, abs=0.1)
    assert loudness_of([0 * both, both, 0 * both], RATE) == pytest.approx(-23, abs=0.5)
    assert loudness_of([0 * both], RATE) == -np.inf
    short = LoudnessMeter(RATE)
    short.push(both[:1, : RATE // 10])
    assert np.isfinite(short.loudness())


@pytest.mark.parametrize("factor", [0.9, 1.15])
def test_tempo_changes_the_length_and_keeps_the_pitch(factor: float) -> None:
    tone = np.sin(2 * np.pi * 200 * np.arange(2 * RATE) / RATE).astype(np.float32)[None]
    changed = np.concatenate(list(changed_tempo(np.array_split(tone, 9, axis=1), RATE, factor)), axis=1)
    assert changed.shape[1] == pytest.approx(2 * RATE / factor, rel=0.01)
    spectrum = np.abs(np.fft.rfft(changed[0, 4000:28_000]))
    assert abs(int(spectrum.argmax()) - 200) <= 1


def test_a_programme_is_decoded_from_a_time(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", "pcm_s16le", 48_000, 1.5, 2)
    expected = chirps(1.5, 48_000, 2)
    for start in (Fraction(0), Fraction(1, 4), Fraction(-1, 4)):
        found = np.concatenate(list(decode_programme(path, 0, 48_000, "stereo", start)), axis=1)
        shift = int(start * 48_000)
        wanted = np.pad(expected, ((0, 0), (max(0, -shift), 0)))[:, max(0, shift) :]
        assert np.allclose(found, wanted, atol=1e-3)


def original(path: Path) -> Path:
    """A video with two sounds, subtitles, chapters, metadata, a rotation and pixels that are not square."""
    folder = path.parent
    turned = list(ORIENTATIONS)[4]
    how = {"matrix": turned, "aspect": Fraction(4, 3), "options": {"bf": "0"}}
    write_video(folder / "v.mkv", [person(64)] * 30, rate=30, sound=True, **how)
    write_sound(folder / "other.mka", "libopus", 48_000, 1.0)
    (folder / "s.srt").write_text("1\n00:00:00,100 --> 00:00:00,900\nGo.\n")
    join_tracks(folder / "joined.mkv", [(folder / "v.mkv", True), (folder / "other.mka", False)])
    with (
        av.open(str(folder / "joined.mkv")) as source,
        av.open(str(folder / "s.srt")) as text,
        av.open(str(path), "w") as target,
    ):
        target.metadata.update({"title": "Ein Film", "artist": "Zoë"})
        streams = {s: target.add_stream_from_template(s, opaque=s.type == "video") for s in source.streams}
        subtitles = target.add_stream_from_template(text.streams[0])
        streams[source.streams[2]].metadata["language"] = "fra"
        chapter = {"start": 0, "end": 500, "time_base": Fraction(1, 1000), "metadata": {"title": "One"}}
        target.set_chapters([{"id": 1, **chapter}])
        packets = [p for p in source.demux() if p.dts is not None] + list(text.demux())[:1]
        for packet in packets:
            packet.stream = streams.get(packet.stream, subtitles)
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            target.mux(packet)
    return path


@pytest.mark.parametrize("keep", [False, True])
def test_everything_but_the_replaced_sound_is_kept(tmp_path: Path, keep: bool) -> None:
    source = original(tmp_path / "a.mkv")
    pcm = 0.5 * chirps(1.0, RATE)
    tags = {"comment": "AI-generated", "title": "unused"}
    for name in ("one.mkv", "two.mkv"):
        with ProgrammeWriter(tmp_path / name, source, Fraction(0), RATE, "mono", tags, keep) as writer:
            for block in np.array_split(pcm, 5, axis=1):
                writer.write(block)
        assert writer.dropped == []
    assert (tmp_path / "one.mkv").read_bytes() == (tmp_path / "two.mkv").read_bytes()
    with av.open(str(source)) as before, av.open(str(tmp_path / "one.mkv")) as after:
        kinds = ["video", "audio", *["audio"] * keep, "audio", "subtitle"]
        assert [stream.type for stream in after.streams] == kinds
        codecs = [stream.codec_context.name for stream in after.streams]
        assert codecs[1:] == ["aac", *["aac"] * keep, "opus", "srt"]
        assert after.streams[-2].metadata["language"] == "fra"
        assert {"TITLE", "title"} & set(after.metadata)
        assert after.metadata["title"] == "Ein Film"
        assert "Zoë" in after.metadata.values()
        assert "AI-generated" in after.metadata.values()
        assert [c["metadata"] for c in after.chapters()] == [{"title": "One"}]
        assert before.streams[0].sample_aspect_ratio == after.streams[0].sample_aspect_ratio == Fraction(4, 3)
        packets = [[(p.pts, bytes(p)) for p in c.demux(video=0) if p.size] for c in (before, after)]
        assert packets[0] == packets[1]
    with av.open(str(source)) as before, av.open(str(tmp_path / "one.mkv")) as after:
        matrices = [display_matrix(next(c.decode(video=0))) for c in (before, after)]
        assert matrices[0] == matrices[1] is not None
    heard = read_audio(tmp_path / "one.mkv").numpy()
    assert len(heard) == pytest.approx(RATE, abs=1024)
    assert np.corrcoef(heard[2400:-2400], pcm[0, 2400 : len(heard) - 2400])[0, 1] > 0.99


def test_what_a_container_cannot_hold_is_named(tmp_path: Path) -> None:
    source = original(tmp_path / "a.mkv")
    with ProgrammeWriter(tmp_path / "a.mp4", source, Fraction(0), RATE, "mono", {"title": ""}) as writer:
        writer.write(chirps(1.0, RATE))
    assert writer.dropped == ["the subtitle track 3 was left out: mp4 cannot hold subrip"]
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert [stream.type for stream in container.streams] == [
            "video",
            "audio",
            "audio",
            "data",
        ]  # chapters
