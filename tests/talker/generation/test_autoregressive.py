"""Generation patch by patch: the stop rule, requests, and equality with the training pass."""

import dataclasses
from collections import deque
from types import SimpleNamespace

import pytest
import torch
from sequences import generated

from heads.sampling import Sampling
from heads.streams import Streams
from talker.generation.autoregressive import AutoregressiveGenerator
from talker.generation.batch import Generation
from talker.generation.guards import repeated_tokens
from talker.generation.request import Request, StopCounter, TokenRequest, drawn_noise
from talker.generation.request_batch import RequestBatch, RequestTokenizer
from talker.generation.running_batch import RunningBatch
from talker.model.config import TalkerConfig
from talker.model.defaults import Defaults, GuardRule, Pace, StopRule
from talker.model.layout import Layout
from talker.model.model import TalkerModel
from talker.model.tasks import Task, task_named
from talker.model.training_batch import Sample, collate
from talker.text.tokenizer import PhonemeTokenizer

TINY = TalkerConfig.tiny()
QUICK = Sampling(steps=2)
STRANGE = tuple(
    Task(name=f"t2av{delay:+d}", row=1, given=(), predicted=("audio", "motion"), delay=delay)
    for delay in (-2, 1, 3)
)


def model_of(arrangement: str = "sum", reading: int = 64, **changes: object) -> TalkerModel:
    torch.manual_seed(0)
    config = dataclasses.replace(
        TINY,
        layout=Layout(arrangement=arrangement, text_per_patch=2.0, **changes),
        tasks=TINY.tasks + STRANGE,
        reading=reading,
    )
    return TalkerModel(config).eval()


def request_of(task: Task, frames: int = 22, text: int = 6, **changes: object) -> TokenRequest:
    g = torch.Generator().manual_seed(1)
    latents = {name: torch.randn(frames, width, generator=g) for name, width in TINY.widths.items()}
    values = {
        "text_ids": list(range(1, text + 1)),
        "task": task.name,
        "speaker": torch.randn(TINY.global_widths["audio"], generator=g),
        "first_motion": torch.randn(TINY.global_widths["motion"], generator=g),
        "sampling": QUICK,
        "given": Streams(**{name: latents[name] for name in task.given}) if task.given else None,
        "max_patches": -(-frames // TINY.patch_frames),
        "stop": StopRule.never(),
    }
    return TokenRequest(**(values | changes))


# -- the stop rule -------------------------------------------------------------------------------------------


def patches_made(rule: StopRule, probabilities: list[float]) -> int:
    counter = StopCounter(rule)
    for made, probability in enumerate(probabilities):
        if counter.ends(made, probability):
            return made
    return len(probabilities)


def test_stop_rules_end_after_their_number_of_consecutive_hits():
    assert patches_made(StopRule.paper(), [0.1, 0.2, 0.9, 0.1]) == 2
    assert patches_made(StopRule.release(), [1.0] * 20) == 9
    assert patches_made(StopRule.release(), [0.0] * 8 + [0.6, 0.7, 0.4, 0.8, 0.8, 0.8, 0.0]) == 13
    assert patches_made(StopRule.never(), [1.0] * 20) == 20
    assert patches_made(StopRule.paper(), [0.49, 0.5]) == 1


def test_speech_that_ends_before_its_first_patch_keeps_no_row() -> None:
    batch = RunningBatch(model_of(), 1)
    ended = batch.join(request_of(task_named(TINY.tasks, "tts"), max_patches=9, stop=StopRule(threshold=0.0)))
    assert (ended.finish_reason, len(ended.patches), batch.free) == ("stop", 0, 1)


# -- training and generation ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arrangement", "reading"),
    [
        ("sum", 0),
        ("sum", 64),
        ("av", 64),
        ("va", 0),
        pytest.param("av", 0, marks=pytest.mark.long),
        pytest.param("va", 64, marks=pytest.mark.long),
    ],
)
@pytest.mark.parametrize("name", ["tts", "t2av", "a2v", "v2a", "t2av-2", "t2av+1", "t2av+3"])
def test_generation_has_the_hidden_states_of_the_training_pass(name, arrangement, reading, monkeypatch):
    """The heads are replaced by a function that returns the true patches."""
    model = model_of(arrangement, reading)
    task = task_named(model.config.tasks, name)
    request = request_of(task)
    steps: list[tuple[int, float]] = []
    step = model.backbone.step

    def recorded(x, positions, cells, cache):
        steps.append((int(cells[0]), float(positions[0])))
        return step(x, positions, cells, cache)

    seen: dict[str, list[torch.Tensor]] = {"audio": [], "motion": []}
    g = torch.Generator().manual_seed(2)
    truth = {n: torch.randn(6, 4, w, generator=g) for n, w in TINY.widths.items()}

    def answer(condition, noise, sampling, given, constants):
        found = {}
        for stream, _ in noise.items():
            found[stream] = truth[stream][len(seen[stream])][None]
            seen[stream].append(condition.hidden[0].clone())
        return Streams(**found)

    monkeypatch.setattr(model.backbone, "step", recorded)
    monkeypatch.setattr(model.heads, "sample", answer)
    made, _ = generated(model, request)
    assert len(made) == 6

    latents = {n: truth[n].flatten(0, 1) for n in task.predicted}
    latents |= dict(request.given.items()) if request.given else {}
    sample = Sample(
        text=request.text_ids,
        task=task,
        latents=Streams(**latents),
        global_=Streams(**{n: torch.zeros(w) for n, w in TINY.global_widths.items()}),
    )
    batch = collate([sample], model.config)
    rotary = batch.rotary.clone()
    for cell, position in steps:
        rotary[0, cell] = position
    if not reading:
        torch.testing.assert_close(rotary, batch.rotary)
    hidden = model.backbone(model.embed(batch), rotary)
    for stream in task.predicted:
        slots = batch.predicted[stream][0].nonzero()[:, 0]
        expected = hidden[0, batch.positions[stream][0, slots] - 1]
        torch.testing.assert_close(torch.stack(seen[stream]), expected, rtol=1e-4, atol=1e-5)


