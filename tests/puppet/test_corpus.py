"""Laws of corpus clips: repeatable item by item, exact lengths, lips that follow the phonemes, splits
apart."""

import json
from pathlib import Path

import numpy as np
import pytest

from puppet.corpus import IDENTITIES, VOICES, Clip, Corpus, speech_clips, write
from puppet.motion import FRAME_RATE, HIGH, INDEX, LOW, MOTION
from puppet.speech import PAUSE

pytest.importorskip("espeakng_loader", reason="the extra 'data' is not installed")


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return list(speech_clips("train", 0, range(40)))


def same(first: Clip, second: Clip) -> bool:
    sound = np.array_equal(first.pcm, second.pcm) and np.array_equal(first.motion, second.motion)
    return sound and first.text == second.text and first.phonemes == second.phonemes


def test_a_clip_is_a_function_of_seed_and_number(clips: list[Clip]) -> None:
    corpus = Corpus("train", 0)
    assert all(same(corpus.clip(index), clips[index]) for index in (17, 3, 17))
    assert not same(Corpus("train", 1).clip(3), clips[3])


def test_lengths_and_ranges(clips: list[Clip]) -> None:
    for clip in clips:
        frames = len(clip.motion)
        assert frames % 4 == 0
        assert clip.pcm.shape == (960 * frames,)
        assert clip.motion.shape == (frames, len(MOTION))
        assert clip.pcm.dtype == clip.motion.dtype == np.float32
        assert np.abs(clip.pcm).max() < 1
        assert ((clip.motion >= LOW) & (clip.motion <= HIGH)).all()
        assert clip.phonemes[-1].end <= frames / FRAME_RATE + 1e-6


def test_lips_close_for_p_b_m(clips: list[Clip]) -> None:
    seen = 0
    for clip in clips:
        for one in clip.phonemes:
            if one.symbol in ("p", "b", "m"):
                frame = int((one.start + one.end) / 2 * FRAME_RATE)
                assert clip.motion[frame, INDEX["closure"]] > 0.95
                seen += 1
    assert seen > 50


def test_open_vowels_open_and_rounded_ones_round(clips: list[Clip]) -> None:
    def mean(symbols: tuple[str, ...], name: str) -> float:
        values = [
            clip.motion[int((one.start + one.end) / 2 * FRAME_RATE), INDEX[name]]
            for clip in clips
            for one in clip.phonemes
            if one.symbol in symbols
        ]
        return float(np.mean(values))

    assert mean(("ɑ", "æ"), "jaw") > 2 * mean(("s", "z", "i"), "jaw")
    assert mean(("u", "w", "oʊ"), "rounding") > 0.4 > 0.1 > mean(("i", "æ"), "rounding")
    assert mean(("i",), "lip_width") > 0.3 > -0.2 > mean(("u", "w"), "lip_width")


def test_lips_rest_in_silence(clips: list[Clip]) -> None:
    lips = [INDEX[name] for name in ("jaw", "closure", "rounding", "lip_width", "upper_lip", "tongue")]
    for clip in clips:
        first = next((one.start for one in clip.phonemes if one.symbol != PAUSE), np.inf)
        last = max((one.end for one in clip.phonemes if one.symbol != PAUSE), default=0)
        times = (np.arange(len(clip.motion)) + 0.5) / FRAME_RATE
        quiet = (times < first - 0.25) | (times > last + 0.25)
        assert np.abs(clip.motion[quiet][:, lips]).max(initial=0) < 0.06


def test_heads_move_smoothly_and_people_blink(clips: list[Clip]) -> None:
    motion = [clip.motion for clip in clips]
    assert max(np.abs(np.diff(m[:, :6], axis=0)).max() for m in motion) < 0.05
    assert np.mean([m[:, INDEX["lid_left"]].max() > 0.9 for m in motion]) > 0.4


def test_idle_clips_say_nothing() -> None:
    corpus = Corpus("train", 0)
    idle = next(clip for clip in (corpus.clip(index) for index in range(100)) if clip.idle)
    assert idle.text == ""
    assert np.abs(idle.pcm).max() < 0.005
    assert np.abs(idle.motion[:, INDEX["jaw"]]).max() == 0
    assert np.ptp(idle.motion[:, INDEX["breath"]]) > 0.05


def test_heldout_shares_nothing() -> None:
    assert not set(IDENTITIES["train"]) & set(IDENTITIES["heldout"])
    assert not set(VOICES["train"]) & set(VOICES["heldout"])
    assert len(IDENTITIES["train"]) >= 10_000
    clip = Corpus("heldout", 0).clip(0)
    assert clip.identity in IDENTITIES["heldout"]
    assert clip.voice.seed in VOICES["heldout"]


def test_bad_requests() -> None:
    with pytest.raises(ValueError, match="train, heldout"):
        Corpus("test")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="start at 0"):
        Corpus("train").clip(-1)


@pytest.mark.long
def test_workers_change_nothing(clips: list[Clip]) -> None:
    order = [5, 2, 30, 7]
    made = list(speech_clips("train", 0, order, workers=2))
    assert [clip.index for clip in made] == order
    assert all(same(clip, clips[clip.index]) for clip in made)


@pytest.mark.long
def test_written_files_agree(tmp_path: Path, clips: list[Clip]) -> None:
    import av

    clip = min(clips, key=lambda one: len(one.motion))
    write(clip, tmp_path, size=64)
    with av.open(str(tmp_path / f"train-{clip.index:06d}.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == len(clip.motion)
    record = json.loads((tmp_path / f"train-{clip.index:06d}.json").read_text())
    assert record["text"] == clip.text
    assert np.allclose(record["motion"], clip.motion, atol=1e-4)
