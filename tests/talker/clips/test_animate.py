"""Videos of given sound: their length, live sound, and the copied sound track."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

import av
import numpy as np
import pytest
import torch
from media_files import chirps, person, write_sound, write_video
from takes import QUICK, errors, frames_of, joined, pcm_of, recorded
from tiny_checkpoint import write_checkpoint, write_portrait, write_voice

from audio_vae.config import AudioVAEConfig
from audio_vae.model import AudioVAE
from talker import Talker, UserError
from talker.cli import main
from talker.clips import animate as animate_module
from talker.clips.animate import LIVE_WINDOW, LiveAnimation
from talker.clips.clip import Chunk, Piece
from talker.clips.continuation import part_seed
from talker.clips.record import Generate, Patches, Record
from talker.generation.request import Request
from talker.identity import Portrait
from talker.media.readers import stream_audio
from talker.media.remux import AnimationWriter
from talker.stages import Cancelled, Channel
from talker.system import System


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_checkpoint(folder)
    write_portrait(folder / "face.png")
    write_voice(folder / "voice.wav", 2.3)
    return folder


def sound_of(path: Path) -> np.ndarray:
    return torch.cat(list(stream_audio(path))).numpy()


def arriving(blocks: Iterable[object]) -> Channel[np.ndarray]:
    """A closed channel that holds these blocks of sound."""
    channel: Channel[np.ndarray] = Channel(10_000)
    for block in blocks:
        channel.put(block)  # type: ignore[arg-type]
    channel.close()
    return channel


def test_noise_in_a_pause_is_read_as_silence(talker: Talker, portrait: Portrait, tmp_path: Path) -> None:
    """The recording itself keeps its noise."""
    noise = 0.002 * np.random.default_rng(0).standard_normal((1, 60_000), np.float32)
    pcm = np.concatenate([chirps(1.0, 24_000)[:, :24_000], noise, chirps(1.0, 24_000)[:, :24_000]], 1)
    path = write_sound(tmp_path / "a.wav", "pcm_s16le", 24_000, pcm=pcm)
    take, requests = recorded(talker.animate(path, portrait, sampling=QUICK))
    heard = torch.cat([request.given["audio"] for request in requests])
    pause = slice(25 + 20, 25 + 60)
    silence = talker.system.silence.expand(40, -1)
    torch.testing.assert_close(heard[pause], silence, atol=1e-3, rtol=1e-3)
    assert np.array_equal(pcm_of(take), sound_of(path))


def test_a_damaged_recording_and_one_without_speech_are_warnings(
    toy: Talker, portrait: Portrait, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    path = write_sound(tmp_path / "a.wav", "pcm_s16le", 24_000, pcm=np.zeros((1, 9600), np.float32))
    monkeypatch.setattr(animate_module, "damage_line", lambda path, damage: f"{path.name} is cut short")
    clip = toy.animate(path, portrait, "Hi.")
    assert clip.windows is None
    assert caplog.messages == ["a.wav is cut short", f"{path} holds no speech: the face will not speak"]


# -- live sound ----------------------------------------------------------------------------------------------


def test_animating_arriving_sound_equals_animating_its_file(
    talker: Talker, portrait: Portrait, folder: Path
) -> None:
    animation = talker.animate(folder / "voice.wav", portrait, sampling=QUICK)
    take = animation.take()
    whole = frames_of(take)
    pcm = sound_of(folder / "voice.wav")
    for size in (1000, len(pcm)):
        sound = arriving(pcm[start : start + size] for start in range(0, len(pcm), size))
        stream = talker.animate_stream(sound, portrait, level=animation.survey.level, sampling=QUICK)
        streamed = joined(stream)
        assert np.array_equal(streamed[1], whole)
        assert np.array_equal(streamed[0], pcm)
    assert len(whole) == -(-len(pcm) // 960)
    assert take.finish_reason == "stop"


def test_a_chunk_needs_no_more_sound_than_the_stated_lookahead(talker: Talker, portrait: Portrait) -> None:
    assert talker.lookahead_seconds == (LIVE_WINDOW * 4 + 4) / 25
    channel: Channel[np.ndarray] = Channel(1)
    live = LiveAnimation(talker.system, channel, portrait, None, 0, QUICK)
    given, blocks = 0, iter(np.split(chirps(3.2, 24_000)[0], 80))

    class Arriving(Channel[np.ndarray]):
        """Sound that is split when it is read."""

        def __iter__(self):
            nonlocal given
            for block in blocks:
                given += len(block)
                yield block

    live = dataclasses.replace(live, sound=Arriving(1))
    patches = 0
    for number, _ in enumerate(live.take().latents()):
        start = number // LIVE_WINDOW * LIVE_WINDOW * 0.16
        assert given / 24_000 <= start + talker.lookahead_seconds + 1e-6 or given == 76_800
        patches += 1
    assert patches == 20


NO_SOUND = [
    (np.full(960, np.nan, np.float32), "NaN"),
    (np.full(960, np.inf, np.float32), "NaN or inf"),
    (np.zeros(960, np.int16), "int16"),
    (np.zeros((1, 960), np.float32), "mono"),
    (np.float32(0), "mono"),
    (b"bytes", "float32"),
]


@pytest.mark.parametrize(("wrong", "words"), NO_SOUND, ids=lambda value: str(value)[:10])
def test_a_chunk_that_is_not_sound_is_refused_with_its_number(
    talker: Talker, portrait: Portrait, wrong, words: str
) -> None:
    sound = arriving([np.zeros(0, np.float32), np.zeros(960), wrong])
    with pytest.raises(UserError, match=f"chunk 2 .*{words}"):
        list(talker.animate_stream(sound, portrait, sampling=QUICK))
    assert sound.cancelled


def test_a_level_outside_of_0_to_1_is_refused(talker: Talker, portrait: Portrait) -> None:
    for level in (float("nan"), -0.1, 1.5):
        with pytest.raises(UserError, match="level"):
            talker.animate_stream(Channel(1), portrait, level=level)


@dataclass(frozen=True)
class Recording(LiveAnimation):
    """Records the generations that it starts."""

    opened: ClassVar[list[Patches]] = []

    def make(self, record: Record, generate: Generate) -> Iterator[Piece]:
        def opened(request: Request) -> Patches:
            self.opened.append(generate(request))
            return self.opened[-1]

        return super().make(record, opened)


def live(talker: Talker, portrait: Portrait, seconds: float) -> tuple[Channel[np.ndarray], Iterator[Chunk]]:
    """A stream whose channel holds `seconds` of sound and stays open without more."""
    Recording.opened.clear()
    channel: Channel[np.ndarray] = Channel(1)
    chunks = iter(Recording(talker.system, channel, portrait, None, 0, QUICK))
    if seconds:
        channel.put(chirps(seconds, 24_000)[0])
    return channel, chunks


def test_closing_a_stream_that_waits_for_sound_ends_its_threads(talker: Talker, portrait: Portrait) -> None:
    before = threading.active_count()
    channel, chunks = live(talker, portrait, 3.0)
    for _ in range(4 * LIVE_WINDOW):  # all windows that are complete
        next(chunks)
    assert threading.active_count() > before
    began = time.perf_counter()
    chunks.close()
    took = time.perf_counter() - began
    assert threading.active_count() == before
    assert took < 2, took
    assert {patches.finish_reason for patches in Recording.opened} == {"length"}
    with pytest.raises(Cancelled):
        channel.put(np.zeros(960, np.float32))


def test_a_stream_is_closed_by_another_thread_than_the_one_that_waits_for_it(
    talker: Talker, portrait: Portrait
) -> None:
    before = threading.active_count()
    _, chunks = live(talker, portrait, 0.0)
    found: list[int] = []
    reader = threading.Thread(target=lambda: found.append(len(list(chunks))))
    reader.start()
    time.sleep(0.05)
    chunks.close()
    reader.join(5)
    assert found == [0]
    assert threading.active_count() == before


def test_closing_a_stream_that_is_generating_interrupts_its_request(
    talker: Talker, portrait: Portrait
) -> None:
    """Every generation has a finish reason afterwards, so no row stays in use."""
    before = threading.active_count()
    _, chunks = live(talker, portrait, 20.0)
    next(chunks)
    time.sleep(0.2)  # the queues are full
    chunks.close()
    assert threading.active_count() == before
    reasons = [patches.finish_reason for patches in Recording.opened]
    assert None not in reasons
    assert len(reasons) < 20 / 0.64


@pytest.mark.parametrize("seconds", [0.0, 3.0])
def test_cancelling_the_channel_ends_a_waiting_reader(
    talker: Talker, portrait: Portrait, seconds: float
) -> None:
    before = threading.active_count()
    channel, chunks = live(talker, portrait, seconds)
    complete = threading.Event()  # all chunks that the sound is enough for have been read
    cancelled: list[float] = []

    def leave() -> None:
        complete.wait(60)
        time.sleep(0.05)  # the reader waits for the next chunk
        cancelled.append(time.perf_counter())
        channel.cancel()

    other = threading.Thread(target=leave)
    other.start()
    expected = 4 * LIVE_WINDOW if seconds else 0
    read = list(itertools.islice(chunks, expected))
    complete.set()
    assert list(chunks) == []
    took = time.perf_counter() - cancelled[0]
    other.join()
    assert len(read) == expected
    assert took < 2, took
    assert threading.active_count() == before
    assert None not in [patches.finish_reason for patches in Recording.opened]


# -- recordings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 959, 960, 3840, 40_001])
def test_the_video_is_as_long_as_the_sound_to_the_frame(
    toy: Talker, portrait: Portrait, tmp_path: Path, samples: int
) -> None:
    pcm = chirps(2, 24_000)[:, :samples]
    path = write_sound(tmp_path / "a.wav", "pcm_s16le", 24_000, pcm=pcm)
    report = toy.animate(path, portrait).save(tmp_path / "a.mp4")
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].frames == -(-samples // 960)
    assert report.duration_seconds == round(samples / 24_000, 3)


SOUNDS = {
    "a.m4a": ("aac", 44_100),
    "a.mp3": ("libmp3lame", 44_100),
    "b.mp3": ("libmp3lame", 16_000),
    "a.ogg": ("libopus", 48_000),
    "a.ac3": ("ac3", 48_000),
    "b.m4a": ("alac", 44_100),
    "a.flac": ("flac", 44_100),
}


@pytest.mark.parametrize("name", SOUNDS)
def test_packets_that_mp4_can_hold_are_copied(
    toy: Talker, portrait: Portrait, tmp_path: Path, name: str
) -> None:
    path = write_sound(tmp_path / name, *SOUNDS[name], seconds=0.9)
    toy.animate(path, portrait).save(tmp_path / "out.mp4")

    def packets(path: Path) -> list[bytes]:
        with av.open(str(path)) as container:
            return [bytes(packet) for packet in container.demux(audio=0) if packet.size]

    assert packets(tmp_path / "out.mp4") == packets(path)
    before, after = sound_of(path), sound_of(tmp_path / "out.mp4")
    assert abs(len(before) - len(after)) < 960
    assert np.abs(before[:20_000] - after[:20_000]).max() < 1e-3


@pytest.mark.parametrize(
    ("codec", "rate"),
    [("pcm_s16le", 44_100), ("pcm_u8", 11_025), ("pcm_s32le", 96_000), ("libmp3lame", 8_000)],
)
def test_other_sound_is_encoded_at_the_same_times(
    toy: Talker, portrait: Portrait, tmp_path: Path, codec: str, rate: int
) -> None:
    path = write_sound(tmp_path / ("a.mp3" if codec == "libmp3lame" else "a.wav"), codec, rate, seconds=0.9)
    toy.animate(path, portrait).save(tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        audio = container.streams.audio[0]
        assert (audio.codec.canonical_name, audio.rate) == ("aac", min(rate, 48_000))
        assert audio.codec_context.layout.nb_channels == 2
    before, after = sound_of(path), sound_of(tmp_path / "out.mp4")
    clicks = [int(np.argmax(np.abs(pcm) > 0.7)) for pcm in (before, after)]
    assert abs(clicks[0] - clicks[1]) < 24
    assert np.abs(before[:20_000] - after[:20_000]).mean() < 0.01


def test_loudness_changes_the_sound_and_not_the_motion(
    talker: Talker, portrait: Portrait, tmp_path: Path
) -> None:
    takes = []
    for scale in (0.5, 0.0625):
        pcm = chirps(0.9, 24_000) * scale
        path = write_sound(tmp_path / f"{scale}.wav", "pcm_f32le", 24_000, pcm=pcm)
        animation = talker.animate(path, portrait, sampling=QUICK)
        takes.append(list(animation.make(Record(4), talker.system.generator.generate)))
    for loud, quiet in zip(*takes, strict=True):
        assert np.allclose(quiet.pcm, loud.pcm / 8, atol=1e-4)
        assert torch.allclose(quiet.latents["motion"], loud.latents["motion"], atol=1e-3)


def test_a_text_is_divided_among_the_windows(talker: Talker, portrait: Portrait, tmp_path: Path) -> None:
    spoken = np.concatenate([chirps(1.5, 24_000)[0], np.zeros(12_000, np.float32)] * 2)[None]
    path = write_sound(tmp_path / "a.wav", "pcm_s16le", 24_000, pcm=spoken)
    text = "Now the sun goes up. Now the sun goes down."
    clip = talker.animate(path, portrait, text, seed=3, sampling=QUICK)
    assert clip.windows is not None
    first, second = clip.windows
    assert (first.text, second.text) == ("Now the sun goes up.", "Now the sun goes down.")
    assert abs(first.patches * 0.16 - 1.75) < 0.3
    assert first.patches + second.patches == 25
    take, requests = recorded(clip)
    assert [request.text for request in requests] == [first.text, second.text]
    seeds = [part_seed(3, 0), part_seed(3, 1)]
    assert [(request.seed, request.sampling) for request in requests] == [(seed, QUICK) for seed in seeds]
    assert [len(request.given["audio"]) for request in requests] == [4 * first.patches, 4 * second.patches]
    assert requests[0].prefix is None
    assert [len(requests[1].prefix[name]) for name in ("audio", "motion")] == [4, 4]
    assert torch.equal(requests[0].first_motion, portrait.motion)
    assert torch.equal(requests[1].first_motion, requests[1].prefix["motion"][0])
    assert not torch.allclose(requests[1].first_motion.float(), portrait.motion)
    assert len(frames_of(take)) == 100
    assert take.starts == [0, first.patches]


def test_the_face_moves_on_between_windows_without_text(
    talker: Talker, portrait: Portrait, tmp_path: Path
) -> None:
    """Words continue across their borders. The windows of a text end in pauses."""
    pcm = np.concatenate([chirps(0.7, 24_000)[0], np.zeros(6_000, np.float32)] * 2)[None]
    path = write_sound(tmp_path / "a.wav", "pcm_s16le", 24_000, pcm=pcm)
    for text in (None, "Now the sun goes up. Now the sun goes down."):
        take = talker.animate(path, portrait, text, sampling=QUICK).take()
        motion = torch.cat([streams["motion"] for streams in take.latents()])
        borders = [4 * start for start in take.starts[1:]]
        assert len(borders) == (2 if text is None else 1)
        stands = [torch.allclose(motion[k], motion[k - 1], atol=1e-5) for k in borders]
        assert stands == [text is not None] * len(borders)


def test_a_transcriber_gives_the_text(talker: Talker, portrait: Portrait, folder: Path) -> None:
    path, text = folder / "voice.wav", "Now the sun goes up. Now the sun goes down."
    lengths: list[int] = []

    def transcriber(pcm: torch.Tensor) -> str:
        lengths.append(len(pcm))
        return text

    transcribed = talker.animate(path, portrait, transcriber=transcriber, sampling=QUICK)
    assert transcribed.windows == talker.animate(path, portrait, text, sampling=QUICK).windows
    assert lengths == [len(sound_of(path))]
    foreign = talker.animate(path, portrait, transcriber=lambda pcm: "こんにちは", sampling=QUICK)
    assert [window.text for window in foreign.windows or ()] == [""]


def test_each_part_of_a_long_recording_is_aligned_with_its_own_transcript(
    talker: Talker, portrait: Portrait, tmp_path: Path
) -> None:
    """60 s are transcribed in three parts. The last part has no pause, so its sentences share a window."""
    pcm = chirps(60.0, 24_000)
    for pause in (6, 20, 34, 40, 46):  # first second of each pause of one second
        pcm[:, pause * 24_000 : (pause + 1) * 24_000] = 0
    path = write_sound(tmp_path / "a.wav", "pcm_s16le", 24_000, pcm=pcm)
    lengths: list[int] = []

    def transcriber(part: torch.Tensor) -> str:
        lengths.append(len(part))
        return f"Up {len(lengths)}. Down {len(lengths)}."

    clip = talker.animate(path, portrait, transcriber=transcriber, sampling=QUICK)
    assert clip.windows is not None
    assert len(lengths) == 3
    assert [window.text for window in clip.windows] == [
        "Up 1.",
        "Down 1.",
        "Up 2.",
        "Down 2.",
        "Up 3. Down 3.",
    ]
    ends = np.cumsum([window.patches for window in clip.windows])
    assert ends[-1] == 375
    assert (ends[:-1] * 0.16).astype(int).tolist() == [6, 20, 34, 46]


def test_a_text_with_more_words_than_fit_is_cut(talker: Talker, portrait: Portrait, folder: Path) -> None:
    words = "go on " * 200
    _, (request,) = recorded(talker.animate(folder / "voice.wav", portrait, words, sampling=QUICK))
    assert words.startswith(request.text + " ")
    assert 0 < len(request.text.split()) < 400
    longest = talker.system.generator.longest
    more = " ".join(words.split()[: len(request.text.split()) + 1])
    assert longest(request.text, "a2v", 4) >= 60 > longest(more, "a2v", 4)


def test_a_silent_recording_is_animated_without_its_text(
    talker: Talker, portrait: Portrait, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_sound(tmp_path / "a.wav", "pcm_s16le", 24_000, pcm=np.zeros((1, 24_000), np.float32))
    with caplog.at_level(logging.WARNING):
        animation = talker.animate(path, portrait, "Not spoken.", sampling=QUICK)
    assert "holds no speech" in caplog.text
    take, requests = recorded(animation)
    assert {request.text for request in requests} == {""}
    assert len(frames_of(take)) == 25


def test_a_gap_in_the_timestamps_is_read_as_silence(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.mp3", "libmp3lame", seconds=2.0)
    with av.open(str(path)) as source, av.open(str(tmp_path / "gap.mkv"), "w") as target:
        into = target.add_stream_from_template(source.streams.audio[0])
        for number, packet in enumerate(p for p in source.demux(audio=0) if p.size):
            if not 30 <= number < 50:
                packet.stream = into
                target.mux(packet)
    whole, with_gap = sound_of(path), sound_of(tmp_path / "gap.mkv")
    assert abs(len(whole) - len(with_gap)) < 960
    assert np.abs(with_gap[20_000:28_000]).max() < 1e-6 < np.abs(whole[20_000:28_000]).max()
    assert np.abs(with_gap[34_000:]).max() > 0.2


@pytest.mark.parametrize(("codec", "sample_format"), [("pcm_u8", "u8"), ("pcm_f32le", "flt")])
def test_a_gap_in_the_timestamps_is_written_as_silence(
    tmp_path: Path, codec: str, sample_format: str
) -> None:
    pcm = chirps(0.2, 24_000)
    with av.open(str(tmp_path / "gap.mkv"), "w") as container:
        stream = container.add_stream(codec, rate=24_000, layout="mono")
        to_format = av.AudioResampler(sample_format, "mono", 24_000)
        for start in (0, 14_400):
            frame = av.AudioFrame.from_ndarray(pcm, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 24_000, start, Fraction(1, 24_000)
            container.mux(stream.encode(*to_format.resample(frame)))
        container.mux(stream.encode(None))
    with AnimationWriter(tmp_path / "out.mp4", 32, tmp_path / "gap.mkv") as writer:
        writer.write(np.zeros(0), np.zeros((20, 32, 32, 3), np.uint8))
    assert writer.source._file.closed
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.audio[0].codec_context.layout.nb_channels == 1
    heard = sound_of(tmp_path / "out.mp4")
    assert np.abs(heard[6_000:13_000]).max() < 0.01
    assert np.abs(heard[14_400:19_200] - pcm[0]).mean() < 0.02


def animate(folder: Path, audio: Path, out: Path, *more: str) -> int:
    picture = folder / "face.png"
    options = ["--portrait", str(picture), "--crop", "none", "--model", str(folder), "--steps", "1", "--json"]
    return main(["animate", str(audio), "-o", str(out), *options, *more])


@pytest.mark.parametrize(("name", "codec"), [("part.opus", "libopus"), ("part.ts", "aac")])
def test_chained_files_are_read_one_after_the_other(
    toy: Talker, portrait: Portrait, tmp_path: Path, name: str, codec: str
) -> None:
    part = write_sound(tmp_path / name, codec, rate=48_000, seconds=1.0)
    chained = tmp_path / f"chained{part.suffix}"
    chained.write_bytes(2 * part.read_bytes())
    report = toy.animate(chained, portrait).save(tmp_path / "out.mp4")
    assert report.duration_seconds == pytest.approx(2.0, abs=0.1)
    with av.open(str(tmp_path / "out.mp4")) as container:
        for track in container.streams:
            assert float(track.duration * track.time_base) == pytest.approx(report.duration_seconds, abs=0.06)


def test_the_command_writes_the_video_and_a_report(folder: Path, tmp_path: Path, capsys) -> None:
    assert animate(folder, folder / "voice.wav", tmp_path / "ö ut.mp4", "--text", "Hello there.") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["duration_seconds"] == 2.3
    assert report["finish_reason"] == "stop"


@pytest.fixture(scope="module")
def wrong_files(folder: Path) -> None:
    write_video(folder / "mute.mp4", [person(64)] * 5)
    (folder / "empty.wav").write_bytes(b"")
    (folder / "folder.wav").mkdir()
    (folder / "words.mp3").write_text("not a sound at all " * 100)
    write_sound(folder / "good.mka", "aac", seconds=0.5)
    (folder / "alien.mka").write_bytes((folder / "good.mka").read_bytes().replace(b"A_AAC", b"A_ZZZ"))
    sound = write_sound(folder / "none.wav", "pcm_s16le", seconds=0.5).read_bytes()
    (folder / "none.wav").write_bytes(sound[: sound.index(b"data") + 8])


WRONG = [
    ("mute.mp4", (), "no audio track"),
    ("empty.wav", (), "cannot be read"),
    ("words.mp3", (), "cannot be read|no sound"),
    ("alien.mka", (), "cannot be read|no sound|codec"),
    ("none.wav", (), "no sound|cannot be read"),
    ("missing.wav", (), "does not exist"),
    ("voice.wav", ("--text", "Привет"), "English"),
    ("voice.wav", ("--text", " "), "empty"),
    ("voice.wav", ("--text", "?!"), "nothing to say"),
    ("folder.wav", (), "is a folder"),
    ("voice.wav", ("--transcribe", "no-such-model"), "--text"),
    ("voice.wav", ("--transcribe", __file__), "no Whisper weights"),
    ("voice.wav", ("--text", "Hi.", "--transcribe", "base"), "not both"),
    ("voice.wav", ("--portrait", "mute.mp4"), "not a picture"),
]


@pytest.mark.parametrize(("audio", "more", "words"), WRONG, ids=lambda value: str(value)[-30:])
def test_an_error_of_the_user_prints_one_line_and_writes_nothing(
    folder: Path, wrong_files: None, tmp_path: Path, capsys, audio: str, more: tuple[str, ...], words: str
) -> None:
    more = tuple(str(folder / part) if part.endswith(".mp4") else part for part in more)
    assert animate(folder, folder / audio, tmp_path / "out.mp4", *more) == 2
    printed = capsys.readouterr()
    assert len(errors(printed.err)) == 1
    assert any(word in printed.err for word in words.split("|")), printed.err
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_length_in_the_header_does_not_matter(
    toy: Talker, portrait: Portrait, tmp_path: Path
) -> None:
    """A wav file whose header states one hour, and one whose header states a tenth of the sound."""
    good = write_sound(tmp_path / "a.wav", "pcm_s16le", 24_000, pcm=chirps(1.0, 24_000)).read_bytes()
    at = good.index(b"data") + 4
    for claimed in (3600 * 48_000, 4800):
        (tmp_path / "b.wav").write_bytes(good[:at] + claimed.to_bytes(4, "little") + good[at + 4 :])
        animation = toy.animate(tmp_path / "b.wav", portrait)
        report = animation.save(tmp_path / "b.mp4")
        with av.open(str(tmp_path / "b.mp4")) as container:
            frames = container.streams.video[0].frames
        assert (report.duration_seconds, frames) == ((1.0, 25) if claimed > 48_000 else (0.1, 3))


class WholeEncoder(AudioVAE):
    """A codec that encodes a recording only as a whole, as Whisper's does; counts the frames of each call."""

    encodes_streams = False
    calls: ClassVar[list[int]] = []

    def encode(self, pcm: torch.Tensor, *args: object, **options: object) -> torch.Tensor:
        self.calls.append(pcm.shape[1] // 960)
        return torch.zeros(1, pcm.shape[1] // 960, self.latent_dim)


def test_a_codec_that_encodes_only_whole_recordings_gets_pieces_between_pauses(
    toy: Talker, portrait: Portrait, tmp_path: Path
) -> None:
    system, generator = toy.system, toy.system.generator
    whole = System(generator, WholeEncoder(AudioVAEConfig.tiny()).eval(), system.motion_ae, system.speaker)
    with pytest.raises(UserError, match="as a whole"):
        Talker(whole).animate_stream(Channel(1), portrait)
    pcm = np.concatenate([chirps(20.0, 24_000)[0], np.zeros(12_000, np.float32), chirps(15.0, 24_000)[0]])
    path = write_sound(tmp_path / "a.wav", "pcm_s16le", 24_000, pcm=pcm[None])
    animation = Talker(whole).animate(path, portrait, sampling=QUICK)
    WholeEncoder.calls.clear()
    made = animation.make(Record(4), generator.generate)
    next(made)
    first = WholeEncoder.calls[0]
    assert WholeEncoder.calls == [first]  # the second piece is encoded when it is needed
    assert 20 * 25 < first < 20.5 * 25
    assert sum(len(piece.latents["motion"]) for piece in made) == 888 - 4
    assert WholeEncoder.calls == [first, 888 - first]


def test_live_sound_is_saved_as_a_video(talker: Talker, portrait: Portrait, tmp_path: Path) -> None:
    sound = arriving(np.split(chirps(1.0, 24_000)[0], 10))
    report = LiveAnimation(talker.system, sound, portrait, 0.1, 4, QUICK).save(tmp_path / "live.mp4")
    assert (report.duration_seconds, report.seed, report.finish_reason) == (1.0, 4, "stop")
    with av.open(str(tmp_path / "live.mp4")) as container:
        assert container.streams.video[0].frames == 25
        assert "a live recording" in str(container.metadata)


def test_closing_before_the_first_chunk_cancels_the_channel(talker: Talker, portrait: Portrait) -> None:
    sound: Channel[np.ndarray] = Channel(1)
    chunks = talker.animate_stream(sound, portrait)
    chunks.close()  # type: ignore[attr-defined]
    with pytest.raises(Cancelled):
        sound.put(np.zeros(960, np.float32))
    assert list(chunks) == []