def test_slot_positions_are_the_sum_of_the_predicted_advances(monkeypatch):
    """The alignment head runs once per slot. The positions are clamped to the text."""
    model = model_of()
    request = request_of(task_named(TINY.tasks, "t2av"))
    advances, slot_positions = [], []
    alignment, step = model.reading.forward, model.backbone.step

    def recorded_alignment(hidden):
        advances.append(alignment(hidden))
        return advances[-1]

    def recorded_step(x, positions, cells, cache):
        slot_positions.append(positions)
        return step(x, positions, cells, cache)

    monkeypatch.setattr(model.reading, "forward", recorded_alignment)
    monkeypatch.setattr(model.backbone, "step", recorded_step)
    assert len(generated(model, request)[0]) == len(advances)
    spoken = torch.zeros(1)
    for position, advance in zip(slot_positions, advances, strict=False):
        spoken = (spoken + advance).clamp(0, len(request.text_ids))
        torch.testing.assert_close(position, 1 + spoken)


# -- requests ------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_identical_patches_and_another_seed_does_not():
    model = model_of()
    request = request_of(task_named(TINY.tasks, "t2av"))
    first, again = (generated(model, request)[0] for _ in range(2))
    other, _ = generated(model, dataclasses.replace(request, seed=1))
    assert all(
        torch.equal(a[n], b[n]) for a, b in zip(first, again, strict=True) for n in ("audio", "motion")
    )
    assert not torch.equal(first[0]["audio"], other[0]["audio"])


def test_noise_depends_on_seed_patch_and_stream():
    shape = (4, 8)
    assert torch.equal(drawn_noise(5)(3, "audio", shape), drawn_noise(5)(3, "audio", shape))
    others = [
        drawn_noise(6)(3, "audio", shape),
        drawn_noise(5)(4, "audio", shape),
        drawn_noise(5)(3, "motion", shape),
    ]
    assert not any(torch.equal(drawn_noise(5)(3, "audio", shape), other) for other in others)


@pytest.mark.parametrize("name", ["a2v", "v2a"])
def test_given_frames_determine_the_length(name):
    model = model_of()
    task = task_named(TINY.tasks, name)
    made, reason = generated(model, request_of(task, frames=18, max_patches=99, stop=StopRule(threshold=0.0)))
    assert len(made) == 5
    assert [n for n, _ in made[0].items()] == list(task.predicted)
    assert reason in ("length", "overflow")  # the alignment of an untrained model is arbitrary


