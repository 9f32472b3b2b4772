"""The corpus reader of the talker's recipe: every clip keeps its own sound, motion, text and times."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from prepared_data import tiny_codecs, usual

from audio_vae.config import AudioVAEConfig
from audio_vae.model import AudioVAE
from puppet.corpus import BenchCorpus, Clip, bench
from puppet.speech import PAUSE
from recipes.data import latents as stages
from recipes.data.clips import LEAST_STD, PATCH_FRAMES, Clips
from recipes.data.latents import Latents, cache_folder, embed_clips, encode_clips, latents, speak_clips
from recipes.data.prepared import Prepared
from recipes.data.reading import DECAY_SECONDS
from talker.checkpoint import load_component
from talker.clock import FRAME_RATE, HOP
from talker.speaker.encoder import SpeakerEncoder, SpeakerEncoderConfig
from talker.text.tokenizer import PhonemeTokenizer

pytest.importorskip("espeakng_loader", reason="corpus speech needs the extra 'data'")

COUNT, IDLE = 3, 1  # the first clips of the training split; clip 1 is idle
INT16_STEP = 1 / 32767


@pytest.fixture(scope="module")
def corpus() -> list[Clip]:
    return [bench("train").clip(index) for index in range(COUNT)]


@pytest.fixture(scope="module")
def codecs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_codecs(tmp_path_factory.mktemp("codecs"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def clips(runs: Path, codecs: Path) -> Latents:
    return latents(runs, "train", COUNT, codecs, bank=None)


class RecordingCodec:
    """Stands for the audio autoencoder and the speaker encoder; keeps the sounds that it receives."""

    def __init__(self) -> None:
        self.sounds: list[torch.Tensor] = []

    def encode(self, pcm: torch.Tensor) -> torch.Tensor:
        self.sounds.append(pcm[0])
        return torch.zeros(1, pcm.shape[1] // HOP, 1)

    def embed(self, pcm: torch.Tensor) -> torch.Tensor:
        self.sounds.append(pcm[0])
        return torch.zeros(1, 4)


@pytest.mark.parametrize("encoder", [encode_clips, embed_clips])
def test_networks_receive_the_samples_of_each_clip(
    encoder, clips: Latents, runs: Path, corpus: list[Clip]
) -> None:
    codec = RecordingCodec()
    encoder(speak_clips(runs / "clips", "train", range(COUNT), bank=None), codec)
    assert [len(sound) for sound in codec.sounds] == [len(clip.pcm) for clip in corpus]
    for sound, clip in zip(codec.sounds, corpus, strict=True):
        # The int16 round trip moves a sample by half a step at most, so no scale or offset is wrong.
        assert np.abs(sound.numpy() - clip.pcm).max() <= 0.501 * INT16_STEP


def test_int16_full_scale_is_one() -> None:
    codec, pcm = RecordingCodec(), np.resize(np.array([32767, -32767, 0], np.int16), HOP)
    embed_clips({"frames": np.array([1]), "pcm": pcm}, codec)
    assert codec.sounds[0].unique().tolist() == [-1.0, 0.0, 1.0]


def test_latents_are_those_of_each_clip(clips: Latents, corpus: list[Clip], codecs: Path) -> None:
    vae = load_component(AudioVAE, AudioVAEConfig, codecs / "audio_vae")
    speaker = load_component(SpeakerEncoder, SpeakerEncoderConfig, codecs / "speaker")
    assert len(clips) == COUNT
    assert clips.frames.tolist() == [len(clip.motion) for clip in corpus]
    assert clips.voice.tolist() == [clip.voice.seed for clip in corpus]
    for index, clip in enumerate(corpus):
        pcm = torch.from_numpy(clip.pcm)[None]
        with torch.no_grad():
            audio, embedding = vae.encode(pcm)[0], speaker.embed(pcm)[0]
        assert torch.equal(clips.of("motion", index), torch.from_numpy(clip.motion).half().float())
        assert clips.of("audio", index).shape == audio.shape
        if index != IDLE:  # the level of digital silence depends on int16 rounding
            torch.testing.assert_close(clips.of("audio", index), audio, atol=0.05, rtol=0.02)
            torch.testing.assert_close(clips.embedding(index), embedding, atol=0.02, rtol=0.02)


def test_text_is_complete(clips: Latents, corpus: list[Clip]) -> None:
    tokenizer = PhonemeTokenizer()
    for index, clip in enumerate(corpus):
        assert clips.ids(index) == (tokenizer.encode(clip.text) if clip.text else [])
    assert clips.ids(IDLE) == []
    assert len(clips.ids(0)) > 5


def test_tokens_are_read_from_the_first_sound_to_the_last(clips: Latents, corpus: list[Clip]) -> None:
    for index, clip in enumerate(corpus):
        read, patches = clips.tokens_read(index).numpy(), len(clip.motion) // PATCH_FRAMES
        assert read.shape == (patches,)
        if index == IDLE:
            assert not read.any()
            continue
        sounds = [one for one in clip.phonemes if one.symbol != PAUSE]
        ends = (np.arange(patches) + 1) * PATCH_FRAMES / FRAME_RATE
        assert ((read > 0) == (ends > sounds[0].start)).all()
        assert ((read == len(clips.ids(index))) == (ends >= sounds[-1].end + DECAY_SECONDS)).all()
        assert (np.diff(read) >= 0).all()


def test_second_call_computes_nothing(
    clips: Latents, runs: Path, codecs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BenchCorpus, "clip", lambda *_: pytest.fail("a stored clip is synthesised again"))
    monkeypatch.setattr(AudioVAE, "encode", lambda *_: pytest.fail("a stored clip is encoded again"))
    assert latents(runs, "train", COUNT, codecs, bank=None).fingerprint == clips.fingerprint


def test_statistics_are_per_channel_and_bounded_below() -> None:
    rng = np.random.default_rng(0)
    audio = rng.normal(3, 2, (4000, 2)).astype(np.float16)
    audio[:, 1] = 1.5  # a channel that does not vary
    motion = np.array([[1.0], [3.0]] * 2000, np.float16)
    mean, std = replace(flat(), audio=audio, motion=motion).statistics()
    assert mean["audio"].tolist() == pytest.approx([3, 1.5], abs=0.1)
    assert std["audio"].tolist() == pytest.approx([2, LEAST_STD], abs=0.1)
    assert std["audio"][1] == pytest.approx(LEAST_STD)
    assert mean["motion"].item() == 2
    assert std["motion"].item() == pytest.approx(1, abs=1e-3)


def flat() -> Latents:
    """Two clips of one and two patches with two and three tokens; every value names its place."""
    return Latents(
        audio=np.arange(12, dtype=np.float16)[:, None],
        motion=-np.arange(12, dtype=np.float16)[:, None],
        text=np.array([1, 2, 3, 4, 5], np.int16),
        read=np.array([2, 1.5, 3], np.float16),
        voice=np.array([7, 8], np.int32),
        speaker=np.array([[0.5], [0.25]], np.float16),
        frame_starts=np.array([0, 4, 12]),
        text_starts=np.array([0, 2, 5]),
    )


def test_flat_arrays_are_cut_between_clips() -> None:
    clips = flat()
    assert clips.frames.tolist() == [4, 8]
    assert [clips.ids(clip) for clip in (0, 1)] == [[1, 2], [3, 4, 5]]
    assert [clips.tokens_read(clip).tolist() for clip in (0, 1)] == [[2.0], [1.5, 3.0]]
    assert [clips.embedding(clip).tolist() for clip in (0, 1)] == [[0.5], [0.25]]
    assert clips.of("audio", 1)[:, 0].tolist() == list(range(4, 12))
    assert clips.of("motion", 0)[:, 0].tolist() == [0, -1, -2, -3]
    assert clips.fingerprint != replace(clips, text=clips.text + 1).fingerprint


def test_corpus_files_hold_200_clips() -> None:
    clips = replace(flat(), voice=np.zeros(401, np.int32))
    assert np.unique(clips.shard, return_counts=True)[1].tolist() == [200, 200, 1]


def test_results_of_other_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"first")
    folder = cache_folder(tmp_path, tmp_path / "latents")
    assert cache_folder(tmp_path, folder) == folder
    (tmp_path / "model.safetensors").write_bytes(b"second")
    with pytest.raises(ValueError, match=r"made by other weights .* remove the folder"):
        cache_folder(tmp_path, folder)


@pytest.mark.parametrize("reader", ["corpus", "prepared"])
def test_both_readers_implement_clips(reader: str, clips: Latents, tmp_path: Path) -> None:
    held: Clips = clips if reader == "corpus" else Prepared(usual(tmp_path, videos=3), "train")
    assert isinstance(held, Clips)
    assert len(held) == len(held.frames) == len(held.shard) == len(held.voice)
    mean, std = held.statistics()
    for clip, frames in enumerate(held.frames):
        for stream, width in held.widths.items():
            latent = held.of(stream, clip)
            assert latent.shape == (frames, width)
            assert latent.dtype == torch.float32
        read = held.tokens_read(clip)
        assert read is None or read.shape == (-(-frames // PATCH_FRAMES),)
        assert held.embedding(clip).shape == held.embedding(0).shape
    assert {name: len(value) for name, value in mean.items()} == held.widths
    assert all((value >= LEAST_STD).all() for _, value in std.items())
    assert len(held.fingerprint) == 16


@pytest.mark.parametrize("until", ["speech", "latents", "speakers"])
def test_command_ends_after_the_named_stage(monkeypatch: pytest.MonkeyPatch, until: str) -> None:
    done: list[tuple] = []
    for name in ("speak_clips", "encode", "embed"):
        made = lambda *given, name=name, **more: done.append((name, *given, *more.values()))  # noqa: E731
        monkeypatch.setattr(stages, name, made)
    for option, bank in (("--bench", None), ("--speech=mine", Path("mine"))):
        arguments = ["--runs", "here", "--split", "heldout", "--clips", "450", "--until", until, option]
        monkeypatch.setattr(sys, "argv", ["latents", *arguments])
        done.clear()
        stages.main()
        if until == "speech":
            numbers = [range(0, 200), range(200, 400), range(400, 450)]
            assert done == [("speak_clips", Path("here/clips"), "heldout", part, bank) for part in numbers]
        else:
            names = ("encode", "embed")[: 1 if until == "latents" else 2]
            assert done == [(name, Path("here"), "heldout", 450, bank) for name in names]
