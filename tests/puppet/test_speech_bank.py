"""The bank of the teacher's speech: reproducible, resumable, with phone times that fit tokens and samples."""

import multiprocessing
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tone_teacher import KEY, VOWELS, ToneTeacher, write_slowly

from puppet import corpus as corpus_module
from puppet import speech_bank
from puppet.corpus import Corpus
from puppet.draw_mixes import candidate
from puppet.mixes import HELDOUT_SPEAKERS, SHIPPED, Mix, mixes, voices
from puppet.sentences import text
from puppet.speech import PAUSE, frame_levels
from puppet.speech_bank import SpeechBank, record, speak, tokens_of, write
from puppet.teacher import ACCENTED, FOLDER, FRAME, NATIVE, Teacher, Utterance, letters
from puppet.timing import _phonemes, expected_starts, phone_times
from talker.clock import HOP, SAMPLE_RATE
from talker.text.phonemes import PHONES, STRESS_MARKS

COMPUTE_KEY = speech_bank.key.__wrapped__  # without the cache
MIX = Mix(0, "af_heart", "bf_alice", 60, 105)


@pytest.fixture(autouse=True)
def small_shards_and_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech_bank, "SHARD", 3)
    monkeypatch.setattr(speech_bank, "key", lambda: KEY)


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    pytest.importorskip("onnxruntime", reason="the teacher needs the extra 'data'")
    if not (FOLDER / "kokoro.onnx").exists():
        pytest.skip(f"{FOLDER} lacks the teacher: python -m puppet.teacher fetches it")
    return Teacher()


def complete(folder: Path) -> dict[str, bytes]:
    """The finished files of a bank."""
    return {path.name: path.read_bytes() for path in folder.rglob("*.*") if path.suffix != ".part"}


def test_letters_of_every_phone_are_the_teachers() -> None:
    known = set("bdfhijklmnpstuvwzæðŋɑəɔɛɐɜɡɪɹʃʊʌʒθTAIOWYʤʧᵊ ,.?!")
    for phone in PHONES:
        assert letters([phone]), phone
        assert set("".join(letters([phone, "ɹ"]))) <= known, phone


@pytest.mark.parametrize(
    ("tokens", "written"),
    [
        (["h", "ə", "l", "ˈoʊ", ",", "w", "ˈɜ", "l", "d", "."], "həlˈO, wˈɜɹld. "),
        (["ˈʌ", "ð", "ɚ", "ɹ"], "ˈʌðəɹ"),  # the linking ɹ is not written twice
        (["ɐ", " ", "b", "ˈʌ", "ʔ", "n", " ", "ɐ", "b", "ˈaʊ", "t"], "ɐ bˈʌtᵊn əbˈWt"),
        (["l", "ˈɪ", "ɾ", "ə", "l", "?"], "lˈɪTᵊl? "),
        (["dʒ", "ˈɔɪ", "tʃ", "ˌeɪ", "aɪ"], "ʤˈYʧˌAI"),
    ],
)
def test_tokens_are_written_in_the_teachers_letters(tokens: list[str], written: str) -> None:
    assert "".join(letters(tokens)) == written
    assert len(letters(tokens)) == len(tokens)


def test_phone_times_cover_the_clip_and_name_the_phones_of_the_text() -> None:
    for index in range(12):
        one = record(ToneTeacher(), "train", 0, index)
        found, length = one.phonemes(), len(one.pcm) / SAMPLE_RATE
        assert found[0].start == 0
        assert found[-1].end == pytest.approx(length)
        assert all(a.end == pytest.approx(b.start) and a.end >= a.start for a, b in pairwise(found))
        assert all(phone.end - phone.start > 0.0199 for phone in found if phone.symbol != PAUSE)
        named = [phone.symbol for phone in found if phone.symbol != PAUSE]
        assert named == [token.lstrip(STRESS_MARKS) for token in one.tokens if token not in " ,.?!"]


