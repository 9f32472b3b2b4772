"""Prepared data: packing and reading are inverse, the talker trains on it, hostile indices are refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from prepared_data import AUDIO, TINY, sample, usual, write_prepared

from recipes.configs.talker import tiny
from recipes.data.clips import LEAST_STD
from recipes.data.prepare import pack
from recipes.data.prepare.pack import heldout_voices
from recipes.data.prepared import Prepared, View, read_statistics, tokens_read_from_words, views_of
from recipes.data.tar_shards import INDEX, SHARDS, Entry, read_index, read_member
from recipes.data.transcript import Cue
from recipes.data.validate import check
from recipes.train_talker import Data, averaged, check_widths, draw, main
from talker.errors import UserError
from talker.model.config import TalkerConfig
from talker.model.model import TalkerModel
from talker.text.tokenizer import PhonemeTokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return usual(tmp_path_factory.mktemp("prepared"))


def test_packed_samples_are_read_back_by_number(folder: Path) -> None:
    clips = {split: Prepared(folder, split) for split in ("train", "heldout")}
    assert sum(map(len, clips.values())) == 24
    voices = [{entry.voice for entry in read_index(folder) if entry.split == split} for split in clips]
    assert not voices[0] & voices[1]  # no voice is in both splits
    train = clips["train"]
    for number in (5, 0, len(train) - 1):
        entry = [entry for entry in read_index(folder) if entry.split == "train"][number]
        video, clip = map(int, entry.key.removeprefix("video").split("-"))
        made = sample(entry.key, entry.frames / 25, 2 * video + clip, bool(video % 2))
        assert torch.equal(train.of("audio", number), torch.from_numpy(made.audio).float())
        assert torch.equal(train.of("motion", number), torch.from_numpy(made.motion).float())
        assert torch.equal(train.embedding(number), torch.from_numpy(made.speaker).float())
        assert train.text(number) == " ".join(cue.text for cue in made.cues)
        assert train.ids(number) == PhonemeTokenizer().encode(train.text(number))
        assert train.frames[number] == len(made.audio)


def test_webdataset_reads_the_shards(folder: Path) -> None:
    from webdataset import WebDataset

    shard = str(next((folder / SHARDS).glob("train*.tar")))
    first = next(iter(WebDataset(shard, shardshuffle=False).decode()))
    assert first["audio.npy"].shape[1] == AUDIO
    assert first["json"]["cues"]


def test_packing_again_writes_no_shard(folder: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in (folder / SHARDS).iterdir()}
    usual(folder)
    assert before == {path.name: path.stat().st_mtime_ns for path in (folder / SHARDS).iterdir()}


def test_statistics_are_those_of_the_training_clips(folder: Path) -> None:
    train = Prepared(folder, "train")
    mean, std = train.statistics()
    audio = torch.cat([train.of("audio", clip) for clip in range(len(train))])
    assert train.widths == TINY.widths
    assert torch.allclose(mean["audio"], audio.mean(0), atol=1e-4)
    assert torch.allclose(std["audio"], audio.std(0, correction=0), atol=1e-4)


def test_deviation_of_a_constant_is_zero() -> None:
    for value in np.linspace(0.1, 3, 50):
        moments = pack.Moments()
        moments.add(np.full((7, 1), value))
        mean, std = moments.mean_std()
        assert (float(mean), float(std)) == pytest.approx((value, 0), abs=1e-6)


def test_about_two_percent_of_the_voices_are_held_out_and_never_all() -> None:
    names = [f"voice{k}" for k in range(2000)]
    heldout = heldout_voices(names)
    assert 20 < len(heldout) < 60
    assert heldout_voices(names[:1000]) == heldout & set(names[:1000])
    assert len(heldout_voices(list(heldout))) == len(heldout) - 1
    assert [len(heldout_voices(names[:count])) for count in range(3)] == [0, 0, 1]


def test_held_out_voices_stay_held_out_when_videos_are_added_or_removed(tmp_path: Path) -> None:
    clips = {name: sample(f"{name}-0", 1, k) for k, name in enumerate("abcdefgh")}
    ranked = sorted(clips, key=lambda name: hashlib.sha256(name.encode()).digest(), reverse=True)
    assert heldout_voices(ranked) == {ranked[-1]}  # no digest is below the threshold: the lowest one counts

    def heldout(names: list[str]) -> set[str]:
        folder = write_prepared(tmp_path, [[clips[name]] for name in names])
        entries = read_index(folder)
        assert {path.name for path in (folder / SHARDS).iterdir()} == {entry.shard for entry in entries}
        return {entry.voice for entry in entries if entry.split == "heldout"}

    assert heldout(ranked[:1]) == set()
    assert heldout(ranked[:3]) == {ranked[2]}
    assert heldout(ranked[:5]) == {ranked[2]}
    assert heldout([*ranked[:2], *ranked[3:5]]) == {ranked[4]}  # one voice must be held out
    assert heldout(ranked) == {ranked[2], ranked[4]}


def test_views_of_a_long_clip_hold_whole_words_with_times_of_the_view() -> None:
    cues = (Cue(1.0, 20.0, "a"), Cue(24.0, 50.0, "b"))
    entry = Entry("long-0", "train", "a.tar", {}, 1300, "long", cues)
    views, dropped = views_of(entry)
    assert not dropped
    # 0.25 s before and after the words, at whole frames.
    assert [(view.first, view.last) for view in views] == [(18, 507), (593, 1257)]
    for view, cue in zip(views, cues, strict=True):
        (shifted,) = view.cues
        assert shifted.start == pytest.approx(cue.start - view.first / 25)
        assert shifted.end == pytest.approx(cue.end - view.first / 25)
    short = dataclasses.replace(entry, frames=750)
    assert views_of(short) == ([View(short, 0, 750, cues)], {})
    joined = dataclasses.replace(entry, cues=(Cue(1.0, 50.0, "a"),))
    assert views_of(joined) == ([], {"too long between two cuts": 1})
    assert views_of(dataclasses.replace(entry, cues=())) == (
        [],
        {"too long, without a transcript to split it at": 1},
    )


def test_views_have_at_most_750_frames() -> None:
    """Also a span of 30 s that begins and ends inside frames."""
    words = (Cue(0.27 + k, 0.77 + k, "went") for k in range(29))
    cues = (*words, Cue(29.27, 30.26, "on"), Cue(40.0, 41.0, "end"))
    entry = Entry("a", "train", "a.tar", {}, 1500, "a", cues)
    (first, second), dropped = views_of(entry)
    assert (first.last - first.first, dropped) == (750, {})
    assert first.first <= 0.27 * 25
    assert second.first >= first.last


@pytest.mark.long
def test_long_clips_are_split_between_words_or_dropped_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usual_clips = [[sample(f"short{k}-0", 2, k)] for k in range(8)]
    timed, untimed = sample("timed-0", 70), sample("untimed-0", 40, word_times=False)
    mute = dataclasses.replace(sample("mute-0", 40), cues=())
    folder = write_prepared(tmp_path, [*usual_clips, [timed], [untimed], [mute]])
    clips = [Prepared(folder, split) for split in ("train", "heldout")]
    views = [(held, k) for held in clips for k in range(len(held)) if held.frames[k] > 50]
    reasons = ("too long between two cuts", "too long, without a transcript to split it at")
    assert clips[0].dropped + clips[1].dropped == dict.fromkeys(reasons, 1)
    problems = check(folder)[1]
    assert all(any(line.endswith(f"parts not read, {why}: 1") for line in problems) for why in reasons)
    train(monkeypatch, folder, tmp_path / "run", steps=1)
    printed = capsys.readouterr().out
    assert all(f"{why} 1" in printed for why in reasons)
    assert len(views) in (3, 4)
    text = " ".join(held.text(k) for held, k in views)
    assert text == " ".join(cue.text for cue in timed.cues)
    for held, k in views:
        assert held.frames[k] <= 750
        first = held._views[k].first
        part = torch.from_numpy(timed.motion[first : first + held.frames[k]]).float()
        assert torch.equal(held.of("motion", k), part)


def test_tokens_read_are_interpolated_between_word_times() -> None:
    words = [Cue(0.0, 1.0, "abc"), Cue(2.0, 3.0, "d"), Cue(3.0, 4.0, "ef")]
    read = tokens_read_from_words(words, 9, np.array([0.5, 1.5, 2.5, 4.0, 9.0]))
    assert read.tolist() == [2.0, 4.0, 5.0, pytest.approx(9.0), 9.0]
    overlapping = [Cue(1.0, 2.0, "into"), Cue(1.7, 3.5, "the"), Cue(3.0, 4.9, "big"), Cue(3.4, 4.6, "it")]
    read = tokens_read_from_words(overlapping, 9, np.arange(0.0, 6.0, 0.1))
    assert (np.diff(read) >= 0).all()
    assert (read[0], read[-1]) == (0.0, pytest.approx(9.0))


def test_tokens_are_read_from_the_first_word_to_the_last(tmp_path: Path) -> None:
    words = tuple(Cue(0.4 + k, 0.9 + k, "went") for k in range(3))
    several = (Cue(0.1, 1.0, "it went"), Cue(1.0, 3.0, "down"))
    cues = {"a-0": words, "a-1": several}
    samples = [dataclasses.replace(sample(key, 4), cues=own) for key, own in cues.items()]
    clips = Prepared(write_prepared(tmp_path, [samples]), "train")
    assert clips.tokens_read(1) is None  # not every cue is a single word
    read, tokens = clips.tokens_read(0).numpy(), len(clips.ids(0))
    ends = 0.16 * (np.arange(25) + 1)  # of the patches
    assert ((read > 0) == (ends > 0.4)).all()
    assert ((read == tokens) == (ends >= 2.9)).all()
    assert np.allclose(read[(ends > 0.9) & (ends < 1.4)], tokens / 3)


def test_standard_deviation_has_a_lower_bound(tmp_path: Path) -> None:
    constant = sample("a", 2)
    constant.motion[:, 1] = 0.5
    clips = Prepared(write_prepared(tmp_path, [[constant]]), "train")
    assert read_statistics(clips.folder)["motion_std"][1] == 0
    std = clips.statistics()[1]["motion"]
    assert std[1].item() == pytest.approx(LEAST_STD)
    assert (std[[0, *range(2, len(std))]] > 10 * LEAST_STD).all()


def test_shards_hold_a_limited_number_of_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "SHARD_CLIPS", 3)
    keys = [f"a-{number}" for number in range(8)]
    samples = [sample(key, 1, number) for number, key in enumerate(keys)]
    folder = write_prepared(tmp_path, [samples[:5], samples[5:]])
    entries = read_index(folder)
    assert [entry.key for entry in entries] == keys
    assert list(Counter(entry.shard for entry in entries).values()) == [3, 3, 2]
    for entry, made in zip(entries, samples, strict=True):
        assert np.array_equal(read_member(folder, entry, "audio"), made.audio)


def test_losses_on_prepared_clips_are_finite(folder: Path) -> None:
    held, run = Prepared(folder, "train"), tiny()
    data = Data.of(held)
    model = TalkerModel(run.model)
    model.stats.set(*held.statistics())
    clips = next(data.from_step(0, run.batch.rows))
    (batch, drawn), *_ = draw(data, 0, clips, run, model.stats)
    errors = model(batch, drawn)
    assert all(torch.isfinite(value).all() for value in errors.values())
    assert 0 < batch.reads.float().mean() < 1  # only half of the videos have word times


def train(monkeypatch: pytest.MonkeyPatch, folder: Path, run: Path, steps: int = 1) -> None:
    settings = ["--set", f"steps={steps}", "--set", "generate_every=0"]
    monkeypatch.setattr(
        "sys.argv", ["", "--config", "tiny", "--data", str(folder), "--run", str(run), *settings]
    )
    main()


def test_training_on_less_than_a_batch_stores_the_statistics_of_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = usual(tmp_path / "prepared", videos=3)
    assert 0 < len(Prepared(folder, "train")) < tiny().batch.rows
    train(monkeypatch, folder, tmp_path / "run", steps=1)
    stats, stored = averaged(tmp_path / "run").stats, read_statistics(folder)
    for name in ("audio_mean", "audio_std", "motion_mean", "motion_std"):
        assert torch.equal(getattr(stats, name), stored[name]), name


def test_training_refuses_data_that_does_not_fit_in_one_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"the clips have latents .*'voice': 128.*'voice': 256.* --config"):
        check_widths(Prepared(folder, "train"), TalkerConfig.base())
    alone = write_prepared(tmp_path / "alone", [[sample("video0-0", 2)]])
    with pytest.raises(SystemExit, match="no clip of the split heldout: prepare more videos"):
        train(monkeypatch, alone, tmp_path / "run")
    with pytest.raises(SystemExit, match=r"cannot be read .* recipes\.data\.prepare"):
        train(monkeypatch, tmp_path, tmp_path / "run")


def _spoiled(folder: Path, out: Path, **change: object) -> Path:
    """A copy of a data set whose first entry has other values."""
    out.mkdir()
    (out / SHARDS).symlink_to(folder / SHARDS)
    lines = (folder / INDEX).read_text().splitlines()
    (out / INDEX).write_text("\n".join([json.dumps(json.loads(lines[0]) | change), *lines[1:]]))
    return out


def test_a_hostile_index_reads_no_other_file(folder: Path, tmp_path: Path) -> None:
    for number, shard in enumerate(("../../secret.tar", "/etc/passwd", "a/b.tar", ".tar", "a.tar\n")):
        with pytest.raises(UserError, match="not a plain file name"):
            read_index(_spoiled(folder, tmp_path / str(number), shard=shard))
    members = {"audio": [0, 2**40], "motion": [0, 10], "speaker": [0, 10]}
    with pytest.raises(UserError, match="out of bounds"):
        read_index(_spoiled(folder, tmp_path / "size", members=members))
    with pytest.raises(UserError, match="line 1 is not a clip"):
        read_index(_spoiled(folder, tmp_path / "cues", cues=[{"start": "x"}]))
    members = {"audio": [0, 512], "motion": [10**9, 100]}
    entry = read_index(_spoiled(folder, tmp_path / "members", members=members))[0]
    for name, words in (("audio", "not an array"), ("motion", "truncated"), ("speaker", "missing")):
        with pytest.raises(UserError, match=words):
            read_member(folder, entry, name)
