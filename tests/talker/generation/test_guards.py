"""Guards end speech after long silence or repetition, and do not end ordinary speech."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from sequences import generated
from torch import Tensor

from audio_vae.config import AudioVAEConfig
from audio_vae.model import AudioVAE
from heads.sampling import Sampling
from heads.streams import Streams
from talker.checkpoint import load_component
from talker.generation.guards import Guard, GuardState, repeated_tokens
from talker.generation.request import TokenRequest
from talker.media.readers import read_voice
from talker.model.config import TalkerConfig
from talker.model.defaults import GuardRule, StopRule
from talker.model.model import TalkerModel
from talker.shipped import PUPPET, shipped, shipped_names

CHANNELS = 16
QUIET = torch.zeros(CHANNELS)
GUARD = Guard(quiet=QUIET)  # 2 s of silence; windows of 2 s; periods of 3 to 50 frames; 25 frames a second
LIMIT = 50  # frames of silence, frames of a window, and the longest period


def verdict(frames: Tensor, guard: Guard = GUARD, patch: int = 1) -> tuple[str | None, int]:
    """The first reason to stop, and the number of frames until then; frames (T, C) in patches of `patch`."""
    state = GuardState(guard)
    for number, frames_of_patch in enumerate(frames.split(patch)):
        reason = state.update(frames_of_patch)
        if reason is not None:
            return reason, patch * (number + 1)
    return None, len(frames)


def noise(frames: int, seed: int = 0) -> Tensor:
    """Unrelated frames (T, C) of RMS 1."""
    return torch.randn(frames, CHANNELS, generator=torch.Generator().manual_seed(seed))


def unrelated(frames: int, seed: int = 0) -> Tensor:
    """Frames (T, C) far from silence and far from each other: RMS distances above 8."""
    return 10 * noise(frames, seed)


def periodic(period: int, distance: float, frames: int = 300, loud: int | None = None) -> Tensor:
    """Frames (T, C) at RMS distance m * `distance` from those m periods before, and far from all others.

    With `loud`, only the first `loud` frames of a period are like this; the others are silent.
    """
    time = torch.arange(frames)
    part = unrelated(period, 1)[time % period] + distance * (time // period)[:, None]
    return part if loud is None else torch.where((time % period < loud)[:, None], part, QUIET)


# -- silence -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("distance", "reason"), [(0.49, "silence"), (0.51, None)])
def test_frame_within_near_quiet_of_the_quiet_latent_is_silent(distance: float, reason: str | None) -> None:
    directions = noise(200) / noise(200).square().mean(1, keepdim=True).sqrt()
    no_repetition = Guard(quiet=QUIET + 3, rule=GuardRule(alike=0.0))
    assert verdict(3 + distance * directions, no_repetition)[0] == reason


def test_silence_stops_after_exactly_two_seconds() -> None:
    silence = QUIET.expand(LIMIT, -1)
    assert verdict(torch.cat([unrelated(7), silence, unrelated(9, 1)])) == ("silence", 7 + LIMIT)
    assert verdict(torch.cat([unrelated(7), silence[1:], unrelated(9, 1), silence[1:]]))[0] is None


@pytest.mark.parametrize("before", [0, 30, 33])
def test_silence_may_begin_inside_a_patch(before: int) -> None:
    reason, at = verdict(torch.cat([noise(before), 0.1 * noise(100, 1)]), patch=4)
    assert reason == "silence"
    assert before + LIMIT <= at < before + LIMIT + 4


# -- repetition ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("period", [3, 7, 25, 50])
def test_repetition_stops_one_window_after_the_second_period_begins(period: int) -> None:
    assert verdict(torch.cat([unrelated(60), periodic(period, 0.0)])) == ("repetition", 60 + period + LIMIT)


@pytest.mark.parametrize("period", [3, 25, 50])
@pytest.mark.parametrize(("distance", "reason"), [(0.74, "repetition"), (0.76, None)])
def test_window_closer_than_alike_is_a_repetition(period: int, distance: float, reason: str | None) -> None:
    assert verdict(periodic(period, distance))[0] == reason


@pytest.mark.parametrize(
    ("period", "reason"), [(1, None), (2, None), (3, "repetition"), (50, "repetition"), (51, None)]
)
def test_periods_of_3_to_50_frames_are_repetitions(period: int, reason: str | None) -> None:
    """At a distance of 0.6, two periods are too far apart to count as one longer period."""
    assert verdict(periodic(period, 0.6))[0] == reason


@pytest.mark.parametrize(("loud", "reason"), [(12, None), (13, "repetition")])
def test_window_that_is_mostly_silent_is_no_repetition(loud: int, reason: str | None) -> None:
    assert verdict(periodic(25, 0.0, loud=loud))[0] == reason


def test_silent_frames_do_not_count_as_repeated() -> None:
    """Over the loud frames the distance is 0.9; over all frames it would be 0.65, below the limit."""
    assert verdict(periodic(25, 0.9, loud=13))[0] is None
    assert verdict(periodic(25, 0.7, loud=13))[0] == "repetition"


def test_frames_before_the_first_one_repeat_nothing() -> None:
    """A constant sound equals itself three frames earlier, so a window is full after 3 + 50 frames."""
    guard = dataclasses.replace(GUARD, quiet=QUIET + 3)
    assert verdict(QUIET.expand(100, -1), guard) == ("repetition", 3 + LIMIT)


def test_repeated_word_is_allowed() -> None:
    word = noise(25, 1)
    assert verdict(torch.cat([noise(80), word, word, noise(80, 2)]), patch=4)[0] is None


# -- ordinary speech -----------------------------------------------------------------------------------------


def test_unrelated_frames_and_short_pauses_pass() -> None:
    pauses = [torch.cat([noise(30, k), QUIET.expand(40, -1)]) for k in range(10)]
    assert verdict(torch.cat([noise(300), *pauses]), patch=4)[0] is None


@torch.inference_mode()
def test_shipped_voices_pass() -> None:
    """Recordings of ordinary speech, through the codec and the statistics of the default model."""
    audio_vae = load_component(AudioVAE, AudioVAEConfig, PUPPET / "audio_vae")
    stats = load_component(TalkerModel, TalkerConfig, PUPPET / "talker").stats

    def latents(pcm: Tensor) -> Tensor:
        normalised = stats.normalise(Streams(audio=audio_vae.encode(pcm[None])[0])).audio
        assert normalised is not None
        return normalised

    guard = Guard(quiet=latents(torch.zeros(24_000))[12])
    for name in shipped_names("voices"):
        assert verdict(latents(read_voice(shipped("voices", name))), guard, patch=4)[0] is None, name
    assert verdict(latents(torch.zeros(3 * 24_000)), guard, patch=4)[0] == "silence"


# -- in a request --------------------------------------------------------------------------------------------


def test_guard_stops_a_request_unless_its_length_is_given() -> None:
    """With `near_quiet` this large, every frame is silent."""
    torch.manual_seed(0)
    config = TalkerConfig.tiny()
    model = TalkerModel(config).eval()
    guard = Guard(quiet=torch.zeros(config.widths["audio"]), rule=GuardRule(near_quiet=1e9))
    request = TokenRequest(
        text_ids=[1, 2, 3],
        task="tts",
        speaker=torch.zeros(config.global_widths["audio"]),
        stop=StopRule.never(),
        max_patches=20,
        guard=guard,
        sampling=Sampling(steps=1),
    )
    for capacity in (1, 4):
        patches, reason = generated(model, request, capacity=capacity)
        assert (len(patches), reason) == (13, "silence")
    fitted = dataclasses.replace(
        request,
        task="v2a",
        given=Streams(motion=torch.zeros(80, config.widths["motion"])),
        first_motion=torch.zeros(config.global_widths["motion"]),
    )
    assert len(generated(model, fitted)[0]) == 20


@pytest.mark.parametrize(("pace", "reason"), [(0.0, "overflow"), (9.0, "length")])
def test_text_left_over_after_the_given_frames_is_overflow(
    pace: float, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`pace` replaces the predicted advance in the text per patch."""
    config = TalkerConfig.tiny()
    model = TalkerModel(config).eval()
    assert model.reading is not None
    monkeypatch.setattr(model.reading, "forward", lambda hidden: torch.full((len(hidden),), pace))
    request = TokenRequest(
        text_ids=list(range(1, 20)),
        task="v2a",
        speaker=torch.zeros(config.global_widths["audio"]),
        first_motion=torch.zeros(config.global_widths["motion"]),
        given=Streams(motion=torch.zeros(16, config.widths["motion"])),
    )
    patches, found = generated(model, request)
    assert (len(patches), found) == (4, reason)