def test_the_stop_predictor_is_not_used_before_min_patches():
    model = model_of()
    made, reason = generated(
        model, request_of(task_named(TINY.tasks, "t2av"), stop=StopRule(threshold=0.0), min_patches=2)
    )
    assert (len(made), reason) == (2, "stop")


@pytest.mark.parametrize("reading", [pytest.param(0, marks=pytest.mark.long), 64])
@pytest.mark.parametrize("name", ["tts", "t2av", "a2v", "t2av+1"])
def test_generation_after_a_prefix_continues_the_request(name, reading):
    """Patches generated after a prefix of k patches equal those of a run that generated the k patches."""
    model = model_of(reading=reading)
    task = task_named(model.config.tasks, name)
    request = request_of(task)
    whole, _ = generated(model, request)
    kept = {n: torch.stack([patch[n] for patch in whole[:2]]) for n in task.predicted}
    if task.given:
        frames = request.given["audio"]
        kept["audio"] = frames[:8].unflatten(0, (-1, 4))
        request = dataclasses.replace(request, given=Streams(audio=frames[8:]))
    request = dataclasses.replace(request, prefix=Streams(**kept), max_patches=request.max_patches - 2)
    noise = drawn_noise(request.seed)
    rest, _ = generated(model, request, lambda patch, stream, shape: noise(patch + 2, stream, shape))
    assert len(rest) == len(whole) - 2
    for a, b in zip(rest, whole[2:], strict=True):
        for stream, value in a.items():
            torch.testing.assert_close(value, b[stream], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["t2av-2", "t2av+3"])
def test_tail_of_an_interrupted_sequence_equals_its_patches(name):
    """One stream is ahead of the other by the delay. The tail does not contain its incomplete patches."""
    model = model_of()
    batch = RunningBatch(model)
    sequence = batch.join(request_of(task_named(model.config.tasks, name)))
    while len(sequence.patches) < 2:
        batch.step()
    batch.leave(sequence)
    tail = sequence.tail(99)
    assert tail.names == ("audio", "motion")
    for stream, frames in tail.items():
        torch.testing.assert_close(frames.float(), torch.cat([patch[stream] for patch in sequence.patches]))


def test_missing_patches_of_a_prefix_add_nothing_to_the_embeddings(monkeypatch):
    """A stream may have only the last patches of a prefix, or none as in the published speech-only prefix."""
    model = model_of(reading=0)
    request = request_of(task_named(TINY.tasks, "t2av"), max_patches=1)
    g = torch.Generator().manual_seed(3)
    prefix = {name: torch.randn(3, 4, width, generator=g) for name, width in TINY.widths.items()}
    prompts = []
    prefill = model.backbone.prefill
    monkeypatch.setattr(model.backbone, "prefill", lambda x, *rest: prompts.append(x[0]) or prefill(x, *rest))
    for motion in (prefix["motion"], prefix["motion"][1:], None):
        own = dataclasses.replace(request, prefix=Streams(audio=prefix["audio"], motion=motion))
        assert len(generated(model, own)[0]) == 1
    with torch.inference_mode():
        alone = model.patch_encoders["audio"](prefix["audio"])
    whole, shorter, none = (prompt[-3:] for prompt in prompts)
    torch.testing.assert_close(shorter[1:], whole[1:])
    torch.testing.assert_close(shorter[0], alone[0])
    torch.testing.assert_close(none, alone)


def test_a_request_that_does_not_fit_is_refused():
    batch = RunningBatch(model_of())
    t2av, a2v = task_named(TINY.tasks, "t2av"), task_named(TINY.tasks, "a2v")
    with pytest.raises(ValueError, match="needs a text"):
        batch.join(request_of(t2av, text_ids=[]))
    with pytest.raises(ValueError, match="first_motion"):
        batch.join(request_of(t2av, first_motion=None))
    with pytest.raises(ValueError, match="needs the audio"):
        batch.join(request_of(a2v, given=None))
    with pytest.raises(ValueError, match="shorten the text"):
        batch.join(request_of(t2av, max_patches=500))
    with pytest.raises(ValueError, match="nothing to generate"):
        batch.join(request_of(t2av, max_patches=0))
    motion = Streams(motion=torch.zeros(1, 4, TINY.widths["motion"]))
    with pytest.raises(ValueError, match="needs audio in the prefix"):
        batch.join(request_of(a2v, prefix=motion))
    assert batch.free == 1
    batch.step()  # without requests it does nothing


