"""A generator that makes a clip as a whole supports every task through the public API."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from media_files import chirps, person, write_sound, write_video
from takes import frames_of, joined, pcm_of, recorded
from tiny_checkpoint import write_checkpoint, write_portrait, write_voice
from toy_generator import FRAMES_PER_WORD, ToyGenerator

from heads.streams import Streams
from talker import Talker
from talker.generation.request import Request
from talker.generation.whole_clip import Made, WholeClipBatch
from talker.stages import Channel
from talker.system import System

SENTENCES = "Go on now. We will see."
FRAMES = 6 * FRAMES_PER_WORD


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    write_checkpoint(folder)
    write_portrait(folder / "face.png")
    write_voice(folder / "voice.wav", 1.0)
    write_sound(folder / "speech.wav", "pcm_s16le", 24_000, pcm=chirps(1.3, 24_000))
    write_video(folder / "video.mp4", [np.roll(person(64), k % 5, axis=0) for k in range(22)])
    return folder


@pytest.fixture(scope="module")
def talker(folder: Path) -> Talker:
    tiny = System.load(folder)
    widths = {"audio": tiny.audio_vae.latent_dim, "motion": tiny.motion_ae.config.motion_dim}
    toy = ToyGenerator(widths, tiny.speaker.config.embedding)
    return Talker(System(toy, tiny.audio_vae, tiny.motion_ae, tiny.speaker))


def duration(path: Path) -> float:
    """Seconds of the longest track."""
    with av.open(str(path)) as container:
        return max(float(stream.duration * stream.time_base) for stream in container.streams)


def test_say_yields_a_chunk_per_patch(talker, voice, portrait, tmp_path: Path) -> None:
    clip = talker.say(SENTENCES, voice, portrait, seed=3)
    take = clip.take()
    chunks = list(take)
    assert [len(chunk.frames) for chunk in chunks] == [4] * (FRAMES // 4)
    assert [len(chunk.pcm) for chunk in chunks] == [3840] * (FRAMES // 4)
    assert (take.patches, take.starts, take.finish_reason) == (FRAMES // 4, [0, FRAMES // 8], "stop")
    assert [word for word, _ in take.words] == SENTENCES.split()
    assert [frame for _, frame in take.words] == list(range(0, FRAMES, FRAMES_PER_WORD))
    streamed = talker.stream(SENTENCES, voice, portrait, seed=3)
    for ours, theirs in zip(joined(chunks), joined(streamed), strict=True):
        assert np.array_equal(ours, theirs)
    report = clip.save(tmp_path / "a.mp4")
    assert report.duration_seconds == FRAMES / 25
    assert duration(tmp_path / "a.mp4") == pytest.approx(FRAMES / 25, abs=0.05)


def test_say_without_a_portrait_yields_sound_alone(talker, voice, tmp_path: Path) -> None:
    clip = talker.say(SENTENCES, voice, audio_only=True)
    assert pcm_of(clip).shape == (FRAMES * 960,)
    assert clip.save(tmp_path / "a.wav").finish_reason == "stop"
    assert duration(tmp_path / "a.wav") == FRAMES / 25


def test_latents_are_unchanged_except_for_motion_at_the_border(talker, voice, portrait) -> None:
    clip = talker.say(SENTENCES, voice, portrait)
    take, requests = recorded(clip)
    made = Streams.cat(list(take.latents()))
    whole = Streams.cat([talker.system.generator.whole(request) for request in requests])
    assert torch.equal(made["audio"], whole["audio"])
    half = FRAMES // 2
    assert torch.equal(made["motion"][:half], whole["motion"][:half])
    assert torch.allclose(made["motion"][half], made["motion"][half - 1])
    assert torch.equal(made["motion"][half + 12 :], whole["motion"][half + 12 :])


def test_windows_without_text_have_four_patches_and_a_prefix_of_up_to_24(
    talker, portrait, tmp_path: Path
) -> None:
    """At a border, motion keeps a step of up to twice the usual size."""
    path = write_sound(tmp_path / "a.wav", "pcm_s16le", 24_000, pcm=chirps(5.5, 24_000))
    take, requests = recorded(talker.animate(path, portrait))
    assert [len(request.given["audio"]) for request in requests] == [16] * 8 + [10]
    assert requests[0].prefix is None
    for number, request in enumerate(requests[1:], start=1):
        assert [len(request.prefix[name]) for name in ("audio", "motion")] == [min(16 * number, 96)] * 2
    motion = Streams.cat(list(take.latents()))["motion"]
    gap = talker.system.generator.whole(requests[1])["motion"][0] - motion[15]
    usual = motion[:16].diff(dim=0).square().mean(0).sqrt()
    step = motion[16] - motion[15]
    assert torch.allclose(step, gap.sign() * torch.minimum(gap.abs(), 2 * usual), atol=1e-5)
    assert step.abs().min() > 0


@pytest.mark.parametrize("text", [None, SENTENCES])
def test_animate_is_as_long_as_the_recording(talker, portrait, folder: Path, tmp_path: Path, text) -> None:
    clip = talker.animate(folder / "speech.wav", portrait, text)
    take = clip.take()
    pcm, frames = joined(take)
    assert (len(pcm), len(frames), take.finish_reason) == (31_200, 33, "stop")
    assert np.array_equal(frames_of(clip), frames)
    assert clip.save(tmp_path / "a.mp4").duration_seconds == 1.3


def test_animate_stream_equals_animate(talker, portrait, folder: Path) -> None:
    clip = talker.animate(folder / "speech.wav", portrait, seed=5)
    sound: Channel[np.ndarray] = Channel(100)
    pcm, frames = joined(clip)
    for block in np.array_split(pcm, 7):
        sound.put(block)
    sound.close()
    streamed = joined(talker.animate_stream(sound, portrait, clip.survey.level, seed=5))
    assert np.array_equal(streamed[0], pcm)
    assert np.array_equal(streamed[1], frames)


def test_dub_is_as_long_as_the_video(talker, voice, folder: Path, tmp_path: Path) -> None:
    clip = talker.dub(folder / "video.mp4", SENTENCES, voice, crop="none")
    take = clip.take()
    assert pcm_of(take).shape == (22 * 960,)
    assert take.finish_reason == "stop"
    assert clip.save(tmp_path / "a.mp4").duration_seconds == 22 / 25
    assert duration(tmp_path / "a.mp4") == pytest.approx(22 / 25, abs=0.05)


def test_takes_of_a_map_equal_the_clips_alone(talker, voice, portrait, folder: Path) -> None:
    clips = [
        talker.say(SENTENCES, voice, portrait, seed=1),
        talker.say("Go.", voice, seed=2, audio_only=True),
        talker.animate(folder / "speech.wav", portrait, seed=3),
        talker.dub(folder / "video.mp4", SENTENCES, voice, crop="none", seed=4),
    ]
    takes = list(talker.map(clips, capacity=2))
    assert [take.clip for take in takes] == clips
    for take, clip in zip(takes, clips, strict=True):
        assert take.error is None
        for ours, theirs in zip(joined(take), joined(clip), strict=True):
            assert np.array_equal(ours, theirs)


def test_the_length_is_that_of_the_request_or_predicted(talker) -> None:
    generator = talker.system.generator
    for frames, length in ((None, 16), (9, 12)):
        made = list(generator.generate(Request(text="Hello there", task="tts", frames=frames)))
        assert [len(streams["audio"]) for streams in made] == [length]


def test_frames_that_are_not_whole_patches_are_refused(talker, voice) -> None:
    class Uneven(ToyGenerator):
        def whole(self, request: Request) -> Streams:
            return super().whole(request).map(lambda x: x[:-1])

    system = talker.system
    uneven = Uneven(system.generator.widths, system.generator.speaker_dim)
    broken = Talker(System(uneven, system.audio_vae, system.motion_ae, system.speaker))
    with pytest.raises(ValueError, match="7 frames of audio: pad them to whole patches of 4 frames"):
        list(broken.say("Go.", voice, audio_only=True))


def test_a_batch_of_whole_clips_leaves_paused_requests_waiting() -> None:
    sizes: list[int] = []

    def make(requests: list[Request]) -> list[Made]:
        sizes.append(len(requests))
        return [(Streams(audio=torch.full((8, 1), float(r.seed))), [(r.text, 0)]) for r in requests]

    batch = WholeClipBatch(make, 3)
    given = Streams(audio=torch.zeros(8, 1))
    rows = [
        batch.join(batch.prepare(Request(text=str(k), task="tts", seed=k, given=given if k == 1 else None)))
        for k in range(3)
    ]
    with pytest.raises(ValueError, match="no row is free"):
        batch.join(batch.prepare(Request(text="", task="tts")))
    rows[0].paused = True
    batch.step()
    assert (sizes, batch.free) == ([2], 2)
    assert [row.finish_reason for row in rows] == [None, "length", "stop"]
    assert rows[2].words == [("2", 0)]
    assert torch.equal(rows[2].tail(4)["audio"], rows[2].patches[0]["audio"][-4:])
    batch.leave(rows[2])
    batch.leave(rows[0])
    assert [row.finish_reason for row in rows] == ["interrupted", "length", "stop"]
    assert batch.free == 3
