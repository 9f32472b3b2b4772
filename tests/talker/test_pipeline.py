"""The pipeline: streamed and saved results are identical, takes report their state, and all threads end."""

from __future__ import annotations

import base64
import dataclasses
import io
import itertools
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import av
import numpy as np
import pytest
import torch
from takes import QUICK, joined
from tiny_checkpoint import write_checkpoint, write_portrait, write_voice

from heads.sampling import Sampling
from heads.streams import Streams
from talker import Talker, UserError, pipeline
from talker.checkpoint import load_component
from talker.clips.animate import LiveAnimation
from talker.clips.clip import QUEUED_PATCHES, Chunk, Piece, Take
from talker.clips.continuation import part_seed
from talker.clips.say import Utterance
from talker.generation.autoregressive import AutoregressiveGenerator
from talker.media.pixels import to_uint8
from talker.media.readers import read_audio, read_frames
from talker.model.config import TalkerConfig
from talker.model.model import TalkerModel
from talker.stages import Cancelled, Channel
from talker.system import System
from talker.text.tokenizer import PhonemeTokenizer

TEXT = "Go. We will."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_checkpoint(folder)
    write_portrait(folder / "face.png")
    write_voice(folder / "voice.wav")
    return folder


# -- results -------------------------------------------------------------------------------------------------


def test_streaming_and_iterating_give_identical_chunks(talker, voice, portrait) -> None:
    clip = talker.say(TEXT, voice, portrait, seed=3, sampling=QUICK)
    take = clip.take()
    whole = list(take)
    streamed = []
    for chunk in talker.stream(TEXT, voice, portrait, seed=3, sampling=QUICK):
        time.sleep(0.002 * (len(streamed) % 3))
        streamed.append(chunk)
    for ours, theirs in zip(joined(whole), joined(streamed), strict=True):
        assert np.array_equal(ours, theirs)
    assert 4 * len(whole) == 4 * take.patches == sum(map(clip.longest, clip.sentences))
    assert take.starts == [0, clip.longest(clip.sentences[0]) // 4]
    assert [chunk.start_seconds for chunk in whole] == [k * 4 / 25 for k in range(len(whole))]
    assert all(c.pcm.shape == (3840,) and c.frames.shape == (4, 32, 32, 3) for c in whole)
    assert np.isfinite(joined(whole)[0]).all()


@torch.inference_mode()
def test_chunks_are_the_decoded_and_rendered_latents(talker, voice, portrait) -> None:
    clip = talker.say("Hi.", voice, portrait, sampling=QUICK)
    pcm, frames = joined(clip)
    latents = Streams.cat(list(clip.take().latents()))
    whole = talker.system.audio_vae.decode(latents["audio"][None])[0]
    assert np.allclose(pcm, whole.clamp(-1, 1).numpy(), atol=1e-4)
    rendered = to_uint8(talker.system.motion_ae.decode(latents["motion"], portrait.source))
    assert np.abs(frames - rendered.permute(0, 2, 3, 1).numpy().astype(int)).max() <= 1


def test_different_seeds_and_sentences_have_different_noise(talker, voice, portrait) -> None:
    one, again, other = (
        list(talker.say("Go. Go.", voice, portrait, seed=seed, sampling=QUICK).take().latents())
        for seed in (1, 1, 2)
    )
    half = len(one) // 2
    assert all(torch.equal(a["audio"], b["audio"]) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one[0]["audio"], other[0]["audio"])
    assert not torch.equal(one[0]["audio"], one[half]["audio"])
    assert len({part_seed(seed, index) for seed in range(20) for index in range(20)}) == 400


def test_the_finish_reason_says_whether_the_stop_predictor_ended_it(
    tmp_path: Path, talker, voice, portrait
) -> None:
    stopping = Talker.from_pretrained(write_checkpoint(tmp_path, stops=True))
    take = stopping.say(TEXT, voice, portrait, sampling=QUICK).take()
    assert len(list(take.latents())) == 2
    assert take.finish_reason == "stop"
    cut = talker.say("Hello.", voice, portrait, sampling=QUICK).take()
    list(cut.latents())
    assert cut.finish_reason == "length"


def test_every_sentence_of_a_long_text_fits_the_model(talker, voice, portrait) -> None:
    page = talker.say("The quick brown fox jumps over the lazy dog, again and again. " * 100, voice, portrait)
    assert len(page.sentences) == 100
    word = talker.say("antidisestablishmentarianism" * 100, voice, portrait)
    system = talker.system
    limit = system.generator.model.config.backbone.max_positions
    for sentence in {*page.sentences, *word.sentences}:
        patches = page.longest(sentence) // system.patch_frames
        assert patches > 0
        assert len(system.generator.tokenizer.encode(sentence)) + patches < limit


def test_saving_writes_what_iterating_yields(tmp_path: Path, talker, voice, portrait) -> None:
    clip = talker.say("Hi.", voice, portrait, seed=5, sampling=QUICK)
    seen: list[Chunk] = []
    called, times = time.perf_counter(), list[float]()

    def progress(chunk: Chunk) -> None:
        seen.append(chunk)
        times.append(time.perf_counter() - called)

    report = clip.save(tmp_path / "out.mp4", progress)
    pcm, frames = joined(seen)
    read = np.stack(list(read_frames(tmp_path / "out.mp4")))
    assert read.shape == frames.shape
    assert np.abs(read.astype(int) - frames).mean() < 6
    assert abs(len(read_audio(tmp_path / "out.mp4")) - len(pcm)) < 1024
    assert report.duration_seconds == len(frames) / 25
    assert (report.patches, report.seed, report.finish_reason) == (len(seen), 5, "length")
    assert 0 < report.first_chunk_seconds < times[0] + 1e-4 < times[1] < report.rtf * report.duration_seconds


def test_saving_a_clip_twice_writes_the_same_bytes(
    tmp_path: Path, talker, voice, portrait, reproducible_x264: None
) -> None:
    clip = talker.say("Hi.", voice, portrait, seed=5, sampling=QUICK)
    reports = [clip.save(tmp_path / name) for name in ("one.mp4", "two.mp4")]
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()
    assert reports[0].patches == reports[1].patches


# -- takes ---------------------------------------------------------------------------------------------------


def test_iterating_over_a_take_again_repeats_it(talker, voice, portrait, folder: Path) -> None:
    take = speaking(talker, folder, 2.0).say("Go. Go.", voice, portrait, sampling=QUICK).take()
    first = joined(take)
    report = (take.patches, list(take.starts), list(take.words), take.finish_reason)
    assert take.patches == len(first[0]) // 3840
    again = joined(take)
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(first, again, strict=True))
    assert (take.patches, take.starts, take.words, take.finish_reason) == report