def generator_of(**changes: object) -> AutoregressiveGenerator:
    """A generator of phonemes with a tiny model of random weights. `changes`: of its default settings."""
    tokenizer = PhonemeTokenizer()
    torch.manual_seed(0)
    backbone = dataclasses.replace(TINY.backbone, vocab=tokenizer.vocab_size)
    defaults = dataclasses.replace(TINY.defaults, **changes)
    config = dataclasses.replace(TINY, backbone=backbone, defaults=defaults)
    return AutoregressiveGenerator(TalkerModel(config).eval(), tokenizer)


def test_a_batch_serves_one_generation_at_a_time_and_at_most_two_are_kept():
    generator = generator_of()
    request = Request(text="Go.", task="tts", frames=8, sampling=QUICK, stop=StopRule.never())
    together = [generator.generate(request) for _ in range(3)]
    for generation in together:
        assert len(list(generation)) == 2
        assert list(generation) == []
        generation.close()
    with pytest.raises(ValueError, match="needs first_motion"):
        generator.generate(dataclasses.replace(request, task="t2av"))
    kept = generator._idle
    assert len(kept) == len(set(map(id, kept))) == 2
    assert all(batch.free == 1 for batch in kept)


def test_a_closed_generation_is_interrupted():
    generator = generator_of()
    generation = generator.generate(Request(text="Go.", task="tts", frames=8, stop=StopRule.never()))
    next(generation)
    generation.close()
    assert generation.finish_reason == "interrupted"
    assert generator._idle[0].free == 1


def test_defaults_of_the_weights_apply_where_a_request_has_none():
    rule = StopRule(threshold=0.25)
    generator = generator_of(stop=rule, sampling=QUICK)
    convert = RequestTokenizer(generator.model, generator.tokenizer)
    made = convert(Request(text="Go.", task="tts", frames=9))
    assert (made.stop, made.sampling, made.max_patches, made.min_patches) == (rule, QUICK, 3, 1)
    own = convert(Request(text="Go.", task="tts", stop=StopRule.never(), sampling=Sampling.paper()))
    assert (own.stop, own.sampling) == (StopRule.never(), Sampling.paper())
    assert 4 * own.max_patches == generator.longest("Go.", "tts")


def test_repetition_is_allowed_for_the_slowest_duration_of_the_repeated_tokens():
    """The tokens of `said` do not count, because they are not generated."""
    generator = generator_of()
    convert, slowest = RequestTokenizer(generator.model, generator.tokenizer), generator.defaults.pace.slowest
    request = Request(text="Ha ha ha.", task="tts", silence=torch.zeros(TINY.widths["audio"]))
    repeated = repeated_tokens(generator.tokenizer.tokens(request.text))
    assert convert(request).guard.repeated_seconds == pytest.approx(slowest * repeated)
    assert repeated > 0
    said = dataclasses.replace(request, said="Ha ha ha.", text="We will see.")
    assert convert(said).guard.repeated_seconds == 0
    assert [word for word, _ in convert(said).words] == ["We", "will", "see"]
    assert convert(dataclasses.replace(request, silence=None)).guard is None


def test_guards_have_the_rule_of_the_weights_or_are_absent():
    request = Request(text="Go.", task="tts", silence=torch.zeros(TINY.widths["audio"]))
    for rule in (GuardRule(alike=0.1), Defaults.release().guard):
        generator = generator_of(guard=rule)
        guard = RequestTokenizer(generator.model, generator.tokenizer)(request).guard
        assert (None if guard is None else guard.rule) == rule


class Templated(PhonemeTokenizer):
    """Two ids open every prompt and three close it."""

    def encode(self, text: str) -> list[int]:
        return [1, 2, *self.tokens(text), 3, 4, 5]

    def tokens(self, text: str) -> list[int]:
        return super().encode(text)

    def words(self, text: str) -> list[tuple[str, int]]:
        return [(word, 2 + first) for word, first in super().words(text)]


