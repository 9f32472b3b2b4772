"""Many clips in one batch, and voices that are gone on from."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from media_files import person, write_video
from tiny_checkpoint import write_checkpoint, write_portrait, write_voice

from heads.solver import SAMPLINGS, Sampling
from heads.streams import Streams
from talker import UserError
from talker.cli import main
from talker.clips.clip import Clip
from talker.clips.cloning import behind
from talker.generation.request import STOP_RULES

QUICK = Sampling(steps=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_checkpoint(folder)
    write_portrait(folder / "face.png")
    write_voice(folder / "voice.wav", 1.0)
    write_video(folder / "video.mp4", [np.roll(person(96), k % 5, axis=0) for k in range(20)])
    return folder


def heard(clip: Clip) -> np.ndarray:
    return np.concatenate([chunk.pcm for chunk in clip])


def seen(clip: Clip) -> np.ndarray:
    return np.concatenate([chunk.frames for chunk in clip])


# -- many at once --------------------------------------------------------------------------------------------


@pytest.mark.long
def test_clips_of_every_task_in_one_batch(talker, voice, face, folder, tmp_path, monkeypatch) -> None:
    """In order, to the bit what each is in a batch of that capacity alone, and saved without the model."""

    def clips() -> list[Clip]:
        video = folder / "video.mp4"
        return [
            talker.say("Hi. Go on.", voice, face, seed=1, sampling=QUICK),
            talker.say("Go.", voice, face, seed=2, sampling=QUICK, audio_only=True),
            talker.animate(folder / "voice.wav", face, seed=3, sampling=QUICK),
            talker.dub(video, "Go.", voice, crop="none", seed=4, sampling=QUICK),
            talker.say("Oh.", voice, face, seed=5, sampling=Sampling(steps=2)),
            talker.say("Hi.", voice, face, seed=6, sampling=QUICK),
        ]

    alone = [next(iter(talker.map([clip], capacity=4))) for clip in clips()]
    mapped = clips()
    together = list(talker.map(iter(mapped), capacity=4))
    assert [id(clip) for clip in together] == [id(clip) for clip in mapped]
    for name in ("step", "prefill"):
        monkeypatch.setattr(talker.model.backbone, name, None)
    for number, (ours, theirs) in enumerate(zip(together, alone, strict=True)):
        assert np.array_equal(heard(ours), heard(theirs))
        if number in (0, 2):
            assert np.array_equal(seen(ours), seen(theirs))
        assert (ours.patches, ours.finish_reason) == (theirs.patches, theirs.finish_reason)
        assert ours.patches > 0
    report = together[0].save(tmp_path / "a.mp4")
    assert report.patches == together[0].patches
    assert report.finish_reason == "length"


def test_one_that_cannot_be_made_has_its_own_error(talker, voice, face, folder, tmp_path) -> None:
    """Whatever goes wrong, and when: it leaves its row, its neighbours and those behind it go on."""
    lost = folder / "lost.wav"
    lost.write_bytes((folder / "voice.wav").read_bytes())

    def clips() -> Iterator[Clip]:
        yield talker.say("Hi.", voice, face, seed=1, sampling=QUICK)
        yield talker.animate(lost, face, sampling=QUICK)
        lost.unlink()
        broken = talker.say("Go.", voice, face, sampling=QUICK)
        broken.make = lambda: breaking(broken)
        yield broken
        yield talker.say("Hi. " * 3, replace(voice, prefix=torch.zeros(600, 4, 8)), face, sampling=QUICK)
        for seed in range(5):
            yield talker.say("Hi.", voice, face, seed=seed, sampling=QUICK)

    def breaking(clip: Clip) -> Iterator[Streams]:
        patches = type(clip).make(clip)
        yield from itertools.islice(patches, 2)
        raise OSError("gone")

    good, *others = talker.map(clips(), capacity=4)
    bad, later = others[:3], others[3:]
    assert [type(clip.error) for clip in bad] == [UserError, OSError, ValueError]
    assert {clip.finish_reason for clip in bad} == {"interrupted"}
    for clip in bad:
        with pytest.raises(type(clip.error)):
            clip.save(tmp_path / "bad.mp4")
    assert list(tmp_path.iterdir()) == []
    assert [clip.error for clip in (good, *later)] == [None] * 6
    assert np.array_equal(heard(good), heard(later[1]))


def test_a_map_that_is_left_stops_at_once(talker, voice, face) -> None:
    """It does not make the others to their end, and leaves them as they were."""
    long = [talker.say("So. " * 40, voice, face, seed=k, sampling=QUICK, audio_only=True) for k in range(3)]
    several = talker.map([talker.say("Go.", voice, face, sampling=QUICK, audio_only=True), *long], 4)
    next(several)
    several.close()
    assert all(clip.batch is None and clip.kept is None and clip.error is None for clip in long)
    assert max(clip.patches for clip in long) < talker.say("So. " * 40, voice, face).most_patches / 2


def test_a_batch_of_one_is_what_a_clip_is_by_itself(talker, voice, face) -> None:
    mapped = next(iter(talker.map([talker.say("Hi.", voice, face, sampling=QUICK)], capacity=1)))
    assert np.array_equal(heard(mapped), heard(talker.say("Hi.", voice, face, sampling=QUICK)))


def test_what_is_left_before_its_end_says_so(talker, voice, face) -> None:
    clip = talker.say("Hi.", voice, face, sampling=QUICK)
    latents = clip.latents()
    next(latents)
    latents.close()
    assert clip.finish_reason == "interrupted"


def test_silence_is_what_the_codec_makes_of_it(talker) -> None:
    with torch.inference_mode():
        silence = talker.audio_vae.encode(torch.zeros(1, 24_000))
        quiet = talker.model.stats.normalise(Streams(audio=silence[0, 12])).audio
    assert torch.equal(talker.guard.quiet, quiet)


# -- voices --------------------------------------------------------------------------------------------------


def test_the_next_sentence_of_a_recording(talker, voice, face, folder, monkeypatch) -> None:
    """Before each sentence come the recording and its words, then what is carried; the clip holds neither."""
    cloned = talker.voice(folder / "voice.wav", text="So.")
    assert cloned.said == tuple(talker.tokenizer.encode("So."))
    assert cloned.prefix.shape == (6, 4, talker.model.config.widths["audio"])  # 0.96 of 1.0 s
    assert torch.equal(cloned.embedding, voice.embedding)
    requests = []
    generated = Clip.generated
    monkeypatch.setattr(Clip, "generated", lambda self, r: requests.append(r) or generated(self, r))
    clip = talker.say("Hi. Go.", cloned, face, sampling=QUICK)
    pcm = heard(clip)
    first, second = requests
    assert first.text_ids == [*cloned.said, *talker.tokenizer.encode("Hi.")]
    assert second.text_ids == [*cloned.said, *talker.tokenizer.encode("Go.")]
    assert torch.equal(first.prefix["audio"], cloned.prefix)
    assert torch.equal(second.prefix["audio"][:6], cloned.prefix)
    assert "motion" not in first.prefix
    assert [len(second.prefix[name]) for name in ("audio", "motion")] == [7, 1]
    assert len(pcm) == clip.patches * 3840 == (first.max_patches + second.max_patches) * 3840


def test_going_on_from_the_first_seconds_of_a_recording(talker, face, folder, monkeypatch) -> None:
    begun = talker.voice(folder / "voice.wav", prefix_seconds=0.5)
    assert begun.said == ()
    assert begun.prefix_patches == 3  # whole patches of 0.16 s
    requests = []
    generated = Clip.generated
    monkeypatch.setattr(Clip, "generated", lambda self, r: requests.append(r) or generated(self, r))
    clip = talker.say("Hi. Go.", begun, face, sampling=QUICK)
    assert len(heard(clip)) == clip.patches * 3840
    assert requests[0].text_ids == talker.tokenizer.encode("Hi.")
    assert [len(request.prefix["audio"]) for request in requests] == [3, 1]


def test_a_cloned_voice_is_a_voice_alone_too(talker, folder) -> None:
    cloned = talker.voice(folder / "voice.wav", text="So.")
    assert len(heard(talker.say("Hi. Go.", cloned, sampling=QUICK, audio_only=True))) > 0


def test_a_prefix_and_what_is_carried() -> None:
    prefix = torch.zeros(2, 4, 8)
    patch = Streams(audio=torch.ones(4, 8), motion=torch.ones(4, 6))
    assert behind(None, []) is None
    assert behind(prefix, []).motion is None
    both = behind(prefix, [patch])
    assert both["audio"][:, 0, 0].tolist() == [0, 0, 1]
    assert both["motion"].shape == (1, 4, 6)


def test_what_cannot_be_gone_on_from(talker, folder, tmp_path) -> None:
    recording = folder / "voice.wav"
    with pytest.raises(UserError, match="not both"):
        talker.voice(recording, text="So.", prefix_seconds=0.5)
    with pytest.raises(UserError, match=r"at least 0\.16 s"):
        talker.voice(recording, prefix_seconds=0.1)
    for nonsense in (-3.0, float("nan")):
        with pytest.raises(UserError, match="at least"):
            talker.voice(recording, prefix_seconds=nonsense)
    assert talker.voice(recording, prefix_seconds=float("inf")).prefix_patches == 6
    with pytest.raises(UserError, match="10 s or less"):
        talker.voice(write_voice(tmp_path / "long.wav", 11.0), text="So.")
    with pytest.raises(UserError, match="cannot be spoken"):
        talker.voice(recording, text="あ")


# -- by name -------------------------------------------------------------------------------------------------


def test_presets_and_rules_have_names(talker, folder, tmp_path, monkeypatch, capsys) -> None:
    seen_requests = []
    generated = Clip.generated
    monkeypatch.setattr(Clip, "generated", lambda self, r: seen_requests.append(r) or generated(self, r))
    paths = ["--portrait", str(folder / "face.png"), "--voice", str(folder / "voice.wav")]
    end = [*paths, "--weights", str(folder), "-o", str(tmp_path / "a.mp4")]
    named = [
        "--preset",
        "release",
        "--steps",
        "1",
        "--sway",
        "0.5",
        "--stop",
        "release",
        "--voice-text",
        "So.",
    ]
    assert main(["say", "Hi.", *named, *end]) == 0
    assert seen_requests[0].sampling == Sampling(steps=1, sway=0.5, temperature=0.3)
    assert seen_requests[0].stop == STOP_RULES["release"]
    assert seen_requests[0].prefix is not None
    assert SAMPLINGS["paper"] == Sampling.paper()
    assert main(["say", "Hi.", "--voice-text", "word " * 300, *end]) == 2
    assert "too long a text" in capsys.readouterr().err
    assert main(["say", "Hi.", "--sway", "2", *end]) == 2
    assert "--sway must be between" in capsys.readouterr().err