# -- text that repeats itself --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "count"),
    [
        ([], 0),
        ([1, 2, 3, 4], 0),
        ([7, 7, 7], 3),
        ([1, 2, 1, 2, 1, 2, 9], 6),
        ([5, 1, 2, 3, 1, 2, 3, 8], 6),
        ([1, 2, 3, 1, 2, 9], 0),
        ([1, 2, 1, 3, 1, 4, 1, 5], 0),
        ([1, 1, 2, 3, 4, 5, 4, 5, 4, 5, 4, 5], 8),
    ],
)
def test_repeated_tokens_are_those_of_the_longest_immediate_repetition(ids: list[int], count: int) -> None:
    assert repeated_tokens(ids) == count


def test_repetition_of_the_text_is_allowed_for_its_duration() -> None:
    """A sound with a period of 8 frames is repetition after the window, or after the allowed time more."""
    g = torch.Generator().manual_seed(0)
    period = 3 * torch.randn(2, 4, 8, generator=g)

    def patches_until_repetition(allowed: float) -> int:
        watch = GuardState(Guard(quiet=torch.zeros(8), repeated_seconds=allowed))
        return next(number for number in range(200) if watch.update(period[number % 2]) == "repetition")

    assert patches_until_repetition(1.6) - patches_until_repetition(0.0) == 10
