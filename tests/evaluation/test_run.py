"""Totals in closed form, codecs on tiny networks, and one measured clip."""

from __future__ import annotations

import argparse
import contextlib
import json
import wave
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_checkpoint import write_checkpoint

from audio_vae.config import AudioVAEConfig
from audio_vae.model import AudioVAE
from evaluation import run
from evaluation.codecs import Reenactment, reenact, round_trip
from evaluation.heldout import Case
from evaluation.report import write_wav
from evaluation.run import Measured, compare_with_targets, talker_figures
from evaluation.speech import Recogniser, RecogniserConfig
from evaluation.sync import SyncConfig, SyncNet
from evaluation.threads import torch_threads
from evaluation.validate import auc, correlation, shifted
from evaluation.video import ssim
from motion_ae.config import MotionAEConfig
from motion_ae.model import MotionAE
from talker import Talker


def case(phonemes: str) -> Case:
    silence = torch.zeros(960)
    return Case("0", "text", silence, list(phonemes), silence, np.zeros((8, 8, 3), np.uint8))


def row(heard: str, end: str, ratio: float, offset: int) -> dict:
    return {
        "heard": " ".join(heard),
        "end": end,
        "duration_ratio": ratio,
        "offset": offset,
        "confidence": 0.5,
        "silent_closed": None,
        "rtf": 0.5,
    }


def test_totals_sum_edits_and_count_clips() -> None:
    rows = [row("abc", "stop", 1.2, 1), row("xyzt", "stop", 0.7, 0), row("q", "length", 0.8, -2)]
    figures = talker_figures(rows, [case("abd"), case("xyzt"), case("qrs")])
    assert figures["per"] == pytest.approx(3 / 10)
    assert figures["per_shuffled"] == pytest.approx((4 + 4 + 3) / 10)
    assert figures["share_stopped"] == figures["share_offset_within_1"] == pytest.approx(2 / 3)
    assert figures["share_duration_within_25"] == pytest.approx(2 / 3)
    assert figures["share_stopped_within_25"] == pytest.approx(1 / 3)
    assert figures["duration_ratio_median"] == 0.8
    assert (figures["confidence_mean"], figures["rtf_mean"], figures["silent_closed"]) == (0.5, 0.5, None)
    closed = [{**each, "silent_closed": value} for each, value in zip(rows, (0.25, 0.75, None), strict=True)]
    assert talker_figures(closed, [case("abd"), case("xyzt"), case("qrs")])["silent_closed"] == 0.5
    brief = [{k: v for k, v in rows[0].items() if k not in ("offset", "confidence")}, *rows[1:]]
    assert talker_figures(brief, [case("abd"), case("xyzt"), case("qrs")])[
        "share_offset_within_1"
    ] == pytest.approx(1 / 3), "a clip that is too short to be compared is no success"
    lines = {line["figure"]: line for line in compare_with_targets(figures)}
    assert lines["per"]["met"] == "NO"
    assert lines["per_shuffled"]["met"] == lines["rtf_mean"]["met"] == "yes"
    assert "met" not in lines["share_stopped"]


def test_shift_moves_whole_frames_and_fills_with_silence() -> None:
    pcm = torch.arange(1.0, 4 * 960 + 1)
    assert torch.equal(shifted(pcm, 0), pcm)
    assert torch.equal(shifted(pcm, 1)[960:], pcm[:-960])
    assert torch.equal(shifted(pcm, -1)[:-960], pcm[960:])
    assert float(shifted(pcm, 2)[: 2 * 960].abs().sum() + shifted(pcm, -2)[-2 * 960 :].abs().sum()) == 0


def test_auc_and_correlation_in_closed_form() -> None:
    assert auc([2.0, 3.0], [0.0, 1.0]) == 1.0
    assert auc([0.0], [1.0]) == 0.0
    assert auc([1.0], [1.0]) == 0.5
    line = torch.arange(5.0)
    assert correlation(line, 3 * line - 1) == pytest.approx(1.0)
    assert correlation(line, -line) == pytest.approx(-1.0)


