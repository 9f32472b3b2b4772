"""The pipeline's laws: streamed equals offline to the bit, timing changes nothing, no thread stays behind."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_checkpoint import write_checkpoint, write_portrait, write_voice

from heads.solver import Sampling
from talker import Talker, UserError
from talker.media.audio import read_audio
from talker.media.video import read_frames
from talker.pipeline import Chunk, part_seed
from talker.stages import Stages

TEXT = "Go. We will."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_checkpoint(folder)
    write_portrait(folder / "face.png")
    write_voice(folder / "voice.wav")
    return folder


QUICK = Sampling(steps=1)


def joined(chunks: list[Chunk]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([c.pcm for c in chunks]), np.concatenate([c.frames for c in chunks])


def test_streamed_is_offline_to_the_bit(talker, voice, face) -> None:
    utterance = talker.say(TEXT, voice, face, seed=3, sampling=QUICK)
    whole = list(utterance)
    streamed = []
    for chunk in talker.stream(TEXT, voice, face, seed=3, sampling=QUICK):
        time.sleep(0.002 * (len(streamed) % 3))
        streamed.append(chunk)
    for a, b in zip(joined(whole), joined(streamed), strict=True):
        assert np.array_equal(a, b)
    assert len(whole) == utterance.patches == utterance.most_patches
    assert [c.start_seconds for c in whole] == [k * 4 / 25 for k in range(len(whole))]
    assert all(c.pcm.shape == (3840,) and c.frames.shape == (4, 32, 32, 3) for c in whole)
    assert np.isfinite(joined(whole)[0]).all()


@torch.inference_mode()
def test_chunks_are_the_codecs_of_the_latents(talker, voice, face) -> None:
    utterance = talker.say("Hi.", voice, face, sampling=QUICK)
    pcm, frames = joined(list(utterance))
    latents = list(utterance.latents())
    whole = talker.audio_vae.decode(torch.cat([p["audio"] for p in latents])[None])[0]
    assert np.allclose(pcm, whole.clamp(-1, 1).numpy(), atol=1e-4)
    render = talker.motion_ae.decode(torch.cat([p["motion"] for p in latents]), face.portrait)
    expected = (render.permute(0, 2, 3, 1) + 1) * 127.5
    assert np.abs(frames - expected.numpy()).max() <= 0.51


def test_seeds_and_their_sentences_differ(talker, voice, face) -> None:
    text = "Go. Go."
    one, again, other = (
        list(talker.say(text, voice, face, seed=s, sampling=QUICK).latents()) for s in (1, 1, 2)
    )
    half = len(one) // 2
    assert all(torch.equal(a["audio"], b["audio"]) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one[0]["audio"], other[0]["audio"])
    assert not torch.equal(one[0]["audio"], one[half]["audio"])
    assert len({part_seed(s, k) for s in range(20) for k in range(20)}) == 400


def test_the_stop_predictor_ends_a_sentence(tmp_path: Path, talker, voice, face) -> None:
    eager = Talker.from_pretrained(write_checkpoint(tmp_path, stops=True))
    utterance = eager.say(TEXT, voice, face, sampling=QUICK)
    assert len(list(utterance.latents())) == 2
    assert utterance.finish_reason == "stop"
    cut = talker.say("Hello.", voice, face, sampling=QUICK)
    list(cut.latents())
    assert cut.finish_reason == "length"


def test_a_long_text_is_a_page_of_sentences_each_within_the_model(talker, voice, face) -> None:
    utterance = talker.say(
        "The quick brown fox jumps over the lazy dog, again and again. " * 100, voice, face
    )
    assert len(utterance.sentences) == 100
    word = talker.say("antidisestablishmentarianism" * 100, voice, face)
    limit = talker.model.config.backbone.max_positions
    for ids in utterance.sentences + word.sentences:
        assert len(ids) + talker.most_patches(ids) < limit


def test_saving_is_what_streaming_gives(tmp_path: Path, talker, voice, face) -> None:
    utterance = talker.say("Hi.", voice, face, seed=5, sampling=QUICK)
    seen: list[Chunk] = []
    report = utterance.save(tmp_path / "out.mp4", progress=seen.append)
    pcm, frames = joined(seen)
    read = np.stack(list(read_frames(tmp_path / "out.mp4")))
    assert read.shape == frames.shape
    assert np.abs(read.astype(int) - frames).mean() < 6
    assert abs(len(read_audio(tmp_path / "out.mp4")) - len(pcm)) < 1024
    assert report.duration_seconds == len(frames) / 25
    assert (report.patches, report.seed, report.finish_reason) == (len(seen), 5, "length")
    assert 0 < report.first_chunk_seconds <= report.rtf * report.duration_seconds
    again = utterance.save(tmp_path / "again.mp4")
    assert (tmp_path / "again.mp4").read_bytes() == (tmp_path / "out.mp4").read_bytes()
    assert again.patches == report.patches


def test_text_that_cannot_be_spoken_is_refused(talker, voice, face) -> None:
    for text in ("", "  \n ", "...", "Привет, мир", "你好"):
        with pytest.raises(UserError) as caught:
            talker.say(text, voice, face)
        assert "\n" not in str(caught.value)


def test_missing_weights_and_names_say_what_to_do(tmp_path: Path, talker) -> None:
    with pytest.raises(UserError, match="missing"):
        Talker.from_pretrained(tmp_path)
    with pytest.raises(UserError, match="neither a file nor"):
        talker.voice("nobody")


def test_a_stream_that_nobody_finishes_leaves_no_thread(talker, voice, face) -> None:
    before = threading.active_count()
    stream = talker.stream(TEXT, voice, face, sampling=QUICK)
    list(itertools.islice(stream, 2))
    assert threading.active_count() > before
    stream.close()
    assert threading.active_count() == before


def test_memory_stays_bounded_by_the_queues(talker, voice, face) -> None:
    made = 0
    original = talker.rendered

    def counted(patches, face):
        nonlocal made
        for frames in original(patches, face):
            made += 1
            yield frames

    talker.rendered = counted
    try:
        stream = talker.stream(TEXT, voice, face, sampling=QUICK)
        next(stream)
        time.sleep(0.5)
        assert made < 20
        stream.close()
    finally:
        del talker.rendered


@pytest.mark.parametrize("broken", ["first", "second", "last"])
def test_an_error_in_any_stage_reaches_the_caller_at_once(broken: str) -> None:
    def work(stage: str, items: Iterable[int]) -> Iterator[int]:
        for k in items:
            if stage == broken and k == 5:
                raise RuntimeError(stage)
            yield k

    def run() -> None:
        with Stages() as stages:
            left, right, out = (stages.channel(2) for _ in range(3))
            stages.feed(lambda: work("first", range(1000)), left, right)
            stages.feed(lambda: work("second", left), out)
            for _ in zip(work("last", right), out, strict=True):
                pass

    before = threading.active_count()
    with pytest.raises(RuntimeError, match=broken):
        run()
    assert threading.active_count() == before


@pytest.mark.long
def test_sessions_side_by_side_are_as_if_alone(talker, voice, face) -> None:
    texts = ("Go.", "We will.")
    alone = [joined(list(talker.stream(text, voice, face, sampling=QUICK))) for text in texts]
    streams = [talker.stream(text, voice, face, sampling=QUICK) for text in texts]
    beside: list[list[Chunk]] = [[], []]
    for pair in itertools.zip_longest(*streams):
        for chunks, chunk in zip(beside, pair, strict=True):
            chunks.extend([chunk] if chunk is not None else [])
    for (pcm, frames), chunks in zip(alone, beside, strict=True):
        assert np.array_equal(joined(chunks)[0], pcm)
        assert np.array_equal(joined(chunks)[1], frames)
