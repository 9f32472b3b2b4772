"""Corpus clips: reproducible, of exact length, with lips that follow the phonemes, in disjoint splits."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from puppet import corpus
from puppet import motion as motion_module
from puppet.corpus import IDENTITIES, VOICES, Clip, bench, speech_clips, write
from puppet.motion import HIGH, INDEX, LOW, MOTION, animate
from puppet.speech import PAUSE, Phoneme, Speech
from talker.clock import FRAME_RATE, HOP, SAMPLE_RATE

pytest.importorskip("espeakng_loader", reason="the extra 'data' is not installed")


# Clip 5 of the training split: mean absolute value of each motion value, RMS of each patch of 0.16 s.
RECORDED_TEXT = "Mia was remarkably rusty."
RECORDED_NUMBERS = (51, 11775, 56)
RECORDED_MOTION = [
    0.0934,
    0.0164,
    0.026,
    0.0683,
    0.0529,
    0.0312,
    0.1332,
    0.1296,
    0.0929,
    0.162,
    0.0344,
    0.0863,
    0.145,
    0.03,
    0.0319,
    0.1701,
    0.1701,
    0.0524,
    0.0646,
    0.1205,
    0.1057,
    0.0,
    0.018,
    0.4663,
]
RECORDED_RMS = [
    0.00041,
    0.00041,
    0.0751,
    0.07183,
    0.05019,
    0.04208,
    0.09624,
    0.03552,
    0.03049,
    0.11731,
    0.03529,
    0.03293,
    0.00042,
    0.00042,
]


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return list(speech_clips("train", 0, range(40)))


def equal(first: Clip, second: Clip) -> bool:
    streams = np.array_equal(first.pcm, second.pcm) and np.array_equal(first.motion, second.motion)
    return streams and first.text == second.text and first.phonemes == second.phonemes


def test_clip_depends_only_on_seed_and_index(clips: list[Clip]) -> None:
    train = bench("train", 0)
    assert all(equal(train.clip(index), clips[index]) for index in (17, 3, 17))
    assert not equal(bench("train", 1).clip(3), clips[3])


def test_recorded_clip_is_reproduced(clips: list[Clip]) -> None:
    """Values of clip 5 of the training split; they must not change, or recorded data sets change."""
    clip = clips[5]
    assert clip.text == RECORDED_TEXT
    assert (clip.voice.seed, clip.identity, len(clip.motion)) == RECORDED_NUMBERS
    assert np.abs(clip.motion).mean(0) == pytest.approx(np.array(RECORDED_MOTION), abs=2e-4)
    assert np.sqrt((clip.pcm**2).reshape(-1, 4 * HOP).mean(1)) == pytest.approx(
        np.array(RECORDED_RMS), rel=0.01, abs=2e-5
    )


def test_clip_has_whole_patches_and_values_in_range(clips: list[Clip]) -> None:
    for clip in clips:
        frames = len(clip.motion)
        assert frames % 4 == 0
        assert clip.pcm.shape == (HOP * frames,)
        assert clip.motion.shape == (frames, len(MOTION))
        assert clip.pcm.dtype == clip.motion.dtype == np.float32
        assert np.abs(clip.pcm).max() < 1
        assert ((clip.motion >= LOW) & (clip.motion <= HIGH)).all()


def test_phonemes_cover_the_clip_without_gaps(clips: list[Clip]) -> None:
    for clip in clips:
        phonemes = clip.phonemes
        assert phonemes[0].start == 0
        assert phonemes[-1].end == pytest.approx(len(clip.motion) / FRAME_RATE)
        gaps = [after.start - before.end for before, after in pairwise(phonemes)]
        if gaps:  # not in an idle clip
            assert -1e-6 < gaps[0] < 0.1  # espeak's first phoneme starts with a delay
        assert np.abs(gaps[1:]).max(initial=0) < 1e-6


def test_added_silence_shifts_sound_and_phonemes_together() -> None:
    """Each phoneme of a signal that is 0.5 in phonemes and 0 in pauses keeps its samples."""
    spans = [("a", 0.0, 0.2), (PAUSE, 0.2, 0.5), ("t", 0.5, 0.7), (PAUSE, 0.7, 1.0), ("u", 1.0, 1.2)]
    times = np.arange(round(1.2 * SAMPLE_RATE)) / SAMPLE_RATE
    sounding = [(times >= start) & (times < end) for symbol, start, end in spans if symbol != PAUSE]
    pcm = np.where(np.any(sounding, axis=0), np.float32(0.5), np.float32(0))
    speech = Speech(pcm, [Phoneme(*span) for span in spans])
    lengths = set()
    for seed in range(30):
        made = corpus._add_silences(speech, np.random.default_rng(seed))
        times = np.arange(len(made.pcm)) / SAMPLE_RATE
        expected = np.zeros(len(made.pcm), bool)
        for phoneme in made.phonemes:
            if phoneme.symbol != PAUSE:
                assert phoneme.end - phoneme.start == pytest.approx(0.2)
                expected |= (times >= phoneme.start - 1e-9) & (times < phoneme.end - 1e-9)
        assert ((made.pcm > 0.25) != expected).sum() <= 6  # times are rounded to samples
        assert [phoneme.symbol for phoneme in made.phonemes] == [PAUSE, *(span[0] for span in spans), PAUSE]
        assert all(one.end == pytest.approx(then.start) for one, then in pairwise(made.phonemes))
        assert made.phonemes[-1].end == pytest.approx(len(made.pcm) / SAMPLE_RATE)
        middle = made.phonemes[1:-1]
        lengths.add(round(middle[-1].end - middle[0].start, 3))
    assert min(lengths) == 1.2
    assert max(lengths) > 1.3


def test_lips_are_closed_in_p_b_and_m(clips: list[Clip]) -> None:
    count = 0
    for clip in clips:
        for phoneme in clip.phonemes:
            if phoneme.symbol in ("p", "b", "m"):
                frame = int((phoneme.start + phoneme.end) / 2 * FRAME_RATE)
                assert clip.motion[frame, INDEX["closure"]] > 0.95
                count += 1
    assert count > 50


def test_open_vowels_open_the_jaw_and_rounded_vowels_round_the_lips(clips: list[Clip]) -> None:
    def mean(symbols: tuple[str, ...], name: str) -> float:
        values = [
            clip.motion[int((phoneme.start + phoneme.end) / 2 * FRAME_RATE), INDEX[name]]
            for clip in clips
            for phoneme in clip.phonemes
            if phoneme.symbol in symbols
        ]
        return float(np.mean(values))

    assert mean(("ɑ", "æ"), "jaw") > 2 * mean(("s", "z", "i"), "jaw")
    assert mean(("u", "w", "oʊ"), "rounding") > 0.4 > 0.1 > mean(("i", "æ"), "rounding")
    assert mean(("i",), "lip_width") > 0.3 > -0.2 > mean(("u", "w"), "lip_width")


def test_lips_move_ahead_of_the_sound_and_rounding_moves_first() -> None:
    phonemes = [Phoneme(PAUSE, 0, 1), Phoneme("u", 1, 1.4, 2), Phoneme(PAUSE, 1.4, 2.4)]
    silence = np.zeros(round(2.4 * SAMPLE_RATE), np.float32)
    motion = animate(Speech(silence, phonemes), np.random.default_rng(0))

    def half_height(name: str) -> tuple[float, float]:
        """Seconds from the rise of the value to the vowel, and from the vowel to its fall."""
        curve = motion[:, INDEX[name]] / motion[:, INDEX[name]].max()
        times = (np.arange(len(curve)) + 0.5) / FRAME_RATE
        rise, fall = np.interp(0.5, curve[:30], times[:30]), np.interp(-0.5, -curve[30:], times[30:])
        return 1 - float(rise), float(fall) - 1.4

    for name in ("rounding", "jaw"):
        lead, lag = half_height(name)
        assert lead > lag + 0.005
    assert half_height("rounding")[0] > half_height("jaw")[0] + 0.002


def test_louder_speech_opens_the_jaw_wider() -> None:
    phonemes = [Phoneme("ɑ", 0, 1, 2), Phoneme("ɑ", 1, 2, 2)]
    pcm = np.concatenate([np.full(SAMPLE_RATE, level, np.float32) for level in (0.02, 0.2)])
    jaw = animate(Speech(pcm, phonemes), np.random.default_rng(0))[:, INDEX["jaw"]]
    assert jaw[35:45].mean() > 1.2 * jaw[5:15].mean()


def test_loudness_is_relative_to_the_loud_frames_and_limited() -> None:
    pcm = np.full(20 * HOP, 0.1, np.float32)
    usual = motion_module._relative_loudness(pcm, 20)
    assert usual[1:-1] == pytest.approx(1)
    pcm[10 * HOP : 11 * HOP] = 0.9
    assert motion_module._relative_loudness(pcm, 20)[10] == 1.3


def test_lips_are_at_rest_in_silence(clips: list[Clip]) -> None:
    lips = [INDEX[name] for name in ("jaw", "closure", "rounding", "lip_width", "upper_lip", "tongue")]
    for clip in clips:
        spoken = [phoneme for phoneme in clip.phonemes if phoneme.symbol != PAUSE]
        first = min((phoneme.start for phoneme in spoken), default=np.inf)
        last = max((phoneme.end for phoneme in spoken), default=0)
        times = (np.arange(len(clip.motion)) + 0.5) / FRAME_RATE
        silent = (times < first - 0.25) | (times > last + 0.25)
        assert np.abs(clip.motion[silent][:, lips]).max(initial=0) < 0.06


def test_heads_move_slowly_and_most_people_blink(clips: list[Clip]) -> None:
    motions = [clip.motion for clip in clips]
    assert max(np.abs(np.diff(motion[:, :6], axis=0)).max() for motion in motions) < 0.05
    assert np.mean([motion[:, INDEX["lid_left"]].max() > 0.9 for motion in motions]) > 0.4


def test_blinks_are_at_least_half_a_second_apart() -> None:
    pauses = [Phoneme(PAUSE, 0.2 * index, 0.2 * (index + 1)) for index in range(200)]
    silence = Speech(np.zeros(40 * SAMPLE_RATE, np.float32), pauses)
    lid = animate(silence, np.random.default_rng(0))[:, INDEX["lid_left"]]
    closed = np.flatnonzero((lid[1:] > 0.95) & (lid[:-1] < 0.95))
    assert len(closed) > 20
    assert (
        np.diff(closed).min() >= 10
    )  # 12 frames between starts; a blink closes 1 or 2 frames after its start


def test_gaze_compensates_head_rotation(clips: list[Clip]) -> None:
    """The mean gaze of a clip is -0.8 times its mean yaw, plus random fixations."""
    gaze = np.array([clip.motion[:, INDEX["gaze_x"]].mean() for clip in clips])
    yaw = np.array([clip.motion[:, INDEX["yaw"]].mean() for clip in clips])
    assert np.polyfit(yaw, gaze, 1)[0] == pytest.approx(-0.8, abs=0.3)


def test_idle_clips_contain_no_speech(clips: list[Clip]) -> None:
    idle = [clip for clip in clips if clip.idle]
    assert idle
    for clip in idle:
        assert clip.text == ""
        assert np.abs(clip.pcm).max() < 0.005
        assert np.abs(clip.motion[:, INDEX["jaw"]]).max() == 0
        assert np.ptp(clip.motion[:, INDEX["breath"]]) > 0.05


def test_splits_share_no_identity_and_no_voice() -> None:
    assert not set(IDENTITIES["train"]) & set(IDENTITIES["heldout"])
    assert not set(VOICES["train"]) & set(VOICES["heldout"])
    assert len(IDENTITIES["train"]) >= 10_000
    clip = bench("heldout", 0).clip(0)
    assert clip.identity in IDENTITIES["heldout"]
    assert clip.voice.seed in VOICES["heldout"]


def test_unknown_split_and_negative_index_are_errors() -> None:
    with pytest.raises(ValueError, match="train, heldout"):
        bench("test")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="start at 0"):
        bench("train").clip(-1)


@pytest.mark.long
def test_workers_make_the_same_clips_in_order(clips: list[Clip]) -> None:
    order = [5, 2, 30, 7]
    made = list(speech_clips("train", 0, order, workers=2))
    assert [clip.index for clip in made] == order
    assert all(equal(clip, clips[clip.index]) for clip in made)


@pytest.mark.long
def test_written_files_agree_with_the_clip(tmp_path: Path, clips: list[Clip]) -> None:
    import av

    clip = min(clips, key=lambda clip: len(clip.motion))
    write(clip, tmp_path, size=64)
    with av.open(str(tmp_path / f"train-{clip.index:06d}.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == len(clip.motion)
        assert "Speech: synthesised by eSpeak NG. Picture: rendered" in container.metadata["comment"]
    with av.open(str(tmp_path / f"train-{clip.index:06d}.wav")) as container:
        found = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
        assert container.metadata["comment"].endswith("Speech: synthesised by eSpeak NG.")
    assert np.array_equal(found, (clip.pcm * 32767).round().astype(np.int16))
    record = json.loads((tmp_path / f"train-{clip.index:06d}.json").read_text())
    assert record["text"] == clip.text
    assert np.allclose(record["motion"], clip.motion, atol=1e-4)
