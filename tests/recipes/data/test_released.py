"""The published data set is read in its own layout; faults of rows are reported and no code is executed."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import pickle
import signal
import tarfile
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from killed import finished, prepare, tree
from prepared_data import tiny_codecs

from recipes.data.prepare.__main__ import BLOCK, _report
from recipes.data.prepare.encode import Setup, encode_released
from recipes.data.prepare.pack import pack
from recipes.data.prepare.samples import read_metadata
from recipes.data.prepared import Prepared
from recipes.data.released import COLUMNS, Released, tar_members
from recipes.data.tar_shards import read_index
from recipes.data.validate import check, check_released
from talker.errors import UserError


def wav(seconds: float, level: float = 0.3, sounding: float = 60.0) -> bytes:
    """A WAV file with a tone at 16 kHz that is silent after `sounding` seconds."""
    file = io.BytesIO()
    time = np.arange(round(16_000 * seconds)) / 16_000
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        pcm = 32767 * level * np.sin(2 * np.pi * 200 * time) * (time < sounding)
        out.writeframes(pcm.astype("<i2").tobytes())
    return file.getvalue()


def motion(frames: int, value: float = 0.5, width: int = 40) -> bytes:
    """A motion file as the published data set stores it."""
    file = io.BytesIO()
    torch.save(torch.full((frames, width), value, dtype=torch.float16), file)
    return file.getvalue()


class _Bomb:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path("/tmp/executed-by-a-pickle"),)


CLIPS = {  # name: sound, motion, length in the table, fault
    "good": (wav(2.0), motion(50), 50, None),
    "test": (wav(2.0), motion(50), 50, None),
    "shorter": (wav(2.0), motion(30), 50, "lengths disagree"),
    "nearly": (wav(2.0), motion(48), 50, None),
    "three off": (wav(2.0), motion(50), 53, "lengths disagree: table 53, motion 50, sound 50.0 frames"),
    "late": (wav(2.16), motion(50), 50, "lengths disagree: table 50, motion 50, sound 54.0 frames"),
    "ends early": (wav(1.97), motion(50), 50, None),
    "brief": (wav(0.44), motion(11), 11, "too short"),
    "nan": (wav(2.0), motion(50, float("nan")), 50, "not finite"),
    "mute": (wav(2.0, 0.0), motion(50), 50, "silent"),
    "long": (wav(0.1), motion(5), 800, "too long"),
    "pickled": (wav(2.0), pickle.dumps(_Bomb(), 2), 50, "unreadable: motion/pickled.pt holds no tensor"),
    "noise": (b"no sound" * 100, motion(50), 50, "unreadable"),
    "absent": (None, motion(50), 50, "missing file: wav/absent.wav"),
    "huge": (wav(2.0), motion(50, 2000.0), 50, "not finite or beyond 1000: motion"),
    "narrow": (wav(2.0), motion(50, width=24), 50, "other motion codes: 24 values per frame"),
    "click": (wav(2.0, sounding=0.2), motion(50), 50, "silent"),
    "slow": (wav(15.0), motion(375), 375, "text does not fit its sound: 12 letters in 15.0 s"),
    "edge": (wav(30.0), motion(751), 750, "too long: 751 frames"),
    "film": (wav(2.0), motion(50), 50, "other frame rate: 24"),
    "fast": (wav(2.0), motion(50), 50, "other frame rate: 30"),
}
RATES = {"film": 24.0, "fast": 30.0}  # frames a second in the table; 25 for the others


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small published data set: a table, a tar of sounds, a tar of motion codes."""
    root = tmp_path_factory.mktemp("released")
    (root / "metadata").mkdir()
    with (root / "metadata/train.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for name, (*_, length, _) in CLIPS.items():
            row = dict.fromkeys(COLUMNS, "") | {"sample_id": name, "split": "train", "text": "So, it goes."}
            row |= {"wav_path": f"wav/{name}.wav", "motion_pt_path": f"motion/{name}.pt"}
            row |= {"pt_length": length, "fps": RATES.get(name, 25.0)}
            writer.writerow(row | ({"split": "test"} if name == "test" else {}))
    for kind, ending, at in (("wav", "wav", 0), ("motion", "pt", 1)):
        with tarfile.open(root / f"{kind}-00000.tar", "w") as archive:
            for name, clip in CLIPS.items():
                if clip[at] is not None:
                    member = tarfile.TarInfo(f"./{kind}/{name}.{ending}")
                    member.size = len(clip[at])
                    archive.addfile(member, io.BytesIO(clip[at]))
    return root


def test_rows_give_sounds_and_motion_codes(root: Path) -> None:
    data = Released(root)
    assert [row.heldout for row in data.rows[:2]] == [False, True]
    assert data.pcm(0).shape == (48_000,)
    assert data.motion(0).shape == (50, 40)
    assert data.motion(0).dtype == torch.float32
    pcm, motion = data.read(list(CLIPS).index("ends early"))
    assert (len(pcm) // 960, len(motion)) == (49, 49), "a picture without sound is cut"


def test_every_fault_of_a_row_is_reported(root: Path) -> None:
    found, problems = check_released(root)
    assert found["rows"] == str(len(CLIPS))
    faults = [f"{name}: {expected}" for name, (*_, expected) in CLIPS.items() if expected]
    for problem, expected in zip(problems, faults, strict=True):
        assert problem.startswith(expected)
    assert not Path("/tmp/executed-by-a-pickle").exists()


def test_preparation_keeps_the_motion_codes_of_the_data_set(root: Path, tmp_path: Path) -> None:
    rows, setup = range(len(CLIPS)), Setup(tiny_codecs(tmp_path / "codecs"), "cpu", None, 0.0)
    encode_released(setup, root, tmp_path, [("rows", rows)])
    metadata = read_metadata(tmp_path / "rows.npz")
    assert len(metadata["notes"]) == sum(metadata["lost"].values()) == len(CLIPS) - 4
    pack(tmp_path, ["rows"], torch.zeros(8), tmp_path)
    train, heldout = (Prepared(tmp_path, split) for split in ("train", "heldout"))
    assert (len(train), len(heldout)) == (3, 1)
    assert torch.equal(train.of("motion", 0), torch.full((50, 40), 0.5))
    assert train.of("audio", 0).shape == (50, 8)
    assert train.text(0) == "So, it goes."


@pytest.mark.long
def test_a_table_without_training_rows_is_reported(tmp_path: Path) -> None:
    (tmp_path / "root/metadata").mkdir(parents=True)
    (tmp_path / "root/a.wav").write_bytes(wav(2.0))
    (tmp_path / "root/a.pt").write_bytes(motion(50))
    row = "a,,test,So it goes.,a.wav,a.pt,,50,25"
    (tmp_path / "root/metadata/train.csv").write_text("\n".join([",".join(COLUMNS), row]))
    assert prepare(tmp_path / "root", tmp_path / "out") == 0
    printed = (tmp_path / "out.log").read_text().splitlines()
    assert printed[-2].startswith("1 clips, 0.0 minutes, from 1 sources; lost: nothing")
    assert printed[-1].startswith("no clip is left to train on")


@pytest.mark.long
def test_blocks_of_rows_are_resumed_after_a_kill_and_missing_files_are_tried_again(tmp_path: Path) -> None:
    root, out, fresh = (tmp_path / name for name in ("root", "out", "fresh"))
    (root / "metadata").mkdir(parents=True)
    row = dict.fromkeys(COLUMNS, "") | {"split": "train", "text": "So, it goes.", "pt_length": 25, "fps": 25}
    with (root / "metadata/train.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for number in range(BLOCK + 2):
            late = "late" if number == BLOCK else "good"
            names = {"sample_id": str(number), "wav_path": f"{late}.wav", "motion_pt_path": "all.pt"}
            writer.writerow(row | names)
    (root / "good.wav").write_bytes(wav(1.0))
    (root / "all.pt").write_bytes(motion(25))
    assert prepare(root, out, kill_at=f"os.rename|/latents/rows-{BLOCK:07d}|1") == -signal.SIGKILL
    done = finished(out)
    assert len(done) == 1
    for folder in (out, fresh):
        assert prepare(root, folder) == 0
    assert done.items() <= finished(out).items()
    assert tree(out) == tree(fresh)
    assert json.loads((out / "report.json").read_text())["reasons"] == {"missing file": 1}
    assert check(out)[1] == []  # although the table has no held-out row
    (root / "late.wav").write_bytes(wav(1.0))
    assert prepare(root, out) == 0
    assert done.items() <= finished(out).items()
    assert len(read_index(out)) == BLOCK + 2


def test_names_of_the_table_cannot_leave_the_folder(root: Path, tmp_path: Path) -> None:
    data = Released(root)
    (root.parent / "outside.wav").write_bytes(wav(1))
    for name in ("../outside.wav", str(root.parent / "outside.wav"), "", ".", "a\0b"):
        with pytest.raises(UserError, match="missing"):
            data._bytes(name)
    for folder in ("one", "two"):  # the same name in two shards stands for neither
        with tarfile.open(tmp_path / f"{folder}.tar", "w") as archive:
            for name in (f"{folder}/same.wav", f"{folder}/{folder}.wav"):
                archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    (tmp_path / "metadata").symlink_to(root / "metadata")
    names = Released(tmp_path)
    assert names._find("same.wav") is None
    assert names._find("one.wav") == names._find("one/one.wav")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        link = tarfile.TarInfo("link.wav")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        large = tarfile.TarInfo("large.wav")
        large.size = 100
        archive.addfile(large, io.BytesIO(bytes(100)))
    raw = (tmp_path / "a.tar").read_bytes()
    assert tar_members(tmp_path / "a.tar") == ({"large.wav": (1024, 100)}, None)
    for content in (b"", b"no tar" * 1000, raw[:1050], raw[:1536]):
        (tmp_path / "other").write_bytes(content)
        members, fault = tar_members(tmp_path / "other")
        assert bool(members) == (len(content) == 1536)
        assert "download it again" in fault


def test_a_table_with_other_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata/train.csv").write_text("id,text\n1,a\n")
    with pytest.raises(UserError, match="has no column"):
        Released(tmp_path)


# Lines of a table whose last column is the text, and the report of each.
LINES = {
    "good,x,train,a.wav,a.pt,,50,25,So it goes.": None,
    "short,x,train,a.wav": "short: bad row: line 3 has fewer values than columns",
    "comma,x,train,a.wav,a.pt,,50,25,So, it goes.": "comma: bad row: line 4 has more values than columns",
    "none,x,train,a.wav,a.pt,,,25,So it goes.": "none: bad row: in line 5 pt_length or fps is not a number",
    "inf,x,train,a.wav,a.pt,,inf,25,So it goes.": "inf: bad row: in line 6 pt_length or fps is not a number",
    ",x,train,a.wav,a.pt,,50,25,So it g\xf6es.": "line 7: bad row: line 7 is not UTF-8",
    "field,x,train,a.wav,a.pt,,50,25," + "a" * 200_000: "line 8: bad row: field larger than",
    f"name,x,train,{'a' * 300},a.pt,,50,25,So it goes.": f"name: missing file: {'a' * 300}",
    "again,x,train,a.wav,a.pt,,50,25,So it goes.": None,
    "cut,x,": "cut: bad row: line 11 has fewer values than columns",
}


def test_bad_lines_and_tars_are_reported_and_the_rest_is_prepared(tmp_path: Path) -> None:
    (tmp_path / "metadata").mkdir()
    columns = [*(name for name in COLUMNS if name != "text"), "text"]
    table = "\n".join([",".join(columns), *LINES]).encode("latin-1")
    (tmp_path / "metadata/train.csv").write_bytes(b"\xef\xbb\xbf" + table)
    (tmp_path / "a.wav").write_bytes(wav(2.0))
    (tmp_path / "a.pt").write_bytes(motion(50))
    (tmp_path / "empty.tar").touch()
    (tmp_path / "noise.tar").write_bytes(b"no tar" * 1000)
    (tmp_path / "lost.tar").symlink_to(tmp_path / "nowhere")
    tars = [f"{name}.tar: damaged tar: it cannot be read as a tar" for name in ("empty", "lost", "noise")]
    expected = [why for why in LINES.values() if why]
    data, problems = Released(tmp_path), check_released(tmp_path)[1]
    assert not data.has_heldout
    for problem, words in zip(problems, [*tars, *expected], strict=True):
        assert problem.startswith(words)
    (tmp_path / "latents").mkdir()
    rows, setup = range(len(data.rows)), Setup(tiny_codecs(tmp_path / "codecs"), "cpu", None, 0.0)
    encode_released(setup, tmp_path, tmp_path / "latents", [("rows", rows)])
    entries = pack(tmp_path / "latents", ["rows"], torch.zeros(8), tmp_path)
    report = _report(tmp_path, ["rows"], [], entries, data.damaged)
    assert report["clips"] == 2
    assert sorted(entry.split for entry in entries) == ["heldout", "train"], "chosen by their names"
    assert report["sources"] == len(LINES)
    assert report["reasons"] == {"bad row": len(expected) - 1, "damaged tar": 3, "missing file": 1}
    assert report["lines"] == [*problems[:3], *(f"rows: {line}" for line in problems[3:])]


def test_tensors_that_declare_a_larger_size_than_they_store_are_refused(root: Path) -> None:
    data = Released(root)
    data.rows[0] = dataclasses.replace(data.rows[0], motion_path="odd.pt")
    for odd in (torch.empty(50, 40, device="meta"), torch.zeros(1).as_strided((2**30, 40), (0, 0))):
        torch.save(odd, root / "odd.pt")
        with pytest.raises(UserError, match=r"odd\.pt holds no motion"):
            data.motion(0)
    (root / "odd.pt").unlink()