def test_a_template_surrounds_the_whole_prompt_once_and_is_not_speech():
    generator = generator_of()
    model, plain, templated = generator.model, PhonemeTokenizer(), Templated()
    silence = torch.zeros(TINY.widths["audio"])
    request = Request(said="So it goes.", text="Ha ha ha.", task="tts", silence=silence)
    bare, made = RequestTokenizer(model, plain)(request), RequestTokenizer(model, templated)(request)
    assert list(made.text_ids) == [1, 2, *bare.text_ids, 3, 4, 5]
    assert made.words == tuple((word, 2 + first) for word, first in bare.words)
    assert [word for word, _ in made.words] == ["Ha", "ha", "ha"]
    assert made.guard.repeated_seconds == bare.guard.repeated_seconds > 0
    assert made.max_patches == bare.max_patches
    assert AutoregressiveGenerator(model, templated).durations("Ha ha ha.") == generator.durations(
        "Ha ha ha."
    )


def test_latents_in_float64_are_normalised_in_float64():
    generator, normal = generator_of(), torch.randn(4, TINY.widths["audio"])
    generator.model.stats.set(Streams(audio=torch.full(normal.shape[1:], 1000.0)), Streams())
    convert = RequestTokenizer(generator.model, generator.tokenizer)
    request = Request(text="Go.", task="tts", prefix=Streams(audio=normal.double() + 1000))
    torch.testing.assert_close(convert(request).prefix["audio"][0], normal, atol=1e-6, rtol=0)


def test_the_rate_of_the_weights_limits_speech_and_estimates_its_duration():
    generator, text = generator_of(pace=Pace(fastest=0.1, usual=0.2, slowest=0.3, pauses=1.0)), "Go on."
    tokens = len(generator.tokenizer.encode(text))
    assert generator.durations(text) == pytest.approx((0.1 * tokens, 0.2 * tokens))
    frames = (1.0 + 0.3 * tokens) * 25
    assert frames <= generator.longest(text, "tts") < frames + 4
    assert generator.longest(text, "tts", said="So.") == generator.longest(text, "tts")
    assert generator_of(max_frames=20).longest(text, "tts") == 20
    assert generator_of(max_frames=20).longest(text, "a2v") == generator.longest(text, "a2v") > 20
    words = generator_of(pace=None)
    assert words.durations(text) == (0.0, pytest.approx(6 / 15))
    room = TINY.backbone.max_positions - 1 - tokens
    assert words.longest(text, "tts") == 4 * room
    assert words.longest(text, "a2v", prefix_frames=8) == 4 * (room - 1) - 8


@pytest.mark.parametrize("name", ["a2v", "v2a"])
def test_longest_is_the_greatest_number_of_given_frames_after_a_prefix(name):
    generator = generator_of()
    text, before = "Go on then.", 8
    longest = generator.longest(text, name, prefix_frames=before)
    assert longest == generator.longest(text, name) - before
    task = task_named(TINY.tasks, name)

    def frames(count: int, streams: tuple[str, ...]) -> Streams:
        return Streams(**{stream: torch.zeros(count, TINY.widths[stream]) for stream in streams})

    def join(given: int) -> None:
        request = Request(
            text=text,
            task=name,
            first_motion=torch.zeros(TINY.global_widths["motion"]),
            prefix=frames(before, task.given + task.predicted),
            given=frames(given, task.given),
            frames=given,
        )
        convert = RequestTokenizer(generator.model, generator.tokenizer)
        batch = RequestBatch(convert, RunningBatch(generator.model))
        batch.join(batch.prepare(request))

    join(longest)
    with pytest.raises(ValueError, match="shorten the text"):
        join(longest + TINY.patch_frames)


def test_closing_a_finished_request_leaves_the_batch_alone() -> None:
    """After the end, the batch may have been given to another request."""

    class Batch:
        left = 0

        def prepare(self, request: object) -> object:
            return request

        def join(self, request: object) -> SimpleNamespace:
            return SimpleNamespace(patches=deque(["patch"]), finish_reason="stop")

        def leave(self, running: object) -> None:
            self.left += 1

    released: list[None] = []
    for read, left in ((list, 0), (next, 1)):
        batch = Batch()
        generation = Generation(batch, None, lambda: released.append(None))  # type: ignore[arg-type]
        read(generation)
        generation.close()
        generation.close()
        assert batch.left == left
    assert len(released) == 2