def test_wav_contains_the_samples(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", torch.tensor([0.0, 0.5, -1.0, 2.0]))
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert (file.getframerate(), file.getnchannels()) == (24_000, 1)
        assert np.frombuffer(file.readframes(4), np.int16).tolist() == [0, 16384, -32767, 32767]


def test_audio_round_trip_keeps_whole_frames() -> None:
    vae = AudioVAE(AudioVAEConfig.tiny()).eval()
    assert round_trip(vae, torch.zeros(4 * vae.hop + 5)).shape == (4 * vae.hop,)


@torch.no_grad()
def test_reenactment_of_several_pairs_has_one_psnr() -> None:
    model = MotionAE(MotionAEConfig.tiny()).eval()
    size = model.config.resolution
    source, box = torch.randint(256, (3, size, size)) / 255, (0, 0, size // 2, size // 2)
    still = reenact(model, source, source, box)
    moved = reenact(model, source, 1 - source, box)
    assert still.figures()["copy_mouth_db"] == float("inf")
    total = Reenactment() + still + moved
    assert total.pairs == 2
    expected = moved.copy_mouth.psnr + 10 * np.log10(2)
    found = total.figures()
    assert found["copy_mouth_db"] == pytest.approx(expected)
    assert found["mouth_gain_db"] == pytest.approx(found["mouth_db"] - found["copy_mouth_db"])
    assert found["ssim"] == pytest.approx((still.ssim + moved.ssim) / 2)
    assert found["ssim_mouth"] == pytest.approx((still.ssim_mouth + moved.ssim_mouth) / 2)
    portrait = model.encode_source(2 * source[None] - 1)
    shown = (127.5 * (model.decode(model.encode(1 - 2 * source[None]), portrait)[0] + 1)).round() / 255

    def psnr(difference: torch.Tensor) -> float:
        return -10 * float(difference.square().mean().log10())

    assert moved.ssim == pytest.approx(ssim(shown, 1 - source), abs=1e-4)
    assert moved.ssim_mouth == pytest.approx(ssim(shown, 1 - source, box), abs=1e-4)
    assert moved.whole.psnr == pytest.approx(psnr(shown - 1 + source), abs=1e-3)
    assert moved.mouth.psnr == pytest.approx(
        psnr((shown - 1 + source)[:, : size // 2, : size // 2]), abs=1e-3
    )
    assert moved.copy_whole.psnr == pytest.approx(psnr(2 * source - 1), abs=1e-3)
    assert moved.copy_mouth.psnr == pytest.approx(
        psnr((2 * source - 1)[:, : size // 2, : size // 2]), abs=1e-3
    )


def test_say_measures_and_saves_a_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoint(tmp_path)
    monkeypatch.setattr(run, "recogniser", lambda: Recogniser(RecogniserConfig.tiny()).eval())
    monkeypatch.setattr(run, "sync_net", lambda: SyncNet(SyncConfig.tiny()).eval())
    monkeypatch.setattr(run, "spoken_seconds", lambda pcm: 2.0 if len(pcm) == 24_000 else 3.0)
    monkeypatch.setattr(run, "silent_frames", lambda pcm: torch.arange(len(pcm) // 960) < 4)
    monkeypatch.setattr(run, "mouth_opening", lambda net, frames: (torch.arange(len(frames)) > 0).float())
    prompt = 0.1 * torch.sin(torch.arange(24_000) * 0.05)
    face = np.full((32, 32, 3), 128, np.uint8)
    spoken = Case("0007", "Go.", prompt, ["ɡ", "oʊ"], prompt, face)
    out = tmp_path / "out"
    out.mkdir()
    measured = run.say(Talker.from_pretrained(tmp_path), spoken, 1, out)
    assert (measured["phonemes"], measured["duration_ratio"]) == (2, 1.5), "of the speech, without silence"
    assert measured["silent_closed"] == 0.25, "the first of the four silent frames"
    assert measured["end"] in ("stop", "length")
    assert {"0007.mp4", "0007.png", "0007-voice.wav", "0007-portrait.png"} <= {p.name for p in out.iterdir()}
    assert "per" in talker_figures([measured], [spoken])


@pytest.mark.parametrize("fails", [False, True])
def test_measurement_restores_the_number_of_threads(fails: bool) -> None:
    before = torch.get_num_threads()
    with contextlib.suppress(RuntimeError), torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        if fails:
            raise RuntimeError
    assert torch.get_num_threads() == before


def test_measured_clips_are_kept_for_the_same_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "measured.jsonl"
    first = Measured(path, {"seed": "1"})
    first.add("a", [{"per": 0.5}])
    first.add("b", [{"per": None}, {}])
    assert not capsys.readouterr().out
    with path.open("a") as file:
        file.write('{"settings": {"seed": "1"}, "clip": "c", "ro')  # the process was killed
    second = Measured(path, {"seed": "1"})
    assert second.rows == first.rows == {"a": [{"per": 0.5}], "b": [{"per": None}, {}]}
    assert f"{path}: 2 clips are measured already" in capsys.readouterr().out
    second.add("c", [])
    assert Measured(path, {"seed": "1"}).rows.keys() == {"a", "b", "c"}
    assert not Measured(path, {"seed": "2"}).rows


def test_interrupted_measurement_continues_with_the_next_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth, said, broken = (
        [replace(case("ab"), name=str(k)) for k in range(3)],
        list[tuple[str, int]](),
        [True],
    )

    def say(talker: object, one: Case, seed: int, folder: Path) -> dict:
        if one.name == "1" and broken.pop():
            raise KeyboardInterrupt
        said.append((one.name, seed))
        return row("ab", "stop", 1.0, 0) | {"per": 0.0}

    def perform(talker: object, clip: tuple, folder: Path, tasks: tuple, seed: int) -> list[dict]:
        return [{"task": task, "edits": seed, "phonemes": 10} for task in tasks]

    monkeypatch.setattr(run, "say", say)
    monkeypatch.setattr(run, "perform_clip", perform)
    monkeypatch.setattr(run, "cases", lambda split, count: iter(truth[:count]))
    monkeypatch.setattr(run, "performances", lambda split, count: iter([(truth[0], None)][:count]))
    monkeypatch.setattr(run, "audio_figures", lambda cases, model: {"per_audio_vae": len(cases)})
    monkeypatch.setattr(run, "motion_figures", lambda split, count, model: {"pairs": count})
    monkeypatch.setattr(Talker, "from_pretrained", lambda model: None)
    parts = ["talker", "tasks", "audio_vae", "motion_ae"]
    options = argparse.Namespace(split="heldout", n=3, tasks=1, pairs=4, model=tmp_path, parts=parts, seed=5)
    with pytest.raises(KeyboardInterrupt):
        run.evaluate(options, tmp_path / "out")
    broken.append(False)
    run.evaluate(options, tmp_path / "out")
    assert said == [("0", 5), ("1", 6), ("2", 7)]
    held = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (held["settings"]["n"], len(held["clips"])) == ("3", 3 + 4)
    expected = {"per": 0, "per_audio_vae": 3, "pairs": 4, "v2a_per": 0.5, "tts_per": 0.5}
    assert {name: held["figures"][name] for name in expected} == expected
    assert not (tmp_path / "out" / "measured.jsonl").exists()


def test_codecs_are_measured_on_all_clips_and_pairs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The codec of this test removes all phonemes but the first of each clip."""
    recogniser = SimpleNamespace(transcribe=lambda pcm: ["a", "b", "c", "d"][: len(pcm)])
    monkeypatch.setattr(run, "recogniser", lambda: recogniser)
    monkeypatch.setattr(run, "load_component", lambda network, config, folder: folder)
    monkeypatch.setattr(run, "round_trip", lambda vae, pcm: pcm[:1])
    truth = [replace(case("ab"), pcm=torch.zeros(2)), replace(case("abcx"), pcm=torch.zeros(4))]
    figures = run.audio_figures(truth, tmp_path)
    assert figures == {"per_corpus": 1 / 6, "per_audio_vae": 4 / 6}
    images = [torch.full((3, 16, 16), value) for value in (0.1, 0.4)]
    monkeypatch.setattr(run, "pairs", lambda split, count: iter([(*images, (0, 0, 16, 16))] * count))
    monkeypatch.setattr(
        run, "reenact", lambda model, source, target, box: Reenactment(ssim=float(target.max()), pairs=1)
    )
    figures = run.motion_figures("heldout", 3, tmp_path)
    assert (figures["pairs"], figures["ssim"]) == (3, pytest.approx(0.4))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-n", "0"], "-n must be at least 1"),
        (["--threads", "-1"], "--threads"),
        (["--model", "nope"], "nope is neither"),
    ],
)
def test_a_wrong_call_ends_with_one_line_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    monkeypatch.setattr("sys.argv", ["run.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        run.main()
    assert ended.value.code == 2
    assert words in capsys.readouterr().err.splitlines()[-1]
