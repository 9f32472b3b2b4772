"""Sound as programmes: loudness by EBU R128, tempo, decoding at a time; and files with all their tracks."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyloudnorm
import pytest
from av.stream import Disposition
from media_files import ORIENTATIONS, chirps, join_tracks, person, write_hdr, write_sound, write_video

from talker.media.display import display_matrix
from talker.media.paste import copied
from talker.media.programme import LoudnessMeter, changed_tempo, decode_programme, loudness_of
from talker.media.programme_writer import ProgrammeWriter, encoded_format
from talker.media.readers import VideoReader, read_audio

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


def test_gaps_are_silence_and_the_last_sample_is_there_from_any_time_on(tmp_path: Path) -> None:
    """Half seconds of sound at 1.25, 2.5 and 3 s, at another rate."""
    path, spans = tmp_path / "gap.mkv", (1.25, 2.5, 3.0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for begin in spans:
            frame = av.AudioFrame.from_ndarray(np.full((1, 8000), 9830, np.int16), "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 16_000, round(16_000 * begin), Fraction(1, 16_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    for start in (Fraction(0), Fraction(3, 2), Fraction(2)):
        pieces = list(decode_programme(path, 0, 48_000, "mono", start))
        found = np.concatenate(pieces, axis=1)[0]
        assert len(found) == pytest.approx((3.5 - start) * 48_000, abs=2)
        times = start + (np.arange(len(found)) + 0.5) / 48_000
        wanted = np.zeros(len(found))
        for begin in spans:
            wanted[(times > begin) & (times < begin + 0.5)] = 0.3
        away = np.min([np.abs(times - edge) for begin in spans for edge in (begin, begin + 0.5)], axis=0)
        assert np.abs(found - wanted)[away > 0.003].max() < 0.01
        assert found[-20:].mean() > 0.1


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
        target.metadata.update({"title": "Ein Film", "artist": "Zoë", "comment": "filmed by hand"})
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
        assert "filmed by hand" not in after.metadata.values()  # it must not hide what is generated
        defaults = [bool(Disposition.default & stream.disposition) for stream in list(after.streams)[1:-1]]
        assert defaults == [True, *[False] * (len(defaults) - 1)]
    assert all(reader._file.closed for reader in writer._readers)
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


def test_chapters_are_moved_to_the_first_picture(tmp_path: Path) -> None:
    source, start = original(tmp_path / "a.mkv"), Fraction(1, 5)
    with ProgrammeWriter(tmp_path / "b.mkv", source, start, RATE, "mono", {"title": ""}) as writer:
        writer.write(np.zeros((1, RATE), np.float32))
    with av.open(str(tmp_path / "b.mkv")) as container:
        (chapter,) = container.chapters()
        times = [chapter[name] * chapter["time_base"] for name in ("start", "end")]
        assert times == [0, Fraction(3, 10)]


@pytest.mark.parametrize("hdr", [False, True])
def test_pictures_that_are_encoded_again_look_the_same(tmp_path: Path, hdr: bool) -> None:
    if hdr:
        source = write_hdr(tmp_path / "a.mkv", person(64), 16, 203.0, count=3)
    else:
        how = {"matrix": list(ORIENTATIONS)[5], "aspect": Fraction(4, 3)}
        source = write_video(tmp_path / "a.mp4", [person(64)] * 3, rate=30, **how)
    with ProgrammeWriter(
        tmp_path / "b.mkv", source, Fraction(0), RATE, "mono", {"title": ""}, encode=True
    ) as writer:
        for frame in VideoReader(source).source_frames():
            writer.write_frame(copied(frame.frame), frame.seconds)
        writer.write(np.zeros((1, 2400), np.float32))
    seen = []
    for path in (source, tmp_path / "b.mkv"):
        with av.open(str(path)) as container:
            frames = list(container.decode(video=0))
            context = container.streams.video[0].codec_context
        colours = (context.color_range, context.color_primaries, context.color_trc, context.colorspace)
        times = [round(30 * frame.time) for frame in frames]
        seen.append((colours, times, context.pix_fmt, display_matrix(frames[0])))
    assert seen[0] == seen[1]
    before, after = (next(iter(VideoReader(path))).astype(int) for path in (source, tmp_path / "b.mkv"))
    assert before.shape == after.shape
    assert np.abs(before - after).mean() < 5


@pytest.mark.parametrize(
    ("name", "expected"),
    [("yuv420p", "yuv420p"), ("yuvj422p", "yuv422p"), ("yuv444p10le", "yuv444p10le"), ("nv12", "yuv420p"),
     ("rgb24", "yuv420p"), ("p010le", "yuv420p10le"), ("yuv422p12le", "yuv420p10le"), ("yuv440p", "yuv420p")],
)  # fmt: skip
def test_pictures_keep_their_bits_as_far_as_players_show_them(name: str, expected: str) -> None:
    assert encoded_format(name) == expected


def test_stereo_has_twice_the_bits_of_mono(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 48_000)).astype(np.float32)
    source, sizes = write_video(tmp_path / "a.mp4", [person(32)] * 25), []
    for layout, channels in (("mono", 1), ("stereo", 2)):
        path = tmp_path / f"{layout}.mp4"
        with ProgrammeWriter(path, source, Fraction(0), 48_000, layout, {"title": ""}) as writer:
            writer.write(noise[:channels])
        with av.open(str(path)) as container:
            sizes.append(sum(packet.size for packet in container.demux(audio=0)))
    assert 8 * sizes[0] == pytest.approx(96_000, rel=0.2)
    assert sizes[1] == pytest.approx(2 * sizes[0], rel=0.1)


def test_sound_and_picture_start_together_in_a_file_without_timestamps(tmp_path: Path) -> None:
    """AVI shows the first packet at 0, which may be decoded before the first picture is shown."""
    source = write_video(tmp_path / "a.avi", [person(64)] * 12, options={"bf": "2"})
    with av.open(str(source)) as container:
        first = next(packet for packet in container.demux(video=0) if packet.size)
        early = Fraction(2, 25) - first.dts * first.time_base  # of a picture that is shown 2 frames later
    with ProgrammeWriter(tmp_path / "b.avi", source, Fraction(2, 25), RATE, "mono", {"title": ""}) as writer:
        assert writer.seconds == pytest.approx(float(early)) == 0.08
        writer.write(np.full((1, RATE // 2), 0.5, np.float32))
    heard = read_audio(tmp_path / "b.avi").numpy()
    assert int(np.argmax(np.abs(heard) > 0.25)) == pytest.approx(0.08 * RATE, abs=2)