def test_stress_and_words_are_those_of_the_tokens() -> None:
    found = [p for p in speak(ToneTeacher(), "Hello, the actor.", MIX).phonemes() if p.symbol != PAUSE]
    assert [p.word for p in found] == [0] * 4 + [1] * 2 + [2] * 4
    assert [p.stress for p in found][:4] == [0, 0, 0, 2]


@pytest.mark.parametrize("tract", [90, 100, 110])
def test_vowels_are_found_where_they_sound(tract: int) -> None:
    one = speak(ToneTeacher(), "Go to my soul.", Mix(0, "af_heart", "bf_alice", 50, tract))
    levels = frame_levels(one.samples(), HOP // 8)
    for token, (start, stop) in zip(one.tokens, pairwise(one.bounds), strict=True):
        inside = levels[start // (HOP // 8) + 2 : stop // (HOP // 8) - 2]
        assert ((inside > -10) == (token.lstrip(STRESS_MARKS)[0] in VOWELS)).all(), token
    # Unlike the teacher's sounds, the tones do not precede their tokens: the search has to move the borders.
    for phone in one.phonemes():
        middle = levels[round((phone.start + phone.end) / 2 * SAMPLE_RATE / (HOP // 8))]
        assert (middle > -10) == (phone.symbol[0] in VOWELS), phone


def test_a_stop_takes_its_closure_from_the_pause_before_it() -> None:
    """The rest is a pause if it lasts 0.1 s; else all of the gap belongs to the stop."""
    names, words = ["_", "ˈɑ", "_", "p", "ɑ", "_"], [0, 0, 0, 1, 1, 1]
    for gap, starts in ((0.16, [0.0, 0.2, 0.4, 0.51, 0.8, 1.0]), (0.14, [0.0, 0.2, 0.4, 0.8, 1.0])):
        found = _phonemes(names, words, [0.0, 0.2, 0.4, 0.4 + gap, 0.8, 1.0, 1.2])
        assert [phone.start for phone in found] == pytest.approx(starts)
        assert [phone.symbol for phone in found].count(PAUSE) == len(starts) - 3
        assert found[1].stress == 2


def test_durations_outside_of_the_clip_are_survived() -> None:
    tokens, pcm = ["s", "ˈoʊ", "."], np.zeros(4800, np.float32)
    found = phone_times(tokens, [-5000, 100_000, 200_000, 300_000], pcm, 1.0)
    assert [p.symbol for p in found if p.symbol != PAUSE] == ["s", "oʊ"]
    assert found[-1].end == 0.2


class CalledTeacher(ToneTeacher):
    """Refuses the first `refused` texts, and keeps the speeds of the others."""

    def __init__(self, refused: int = 0) -> None:
        super().__init__()
        self.refused, self.speeds = refused, list[float]()

    def speak(self, tokens: list[str], speaker: Mix, speed: float) -> Utterance:
        if self.refused:
            self.refused -= 1
            raise ValueError("a word without a pronunciation")
        self.speeds.append(speed)
        return super().speak(tokens, speaker, speed)


def test_a_scaled_vocal_tract_does_not_change_the_speed() -> None:
    """Speech that is played faster is spoken more slowly."""
    teacher = CalledTeacher()
    speak(teacher, "Go.", MIX, 1.2)
    assert teacher.speeds == [pytest.approx(1.2 / 1.05)]


def test_a_text_that_cannot_be_spoken_is_replaced_by_another() -> None:
    usual, other = (record(CalledTeacher(refused), "train", 0, 3) for refused in (0, 1))
    assert (usual.voice, usual.speed) == (other.voice, other.speed)
    assert usual.text == text("train", 3) != other.text


def test_the_lead_of_the_sound_shrinks_with_the_vocal_tract() -> None:
    """The sound of a token precedes its frames of 5 ms by 53 ms, or by 50 ms if it is played 6 % faster."""
    tokens, bounds = ["h", "ˈaʊ", "."], [2400, 4800, 7200, 9600]
    assert expected_starts(tokens, bounds, 1.0) == pytest.approx([20 - 10.6, 40 - 10.6, 60 - 10.6])
    assert expected_starts(tokens, bounds, 1.06) == pytest.approx([20 - 10, 40 - 10, 60 - 10])


class InterruptedTeacher(ToneTeacher):
    """Is interrupted at its fifth clip, in the second shard."""

    def speak(self, tokens: list[str], speaker: Mix, speed: float) -> Utterance:
        if self.spoken == 4:
            raise KeyboardInterrupt
        return super().speak(tokens, speaker, speed)


def test_bank_is_the_same_after_an_interruption(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "interrupted", 20 / 3600, teacher=InterruptedTeacher())
    assert len(SpeechBank(tmp_path / "interrupted")) == 3
    write(tmp_path / "interrupted", 20 / 3600, teacher=(again := ToneTeacher()))
    write(tmp_path / "whole", 20 / 3600, teacher=ToneTeacher())
    assert complete(tmp_path / "interrupted") == complete(tmp_path / "whole")
    assert again.spoken == len(SpeechBank(tmp_path / "whole")) - 3  # what was complete is not spoken again


@pytest.mark.long
def test_bank_is_the_same_after_a_kill(tmp_path: Path) -> None:
    write(tmp_path / "whole", 1 / 3600, teacher=ToneTeacher())
    # A fork of a process with PyTorch's threads may hang.
    process = multiprocessing.get_context("spawn").Process(
        target=write_slowly, args=(tmp_path / "killed", speech_bank.SHARD)
    )
    process.start()
    while not list((tmp_path / "killed").glob("train/*.json")):
        assert process.is_alive()
        time.sleep(0.01)
    process.kill()
    process.join()
    shards = len(list((tmp_path / "killed").glob("train/*.json")))
    seconds = SpeechBank(tmp_path / "killed").seconds + 1
    write(tmp_path / "whole", seconds / 3600, teacher=ToneTeacher())
    write(tmp_path / "killed", seconds / 3600, teacher=(again := ToneTeacher()))
    assert complete(tmp_path / "killed") == complete(tmp_path / "whole")
    whole = len(SpeechBank(tmp_path / "whole"))
    assert again.spoken == whole - shards * speech_bank.SHARD  # what was complete is not spoken again


def test_finished_bank_is_not_spoken_again_and_grows(tmp_path: Path) -> None:
    write(tmp_path, 10 / 3600, teacher=ToneTeacher())
    before, again = SpeechBank(tmp_path), ToneTeacher()
    write(tmp_path, 10 / 3600, teacher=again)
    assert again.spoken == 0
    write(tmp_path, before.seconds / 3600 + 1 / 3600, teacher=again)
    after = SpeechBank(tmp_path)
    assert len(after) == len(before) + 3
    assert [after[i].text for i in range(len(before))] == [before[i].text for i in range(len(before))]
    assert np.array_equal(after[1].pcm, before[1].pcm)


def test_bank_returns_what_was_recorded(tmp_path: Path) -> None:
    write(tmp_path, 5 / 3600, teacher=ToneTeacher())
    held, one = SpeechBank(tmp_path)[1], record(ToneTeacher(), "train", 0, 1)
    assert (held.text, held.voice, held.speed, held.tokens, held.bounds) == (
        one.text,
        one.voice,
        one.speed,
        one.tokens,
        one.bounds,
    )
    assert np.array_equal(held.pcm, one.pcm)


def test_voices_of_a_split_are_its_own_and_a_tenth_of_the_training_clips_are_of_shipped_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(speech_bank, "speak", lambda teacher, words, voice, speed: voice.seed)
    heldout = {record(ToneTeacher(), "heldout", 0, index) for index in range(300)}
    assert heldout <= set(voices("heldout"))
    assert len(heldout) > 40
    train = [record(ToneTeacher(), "train", 0, index) for index in range(600)]
    assert set(train) <= set(voices("train"))
    assert 0.07 < sum(seed in SHIPPED.values() for seed in train) / 600 < 0.15


def test_bank_of_something_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 5 / 3600, teacher=ToneTeacher())
    with pytest.raises(ValueError, match="another text frontend, teacher or seed"):
        write(tmp_path, 5 / 3600, seed=1, teacher=ToneTeacher())
    Corpus(bank=tmp_path)
    monkeypatch.setattr("puppet.speech_bank.key", lambda: "other")
    with pytest.raises(ValueError, match="remove it and make it again"):
        Corpus(bank=tmp_path)


def test_key_depends_on_the_readings_of_the_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech_bank, "_READ", 20)
    compute = COMPUTE_KEY
    before = compute()
    assert compute() == before
    monkeypatch.setattr(speech_bank, "tokens_of", lambda text: tokens_of(text.replace("the", "a")))
    assert compute() != before


def test_missing_and_damaged_banks_name_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"run python -m puppet\.teacher"):
        Corpus(bank=tmp_path)
    write(tmp_path, 5 / 3600, teacher=ToneTeacher())
    np.save(tmp_path / "train" / "00000.npy", np.zeros(3, np.int16))
    with pytest.raises(ValueError, match="damaged"):
        SpeechBank(tmp_path)


class SlowTeacher(ToneTeacher):
    """Makes every pause 0.5 s long."""

    def speak(self, tokens: list[str], speaker: Mix, speed: float) -> Utterance:
        short = super().speak(tokens, speaker, speed)
        parts = np.split(short.pcm, np.cumsum([short.lead, *short.durations])[:-1] * FRAME)
        pauses = [token in " ,.?!" for token in tokens]
        longer = [np.pad(part, (0, 16 * FRAME * wide)) for part, wide in zip(parts[1:], pauses, strict=True)]
        durations = [length + 16 * wide for length, wide in zip(short.durations, pauses, strict=True)]
        return Utterance(np.concatenate([parts[0], *longer]), short.lead, durations)


def test_corpus_speaks_from_the_bank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 20 / 3600, teacher=SlowTeacher())
    corpus = Corpus(bank=tmp_path)
    spoken = [corpus.clip(index) for index in range(len(corpus.bank) + 2)]
    first, again = spoken[0], spoken[len(corpus.bank)]
    assert first.text == again.text == corpus.bank[0].text
    assert first.identity != again.identity
    assert all(len(clip.pcm) == HOP * len(clip.motion) and len(clip.motion) % 4 == 0 for clip in spoken)
    for clip, one in zip(spoken, corpus.bank, strict=False):  # silence is only added at both ends
        if not clip.idle:
            start, recorded = clip.phonemes[0].end, one.phonemes()
            assert [p.symbol for p in clip.phonemes[1:-1]] == [p.symbol for p in recorded]
            found = [p.end - start for p in clip.phonemes[1:-1]]
            assert found == pytest.approx([p.end for p in recorded], abs=1e-4)
    again = corpus.clip(1)
    assert np.array_equal(again.pcm, spoken[1].pcm)
    assert np.array_equal(again.motion, spoken[1].motion)
    monkeypatch.setattr(corpus_module, "_IDLE_SHARE", 1.0)
    idle = corpus.clip(1)
    assert (idle.idle, idle.text, [phoneme.symbol for phoneme in idle.phonemes]) == (True, "", [PAUSE])


def test_voices_of_the_splits_share_no_speaker() -> None:
    train, heldout = ({n for v in voices(s) for n in mixes()[v].shares} for s in ("train", "heldout"))
    assert heldout <= set(HELDOUT_SPEAKERS)
    assert not train & set(HELDOUT_SPEAKERS)
    assert len(voices("train")) >= 500
    assert set(SHIPPED.values()) <= set(voices("train"))


def test_voices_are_mixes_within_their_bounds() -> None:
    for mix in mixes().values():
        assert mix.first != mix.second
        assert 35 <= mix.percent <= 65
        assert 90 <= mix.tract_percent <= 110
        assert sum(mix.shares.values()) == pytest.approx(1)
    assert len(set(mixes().values())) == len(mixes())


def test_mixes_are_mostly_of_one_sex_and_of_the_speakers_of_their_split() -> None:
    for heldout in (False, True):
        drawn = [candidate(seed, heldout) for seed in range(300)]
        assert 0.8 < np.mean([mix.first[1] == mix.second[1] for mix in drawn]) < 1
        assert {(name in HELDOUT_SPEAKERS) for mix in drawn for name in mix.shares} == {heldout}
        assert all(mix.first != mix.second for mix in drawn)
    assert np.mean([not {*candidate(seed, False).shares} & {*NATIVE} for seed in range(300)]) < 0.2


def test_speakers_named_after_a_closed_service_are_left_out() -> None:
    for name in NATIVE + ACCENTED:
        assert not name.endswith(("alloy", "echo", "fable", "nova", "onyx", "sky", "nicole"))


def test_texts_range_from_one_word_to_long_sentences() -> None:
    drawn = [text("train", index) for index in range(600)]
    words = np.array([len(one.split()) for one in drawn])
    assert 0.05 < (words == 1).mean() < 0.2
    assert (words > 15).mean() > 0.04
    assert len(set(drawn)) > 530
    assert {mark for one in drawn for mark in one if not mark.isalnum()} >= set(".?!,$%'")


def test_missing_teacher_names_the_command(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the teacher needs the extra 'data'")
    with pytest.raises(FileNotFoundError, match=r"run python -m puppet\.teacher"):
        Teacher(tmp_path)
    (tmp_path / "kokoro.onnx").write_bytes(b"other")
    with pytest.raises(ValueError, match="damaged"):
        Teacher(tmp_path)


class Counting:
    """In place of the teacher's network: input k lasts k + 1 frames."""

    def run(self, names: list[str], inputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        self.inputs, counts = inputs, np.arange(inputs["tokens"].shape[1]) + 1
        return np.zeros(FRAME * counts.sum(), np.float32), counts[None]


def test_duration_of_a_token_is_that_of_its_letters() -> None:
    teacher, network = Teacher.__new__(Teacher), Counting()
    teacher._session, teacher._ids = network, {letter: ord(letter) for letter in "hˈəɹW. "}
    rows = np.tile(np.arange(510)[:, None], 256)
    teacher._styles = {name: rows + number for number, name in enumerate(NATIVE)}
    mix = Mix(0, NATIVE[1], NATIVE[3], 75, 100)
    spoken = teacher.speak(["h", "ˈaʊ", "ɚ", "."], mix, 1.5)
    assert network.inputs["tokens"].tolist() == [[0, *map(ord, "hˈWəɹ."), 0]]  # no space after the last mark
    assert (spoken.lead, spoken.durations) == (1, [2, 3 + 4, 5 + 6, 7])
    assert len(spoken.pcm) == FRAME * sum(range(1, 9))
    assert network.inputs["speed"] == 1.5
    assert np.allclose(network.inputs["style"], 5 + 0.75 * 1 + 0.25 * 3)  # the row of six letters


def test_durations_of_the_teacher_sum_to_its_samples(teacher: Teacher) -> None:
    tokens = tokens_of("Go.")
    first, second = (teacher.speak(tokens, MIX) for _ in range(2))
    assert np.array_equal(first.pcm, second.pcm)  # no random numbers
    end = FRAME * (first.lead + sum(first.durations))
    assert 0 < len(first.pcm) - end <= 3 * FRAME  # the frames of the mark that ends the teacher's input
    assert len(first.durations) == len(tokens)


def test_teacher_refuses_what_it_cannot_say(teacher: Teacher) -> None:
    with pytest.raises(ValueError, match="cannot pronounce '<'"):
        teacher.speak(["<x>"], MIX)
    with pytest.raises(ValueError, match="1 to 510"):
        teacher.speak(["ə"] * 600, MIX)
    with pytest.raises(ValueError, match="unknown speaker"):
        teacher.style("af_nobody")