def test_a_take_that_was_not_finished_is_interrupted(talker, voice, portrait) -> None:
    take = talker.say(TEXT, voice, portrait, sampling=QUICK).take()
    assert take.finish_reason == "interrupted"
    latents = take.latents()
    next(latents)
    latents.close()
    assert (take.finish_reason, take.patches) == ("interrupted", 1)


class WordTokenizer(PhonemeTokenizer):
    """A tokenizer that returns the first token of every word."""

    def words(self, text: str) -> list[tuple[str, int]]:
        words = text.split()
        return [(word, len(self.encode(" ".join(words[:k]))) if k else 0) for k, word in enumerate(words)]


def speaking(talker: Talker, folder: Path, tokens: float) -> Talker:
    """The same system, except that `tokens` text tokens are spoken in each patch."""
    model = load_component(TalkerModel, TalkerConfig, folder / "talker")
    assert model.reading is not None
    with torch.no_grad():
        model.reading.head.weight.zero_()
        model.reading.head.bias.fill_(tokens)
    system = talker.system
    generator = AutoregressiveGenerator(model, WordTokenizer())
    return Talker(System(generator, system.audio_vae, system.motion_ae, system.speaker))


def test_words_are_in_order_and_later_sentences_are_shifted(talker, voice, folder: Path) -> None:
    aligned = speaking(talker, folder, 2.0)
    clip = aligned.say("Go on now. We will see.", voice, sampling=QUICK, audio_only=True)
    take = clip.take()
    seen = [len(take.words) for _ in take.latents()]
    assert seen == sorted(seen)
    assert seen[0] < len(take.words)
    assert [word for word, _ in take.words] == ["Go", "on", "now.", "We", "will", "see."]
    starts = [start * 4 for start in take.starts]
    assert starts == [0, clip.longest(clip.sentences[0])]
    tokens = [token for s in clip.sentences for _, token in aligned.system.generator.tokenizer.words(s)]
    frames = [frame for _, frame in take.words]
    assert frames == sorted(set(frames))
    # Two tokens are spoken in a patch of four frames, and in the patch that precedes the second sentence.
    assert frames[:3] == [2 * token for token in tokens[:3]]
    assert frames[3:] == [starts[1] + (token if token <= 4 else 2 * token - 4) for token in tokens[3:]]


