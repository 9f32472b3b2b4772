"""Copies of a video are found by the content of their clips, and stay in one split."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recipes.data.prepare.copies import LEAST_FRAMES, find_copies
from recipes.data.prepare.pack import heldout_voices
from recipes.data.prepare.samples import Sample
from recipes.data.prepare.sources import equal_files, find_sources


def clip(voice: str, seed: int, frames: int = 60, noise: float = 0.0) -> Sample:
    """A clip whose latents wander, with the given share of noise; the seed decides the content."""
    rng, own = np.random.default_rng(seed), np.random.default_rng([seed, frames, int(1000 * noise)])
    streams = [rng.standard_normal((frames + 8, width)).cumsum(0)[:frames] for width in (6, 4)]
    audio, motion = (x + noise * x.std() * own.standard_normal(x.shape) for x in streams)
    return Sample(f"{voice}-{seed}", audio.astype("f2"), motion.astype("f2"), np.ones(3, "f2"), (), voice)


def test_copies_with_noise_and_other_lengths_are_found_and_other_videos_are_not() -> None:
    others = [clip(f"other {seed}", seed) for seed in range(100, 160)]
    copies = [clip("a", 1), clip("b", 1, 62), clip("c", 1, noise=0.3), clip("d", 2), clip("e", 2)]
    assert find_copies([*copies[3:], *others, *copies[:3]]) == [["d", "e"], ["a", "b", "c"]]
    assert find_copies(others) == find_copies([]) == []


def test_one_stream_that_is_alike_makes_no_copy() -> None:
    """Another sound to the same pictures, and the other way round, are other videos."""
    a, b = clip("a", 1), clip("b", 2)
    mixed = Sample("c", a.audio, b.motion, a.speaker, (), "c")
    assert find_copies([a, b, mixed]) == []


def test_a_shared_opening_makes_no_copy() -> None:
    opening = [clip(voice, 1, LEAST_FRAMES) for voice in "ab"]
    rest = [clip("a", 2), clip("b", 3)]
    assert find_copies([*opening, *rest]) == []
    assert find_copies([*opening, rest[0]]) == [["a", "b"]], "an excerpt is a copy"


def test_clips_of_one_voice_and_still_clips_are_no_copies() -> None:
    still = [Sample(v, np.ones((50, 6), "f2"), np.ones((50, 4), "f2"), np.ones(3, "f2"), (), v) for v in "ab"]
    assert find_copies([clip("a", 1), clip("a", 1), *still]) == []


def test_equal_files_are_copies_whatever_their_transcripts_are(tmp_path: Path) -> None:
    for name, content in {"a": b"one", "b": b"two", "c": b"one", "d": b"", "e": b"", "f": b"four"}.items():
        (tmp_path / f"{name}.mp4").write_bytes(content)
    (tmp_path / "g.mp4").symlink_to(tmp_path / "missing")
    sources = find_sources(tmp_path, tmp_path / "out")
    a, c = (next(one.key for one in sources if one.name == f"{name}.mp4") for name in "ac")
    assert equal_files(sources) == [[a, c]]
    assert find_copies([clip(c, 1), clip("x", 2), clip("y", 2)], [[a, c]]) == [[c, a], ["x", "y"]]
    assert find_copies([clip(c, 1), clip("y", 1)], [[a, c]]) == [[c, "y", a]]
    others = [clip(voice, seed) for seed, voice in enumerate("stuv")]
    assert find_copies(others, ["st", "uv", "tu"]) == [["s", "t", "u", "v"]]


def test_copies_are_held_out_together() -> None:
    names = [f"video {number}" for number in range(2000)]
    alone = heldout_voices(names)
    for group in ([*list(alone)[:1], "video 1", "video 2"], list(alone)[:2], ["video 3", "video 4"]):
        heldout = heldout_voices(names, copies=[group])
        assert set(group) <= heldout or not set(group) & heldout
        assert heldout - set(group) == alone - set(group)
        assert heldout_voices(names, kept=group[:1], copies=[group]) == alone | set(group)
    assert heldout_voices(["a", "b"], copies=[["a", "b"]]) == set(), "there is one video to train on"
    assert heldout_voices(["a", "b", "c"], copies=[["a", "b"]]) == {"c"}
    assert heldout_voices(["a", "b"], kept=["a"], copies=[["a", "removed"]]) == {"a"}


def test_many_copies_of_one_video_stay_in_training() -> None:
    """Otherwise most of a small data set could be held out."""
    for number in range(50):
        voices = [f"{number} {k}" for k in range(22)]
        heldout = heldout_voices(voices, copies=[voices[:15]])
        assert 1 <= len(heldout) <= 2
        assert not heldout & set(voices[:15])
        assert heldout_voices(voices, kept=voices[:1], copies=[voices[:15]]) >= set(voices[:15])
    low = sorted(heldout_voices([f"video {number}" for number in range(2000)]))  # alone, each is held out
    assert heldout_voices([*low, "a", "b"], copies=[low[::2], low[1::2]]) <= {"a", "b"}


def test_a_new_copy_does_not_move_a_video_out_of_training() -> None:
    names = [f"video {number}" for number in range(100)]
    heldout = heldout_voices(names)
    for number, name in enumerate(names):
        if name not in heldout:
            assert name not in heldout_voices([*names, f"copy {number}"], heldout, [[name, f"copy {number}"]])
