"""A2V: as long as its sound, the same bits however that arrives, and the sound untouched."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from media_files import chirps, person, write_sound, write_video
from tiny_checkpoint import write_checkpoint, write_portrait, write_voice

from heads.solver import Sampling
from talker import Talker, UserError
from talker.cli import main
from talker.clips.animate import LIVE_WINDOW, encoded, lookahead_seconds, moving
from talker.clips.clip import Face
from talker.media.sound import Leveller, pieces

QUICK = Sampling(steps=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_checkpoint(folder)
    write_portrait(folder / "face.png")
    write_voice(folder / "voice.wav", 2.3)
    return folder


def sound_of(path: Path) -> np.ndarray:
    return torch.cat(list(pieces(path))).numpy()


def test_arriving_sound_gives_what_the_file_gives(talker: Talker, face: Face, folder: Path) -> None:
    animation = talker.animate(folder / "voice.wav", face, sampling=QUICK)
    whole = np.concatenate([chunk.frames for chunk in animation])
    pcm = sound_of(folder / "voice.wav")
    for size in (1000, len(pcm)):
        arriving = (pcm[start : start + size] for start in range(0, len(pcm), size))
        chunks = list(talker.animate_stream(arriving, face, level=animation.survey.level, sampling=QUICK))
        assert np.array_equal(np.concatenate([chunk.frames for chunk in chunks]), whole)
        assert np.array_equal(np.concatenate([chunk.pcm for chunk in chunks]), pcm)
    assert len(whole) == -(-len(pcm) // 960)
    assert animation.finish_reason == "stop"


def test_a_chunk_waits_for_no_more_than_is_stated(talker: Talker, face: Face) -> None:
    given = 0

    def arriving():
        nonlocal given
        for block in np.split(chirps(3.2, 24_000)[0], 80):
            given += len(block)
            yield block

    stated = lookahead_seconds(talker)
    assert stated == (LIVE_WINDOW * 4 + 4) / 25
    sound = (torch.from_numpy(block) for block in arriving())
    for number, _ in enumerate(moving(talker, sound, Leveller(), None, face, 0, QUICK)):
        start = number // LIVE_WINDOW * LIVE_WINDOW * 0.16
        assert given / 24_000 <= start + stated + 1e-6 or given == 76_800


@pytest.mark.parametrize("samples", [1, 959, 960, 3840, 40_001])
def test_as_long_as_the_sound_to_the_frame(talker: Talker, face: Face, tmp_path: Path, samples: int) -> None:
    pcm = chirps(2, 24_000)[:, :samples]
    path = write_sound(tmp_path / "a.wav", "pcm_s16le", 24_000, pcm=pcm)
    report = talker.animate(path, face, sampling=QUICK).save(tmp_path / "a.mp4")
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].frames == -(-samples // 960)
    assert report.duration_seconds == round(samples / 24_000, 3)


NO_SOUND = [
    (np.full(960, np.nan, np.float32), "NaN"),
    (np.full(960, np.inf, np.float32), "NaN or inf"),
    (np.zeros(960, np.int16), "int16"),
    (np.zeros((1, 960), np.float32), "mono"),
    (np.float32(0), "mono"),
    (b"bytes", "float32"),
]


@pytest.mark.parametrize(("wrong", "words"), NO_SOUND, ids=lambda value: str(value)[:10])
def test_a_chunk_that_is_no_sound_is_named(talker: Talker, face: Face, wrong, words: str) -> None:
    arriving = [np.zeros(0, np.float32), np.zeros(960), wrong]
    with pytest.raises(UserError, match=f"chunk 2 .*{words}"):
        list(talker.animate_stream(arriving, face, sampling=QUICK))
    with pytest.raises(UserError, match="level"):
        talker.animate_stream([], face, level=float("nan"))


SOUNDS = {
    "a.m4a": ("aac", 44_100),
    "a.mp3": ("libmp3lame", 44_100),
    "a.ogg": ("libopus", 48_000),
    "a.ac3": ("ac3", 48_000),
    "b.m4a": ("alac", 44_100),
    "a.flac": ("flac", 44_100),
}


@pytest.mark.parametrize("name", SOUNDS)
def test_packets_are_copied_where_mp4_takes_them(
    talker: Talker, face: Face, tmp_path: Path, name: str
) -> None:
    path = write_sound(tmp_path / name, *SOUNDS[name], seconds=0.9)
    talker.animate(path, face, sampling=QUICK).save(tmp_path / "out.mp4")

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
def test_other_samples_are_encoded_in_their_place(
    talker: Talker, face: Face, tmp_path: Path, codec: str, rate: int
) -> None:
    path = write_sound(tmp_path / ("a.mp3" if codec == "libmp3lame" else "a.wav"), codec, rate, seconds=0.9)
    talker.animate(path, face, sampling=QUICK).save(tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        audio = container.streams.audio[0]
        assert (audio.codec.canonical_name, audio.rate) == ("aac", min(rate, 48_000))
        assert audio.codec_context.layout.nb_channels == 2
    before, after = sound_of(path), sound_of(tmp_path / "out.mp4")
    clicks = [int(np.argmax(np.abs(pcm) > 0.7)) for pcm in (before, after)]
    assert abs(clicks[0] - clicks[1]) < 24
    assert np.abs(before[:20_000] - after[:20_000]).mean() < 0.01


def test_loudness_changes_the_sound_and_not_the_face(talker: Talker, face: Face, tmp_path: Path) -> None:
    loud = chirps(0.9, 24_000) * 0.5
    made = []
    for scale in (1.0, 0.125):
        path = write_sound(tmp_path / f"{scale}.wav", "pcm_f32le", 24_000, pcm=loud * scale)
        made.append(list(talker.animate(path, face, sampling=QUICK).patches_of(pieces(path))))
    for (loud_pcm, loud_motion), (pcm, motion) in zip(*made, strict=True):
        assert np.allclose(pcm, loud_pcm / 8, atol=1e-4)
        assert torch.allclose(motion["motion"], loud_motion["motion"], atol=1e-3)


def test_a_text_is_shared_out_over_windows(talker: Talker, face: Face, tmp_path: Path) -> None:
    spoken = np.concatenate([chirps(1.5, 24_000)[0], np.zeros(12_000, np.float32)] * 2)[None]
    path = write_sound(tmp_path / "a.wav", "pcm_s16le", 24_000, pcm=spoken)
    text = "Now the sun goes up. Now the sun goes down."
    with_text = talker.animate(path, face, text, sampling=QUICK)
    assert with_text.windows is not None
    first, second = with_text.windows
    assert abs(first.patches * 0.16 - 1.75) < 0.3
    assert first.patches + second.patches == 25
    heard = talker.animate(path, face, transcriber=lambda pcm: text, sampling=QUICK)
    assert heard.windows == with_text.windows
    other = talker.animate(path, face, transcriber=lambda pcm: "こんにちは", sampling=QUICK)
    assert [window.text for window in other.windows or []] == [()]
    assert sum(len(chunk.frames) for chunk in with_text) == 100
    assert with_text.starts == [0, first.patches]


def test_silence_is_a_face_that_waits(
    talker: Talker, face: Face, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_sound(tmp_path / "a.wav", "pcm_s16le", 24_000, pcm=np.zeros((1, 24_000), np.float32))
    with caplog.at_level(logging.WARNING):
        animation = talker.animate(path, face, "Not heard.", sampling=QUICK)
    assert "no speech is heard" in caplog.text
    assert sum(len(chunk.frames) for chunk in animation) == 25


def test_a_gap_in_the_timestamps_is_silence(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.mp3", "libmp3lame", seconds=2.0)
    with av.open(str(path)) as source, av.open(str(tmp_path / "gap.mkv"), "w") as target:
        into = target.add_stream_from_template(source.streams.audio[0])
        for number, packet in enumerate(p for p in source.demux(audio=0) if p.size):
            if not 30 <= number < 50:
                packet.stream = into
                target.mux(packet)
    whole, holed = sound_of(path), sound_of(tmp_path / "gap.mkv")
    assert abs(len(whole) - len(holed)) < 960
    assert np.abs(holed[20_000:28_000]).max() < 1e-6 < np.abs(whole[20_000:28_000]).max()
    assert np.abs(holed[34_000:]).max() > 0.2


def animate(folder: Path, audio: Path, out: Path, *more: str) -> int:
    face = folder / "face.png"
    options = ["--portrait", str(face), "--weights", str(folder), "--steps", "1", "--json", *more]
    return main(["animate", str(audio), "-o", str(out), *options])


@pytest.mark.parametrize(("name", "codec"), [("part.opus", "libopus"), ("part.ts", "aac")])
def test_files_that_were_chained_are_heard_in_a_row(
    talker: Talker, face: Face, tmp_path: Path, name: str, codec: str
) -> None:
    part = write_sound(tmp_path / name, codec, rate=48_000, seconds=1.0)
    chained = tmp_path / f"chained{part.suffix}"
    chained.write_bytes(2 * part.read_bytes())
    report = talker.animate(chained, face, sampling=QUICK).save(tmp_path / "out.mp4")
    assert report.duration_seconds == pytest.approx(2.0, abs=0.1)
    with av.open(str(tmp_path / "out.mp4")) as container:
        for track in container.streams:
            assert float(track.duration * track.time_base) == pytest.approx(report.duration_seconds, abs=0.06)


def test_the_command(folder: Path, tmp_path: Path, capsys) -> None:
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
def test_a_mistake_is_one_line_and_writes_nothing(
    folder: Path, wrong_files: None, tmp_path: Path, capsys, audio: str, more: tuple[str, ...], words: str
) -> None:
    more = tuple(str(folder / part) if part.endswith(".mp4") else part for part in more)
    assert animate(folder, folder / audio, tmp_path / "out.mp4", *more) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert any(word in printed.err for word in words.split("|")), printed.err
    assert list(tmp_path.iterdir()) == []


def test_what_the_container_claims_does_not_matter(talker: Talker, face: Face, tmp_path: Path) -> None:
    """A wav whose header promises an hour, and one that promises a tenth of what follows."""
    good = write_sound(tmp_path / "a.wav", "pcm_s16le", 24_000, pcm=chirps(1.0, 24_000)).read_bytes()
    at = good.index(b"data") + 4
    for claimed in (3600 * 48_000, 4800):
        (tmp_path / "b.wav").write_bytes(good[:at] + claimed.to_bytes(4, "little") + good[at + 4 :])
        animation = talker.animate(tmp_path / "b.wav", face, sampling=QUICK)
        report = animation.save(tmp_path / "b.mp4")
        with av.open(str(tmp_path / "b.mp4")) as container:
            frames = container.streams.video[0].frames
        assert (report.duration_seconds, frames) == ((1.0, 25) if claimed > 48_000 else (0.1, 3))


def test_weights_that_hear_the_whole_clip_refuse_a_stream(talker: Talker, face: Face, monkeypatch) -> None:
    monkeypatch.setattr(type(talker.audio_vae), "encodes_streams", False)
    with pytest.raises(UserError, match="as a whole"):
        next(talker.animate_stream([np.zeros(960, np.float32)], face))
    calls: list[int] = []

    def encode(pcm):
        calls.append(pcm.shape[1])
        return torch.zeros(1, pcm.shape[1] // 960, 8)

    monkeypatch.setattr(talker.audio_vae, "encode", encode)
    blocks = (torch.zeros(3840) for _ in range(10))
    assert sum(len(patch) for patch in encoded(talker, blocks, [7, 3])) == 40
    assert calls == [7 * 3840, 3 * 3840]