def test_words_that_are_not_spoken_are_not_reported(talker, voice, folder: Path) -> None:
    silent = speaking(talker, folder, 0.0).say("Go on now.", voice, sampling=QUICK, audio_only=True).take()
    list(silent.latents())
    assert silent.words == []


def test_weights_without_alignment_report_no_words(talker, voice, folder: Path) -> None:
    config = dataclasses.replace(talker.system.generator.model.config, reading=0)
    system = talker.system
    generator = AutoregressiveGenerator(TalkerModel(config).eval(), WordTokenizer())
    other = Talker(System(generator, system.audio_vae, system.motion_ae, system.speaker))
    take = other.say("Go.", voice, sampling=QUICK, audio_only=True).take()
    assert list(take.latents())
    assert take.words == []


# -- refusals ------------------------------------------------------------------------------------------------


def test_text_that_cannot_be_spoken_is_refused(talker, voice, portrait) -> None:
    for text in ("", "  \n ", "...", "Привет, мир", "你好"):
        with pytest.raises(UserError) as caught:
            talker.say(text, voice, portrait)
        assert "\n" not in str(caught.value)


def test_a_voice_whose_text_leaves_no_room_for_the_longest_sentence_is_refused(talker, voice) -> None:
    """The same voice speaks a short sentence alone."""
    short, long = "Go.", "We will " + "go on " * 25 + "now."
    longest = talker.system.generator.longest
    words = next(n for n in range(0, 500, 8) if longest(long, "tts", 4, "go " * n) < 1)
    speaker = dataclasses.replace(voice, said=("go " * words).strip())
    assert len(talker.say(short, speaker, audio_only=True).sentences) == 1
    with pytest.raises(UserError, match="recording is too long"):
        talker.say(f"{short} {long}", speaker, audio_only=True)


def test_missing_weights_and_unknown_names_are_refused(tmp_path: Path, talker) -> None:
    with pytest.raises(UserError, match="missing"):
        Talker.from_pretrained(tmp_path)
    with pytest.raises(UserError, match="is a web address: download the model first"):
        Talker.from_pretrained("https://example.org/model")
    with pytest.raises(UserError, match=r"neither a file nor one of the shipped voices .*ben"):
        talker.voice("nobody")
    with pytest.raises(UserError, match=r"shipped portraits \(ada.*did you mean ada\?"):
        talker.portrait("adda")


# -- threads and memory --------------------------------------------------------------------------------------


def test_a_name_or_a_file_is_the_voice_or_the_portrait_of_it(
    tmp_path: Path, talker: Talker, voice, portrait, folder: Path
) -> None:
    face = folder / "face.png"
    named = talker.say("Hi.", folder / "voice.wav", str(face), sampling=QUICK)
    made = talker.say("Hi.", voice, talker.portrait(face), sampling=QUICK)
    for ours, theirs in zip(joined(named), joined(made), strict=True):
        assert np.array_equal(ours, theirs)
    report = made.save(tmp_path / "a.mp4")
    assert re.fullmatch(r"<Report .*a.mp4: \d+.\d s \(\w+\), rtf [\d.]+, seed 0>", repr(report))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda t, v, p: t.say("Hi.", p, v), "is no voice"),
        (lambda t, v, p: t.say("Hi.", v, v), "is no portrait"),
        (lambda t, v, p: t.say("Hi.", "nobody"), "shipped voices"),
        (lambda t, v, p: t.say(None, v, p), "the text is None"),
        (lambda t, v, p: t.say("Hi.", v, p, seed=-1), "the seed is -1"),
        (lambda t, v, p: t.say("Hi.", v, p, seed=1.5), "the seed is 1.5"),
        (lambda t, v, p: t.animate("a.wav", v), "is no portrait"),
        (lambda t, v, p: t.dub("a.mp4", "Hi.", p), "is no voice"),
    ],
)
def test_an_argument_of_another_kind_is_named(talker, voice, portrait, call, words: str) -> None:
    with pytest.raises(UserError, match=words):
        call(talker, voice, portrait)


def test_every_argument_reaches_the_plan(voice, portrait, monkeypatch: pytest.MonkeyPatch) -> None:
    system, sampling, sound = object(), Sampling(steps=3), Channel(1)
    talker = Talker(system)
    calls: list[tuple] = []

    def called(name: str) -> Callable[..., Iterator[int]]:
        return lambda *given, **more: calls.append((name, *given, more)) or iter(())

    monkeypatch.setattr(pipeline, "LiveAnimation", called("live"))
    monkeypatch.setattr(pipeline.Animation, "of", called("animate"))
    monkeypatch.setattr(pipeline.Dubbing, "of", called("dub"))
    monkeypatch.setattr(pipeline, "map_clips", called("map"))
    monkeypatch.setattr(pipeline.System, "load", called("load"))
    monkeypatch.setattr(pipeline, "model_folder", lambda model: f"folder of {model}")
    talker.animate_stream(sound, portrait, 0.5, 7, sampling)
    talker.animate("a.wav", portrait, "Hi.", print, 7, sampling)
    talker.dub("a.mp4", "Hi.", voice, "none", 7, sampling, True, print)
    talker.map([1], 8, False)
    Talker.from_pretrained.__wrapped__("m", "cuda", "bfloat16")  # the fixture caches it
    assert calls == [
        ("live", system, sound, portrait, 0.5, 7, sampling, {}),
        ("animate", system, "a.wav", portrait, "Hi.", print, 7, sampling, {}),
        ("dub", system, "a.mp4", "Hi.", voice, "none", 7, sampling, True, print, {}),
        ("map", system, [1], 8, False, {}),
        ("load", "folder of m", "cuda", "bfloat16", {}),
    ]
    monkeypatch.setattr(talker, "say", called("say"))
    talker.stream("Hi.", voice, portrait, 7, sampling)
    assert calls[-1] == ("say", "Hi.", voice, portrait, 7, sampling, {})


def test_a_generated_file_is_named_so_in_the_tags_of_the_next(
    tmp_path: Path, talker, voice, portrait
) -> None:
    first = tmp_path / "first.mp4"
    talker.say("Hi.", voice, portrait, sampling=QUICK).save(first)
    clips = {
        "Speech: the AI-generated recording first.mp4.": talker.animate(first, portrait, sampling=QUICK),
        "Picture: the AI-generated video first.mp4.": talker.dub(
            first, "Hi.", voice, crop="none", sampling=QUICK
        ),
    }
    for words, clip in clips.items():
        clip.save(tmp_path / "next.mp4")
        with av.open(str(tmp_path / "next.mp4")) as container:
            assert words in container.metadata["comment"]


def test_closing_a_stream_joins_its_threads(talker, voice, portrait) -> None:
    before = threading.active_count()
    stream = talker.stream(TEXT, voice, portrait, sampling=QUICK)
    list(itertools.islice(stream, 2))
    assert threading.active_count() > before
    stream.close()
    assert threading.active_count() == before


class Counted(Utterance):
    """Counts the patches that are generated."""

    made: ClassVar[list[int]] = []

    def make(self, take, generate):
        for number, piece in enumerate(super().make(take, generate)):
            self.made.append(number)
            yield piece


def test_a_slow_reader_bounds_the_number_of_generated_patches(talker, voice, portrait) -> None:
    clip = Counted(talker.system, ("So we all go on and on, and on and on. " * 3,), voice, portrait, 0, QUICK)
    Counted.made.clear()
    chunks = iter(clip)
    next(chunks)
    made = 0
    while made < len(Counted.made):  # until nothing is generated for a while
        made = len(Counted.made)
        time.sleep(0.3)
    # Patches are in the queues before and after decoding, and each stage holds one.
    lag = -(-talker.system.audio_vae.lookahead // 4)
    assert made <= 1 + 2 * (QUEUED_PATCHES + lag) + 3 + lag
    assert made < clip.longest(clip.sentences[0]) // 4
    chunks.close()


@pytest.mark.parametrize("stage", ["generation", "decoding", "rendering"])
def test_an_error_in_any_stage_reaches_the_caller(talker, voice, portrait, stage: str) -> None:
    class Broken(Utterance):
        def make(self, take, generate):
            yield from itertools.islice(super().make(take, generate), 2)
            if stage == "generation":
                raise RuntimeError("broken")
            sizes = {"decoding": (3, 6), "rendering": (talker.system.audio_vae.latent_dim, 5)}[stage]
            yield Piece(Streams(audio=torch.zeros(4, sizes[0]), motion=torch.zeros(4, sizes[1])))

    before = threading.active_count()
    clip = Broken(talker.system, ("Go.",), voice, portrait, 0, QUICK)
    with pytest.raises((RuntimeError, ValueError)):
        list(clip)
    assert threading.active_count() == before


def test_a_cancelled_group_around_a_clip_is_not_its_end(talker, voice) -> None:
    class Leaving(Utterance):
        def make(self, take, generate):
            yield from itertools.islice(super().make(take, generate), 1)
            raise Cancelled

    with pytest.raises(Cancelled):
        list(Leaving(talker.system, ("Go.",), voice, None, 0, QUICK))


@pytest.mark.long
def test_concurrent_streams_have_the_values_they_have_alone(talker, voice, portrait) -> None:
    texts = ("Go.", "We will.")
    alone = [joined(talker.stream(text, voice, portrait, sampling=QUICK)) for text in texts]
    streams = [talker.stream(text, voice, portrait, sampling=QUICK) for text in texts]
    beside: list[list[Chunk]] = [[], []]
    for pair in itertools.zip_longest(*streams):
        for chunks, chunk in zip(beside, pair, strict=True):
            chunks.extend([chunk] if chunk is not None else [])
    for expected, chunks in zip(alone, beside, strict=True):
        for ours, theirs in zip(joined(chunks), expected, strict=True):
            assert np.array_equal(ours, theirs)


def test_representations_are_short_and_players_contain_the_file(
    talker: Talker, voice, portrait, folder: Path
) -> None:
    clip = talker.say("Hi.", voice, portrait, sampling=QUICK)
    take = clip.take()
    for value in (talker, voice, portrait, clip, take):
        assert len(repr(value)) < 200
        assert "tensor" not in repr(value)
    assert re.match(r"<Utterance: about \d.\d s, 1 sentence, voice voice, portrait face, seed 0>", repr(clip))
    player = clip._repr_html_()
    data = re.fullmatch(r'<video controls src="data:video/mp4;base64,(.*)"></video>', player)[1]
    with av.open(io.BytesIO(base64.b64decode(data))) as container:
        assert len(container.streams.video) == len(container.streams.audio) == 1
    assert talker.say("Hi.", voice, audio_only=True)._repr_html_().startswith("<audio controls")
    failed = Take(clip, ValueError("a < b"))
    assert failed._repr_html_().startswith("<code>&lt;Take of &lt;Utterance")
    assert "ValueError" in failed._repr_html_()
    live = LiveAnimation(talker.system, Channel(1), portrait, None, 3)
    assert repr(live) == "<LiveAnimation: about 0.0 s, portrait face, seed 3>"
    assert live.take()._repr_html_().startswith("<code>")
    recording = talker.animate(folder / "voice.wav", portrait)
    assert repr(recording) == "<Animation: about 1.0 s, recording voice.wav, portrait face, seed 0>"
    chunks = iter(clip)
    assert repr(next(chunks)) == "<Chunk at 0.00 s: pcm (3840,), frames (4, 32, 32, 3)>"
    chunks.close()
    assert "save(path)" in talker.say("A long text. " * 200, voice, portrait)._repr_html_()
