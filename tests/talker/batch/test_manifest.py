"""The manifest: JSON lines and CSV, checks of fields and files, consent, and paths below the root."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from media_files import person, write_sound, write_video
from PIL import Image
from tiny_checkpoint import write_voice

from talker.batch.inputs import find_inputs
from talker.batch.manifest import Row, inside, read_manifest
from talker.cli import main
from talker.errors import UserError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    write_video(root / "a ü.mp4", [person(64)] * 8)
    write_voice(root / "voice.wav")
    write_sound(root / "a.flac", "flac")
    Image.fromarray(person(64)).save(root / "face.png")
    (root / "a.srt").write_text("1\n00:00:00,000 --> 00:00:00,300\nGo.\n")
    (root / "text.mp4").write_text("no video at all")
    (root / "empty.mp4").touch()
    (root / "folder.mp4").mkdir()
    return root


def test_json_lines_and_csv_give_the_same_rows(tmp_path: Path) -> None:
    values = {"id": "ä 1", "video": "v.mp4", "text": "Go, now.", "seed": 7, "start": 0.5, "consent": "yes"}
    values |= {"voices": {"Anna": "ada", "Ben": "frank"}, "keep_sound": True, "guidance": 2}
    (tmp_path / "a.jsonl").write_text(json.dumps(values) + "\n\n")
    cells = values | {"voices": "Anna=ada; Ben=frank", "keep_sound": "yes"}
    quoted = ['"' + str(cell).replace('"', '""') + '"' for cell in cells.values()]
    for delimiter in ",;\t":
        lines = [delimiter.join(cells), delimiter.join(quoted)]
        (tmp_path / "a.csv").write_bytes("\r\n".join(lines).encode("utf-8-sig"))
        assert read_manifest(tmp_path / "a.csv") == read_manifest(tmp_path / "a.jsonl")
    (entry,) = read_manifest(tmp_path / "a.jsonl")
    assert entry.row == Row(
        id="ä 1", video="v.mp4", text="Go, now.", seed=7, start=0.5, consent=True, keep_sound=True,
        voices=(("Anna", "ada"), ("Ben", "frank")), guidance=2.0,
    )  # fmt: skip


def test_defaults_fill_fields_that_a_row_lacks(tmp_path: Path) -> None:
    (tmp_path / "m").write_text('{"video": "a/x.mp4"}\n{"video": "y.mp4", "length": "trim"}')
    rows = [entry.row for entry in read_manifest(tmp_path / "m", {"length": "extend", "seed": "3"})]
    assert [(row.id, row.length, row.seed) for row in rows if row] == [("x", "extend", 3), ("y", "trim", 3)]


def test_null_stands_for_no_value_and_the_order_of_voices_does_not_count(tmp_path: Path) -> None:
    nulls = '"length": null, "end": null, "seed": 0'
    lines = ['{"id": "a", "video": "v", "voices": {"B": "b", "A": "a"}, ' + nulls + "}",
             '{"id": "b", "video": "v", "start": "0", "voices": "A=a; B=b"}']  # fmt: skip
    (tmp_path / "m").write_text("\n".join(lines))
    one, other = (entry.row for entry in read_manifest(tmp_path / "m", {"length": "trim"}))
    assert one == dataclasses.replace(other, id="a")
    assert one == Row(id="a", video="v", length="trim", voices=(("A", "a"), ("B", "b")))


BAD_ROWS = {
    '{"id": "a"}': "no video",
    "{": "no JSON object",
    "[1]": "no JSON object",
    '{"id": "../a", "video": "v"}': "cannot be an id",
    '{"id": "report", "video": "v"}': "cannot be an id",
    '{"id": "a", "video": "v", "colour": 1}': "is no field",
    '{"id": "a", "video": "v", "mode": "sing"}': "choose one of auto, voice, relip",
    '{"id": "a", "video": "v", "seed": 1.5}': "write a number",
    '{"id": "a", "video": "v", "steps": true}': "write a number",
    '{"id": "a", "video": "v", "loudness": -71}': "between -70 and -5",
    '{"id": "a", "video": "v", "start": NaN}': "NaN is no number",
    '{"id": "a", "video": "v", "start": -1}': "between 0 and",
    '{"id": "a", "video": "v", "consent": "maybe"}': "write yes or no",
    '{"id": "a", "video": "v", "face": "index:-1"}': "choose largest",
    '{"id": "a", "video": ["v"]}': "write it as text",
    '{"id": "a", "video": "v", "text": "\\ud800"}': "is no text",
    '{"id": "a", "video": "v", "voices": "Anna"}': "SPEAKER=VOICE",
}


def test_an_invalid_row_has_a_problem_and_the_others_are_read(tmp_path: Path) -> None:
    good = '{"id": "good", "video": "v"}'
    (tmp_path / "m.jsonl").write_text("\n".join([*BAD_ROWS, good]).replace('"id": "a"', '"id": "ID"'))
    lines = (tmp_path / "m.jsonl").read_text().replace("ID", "{}").split("\n")
    numbered = [line.replace('"id": "{}"', f'"id": "r{number}"') for number, line in enumerate(lines)]
    (tmp_path / "m.jsonl").write_text("\n".join(numbered))
    *bad, last = read_manifest(tmp_path / "m.jsonl")
    assert last.row is not None
    for entry, expected in zip(bad, BAD_ROWS.values(), strict=True):
        assert entry.row is None
        assert expected in entry.problem
        assert "\n" not in entry.problem


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("m.jsonl", "\n", "has no row"),
        ("m.jsonl", '{"id": "É", "video": "v"}\n{"id": "e\u0301", "video": "v"}', "two rows with the id"),
        ("m.csv", "id,colour\na,b\n", "unknown column 'colour'"),
        ("m.csv", 'id,video\na,"b\n', "no CSV file"),
        ("m.jsonl", "\0\0\0", "cannot be read as a manifest"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_an_error(tmp_path: Path, name: str, text: str, match: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=match):
        read_manifest(tmp_path / name)


def test_paths_stay_below_the_root_also_through_links(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret").touch()
    (tmp_path / "root2").touch()
    (root / "file").touch()
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "up").symlink_to(tmp_path)
    (root / "inner").symlink_to(root / "file")
    assert inside(root, "inner") == inside(root, str(root / "file")) == (root / "file").resolve()
    for name in ("../secret", "../root2", "link", "up/secret", str(tmp_path / "secret"), "/etc/hosts"):
        with pytest.raises(UserError, match="outside of the root"):
            inside(root, name)
    with pytest.raises(UserError, match=r"^none does not exist"):
        inside(root, "none")


VIDEO = {"id": "a", "video": "a ü.mp4"}
CHECKS = [
    ({"text": "Go."}, ""),
    ({"subtitles": "a.srt"}, ""),
    ({"text": "Go.", "voice": "ben"}, ""),
    ({"text": "Go.", "voice": "voice.wav"}, "set consent to yes"),
    ({"text": "Go.", "voice": "voice.wav", "consent": True}, ""),
    ({"text": "Go.", "voice": "self"}, "set consent to yes"),
    ({"text": "Go.", "voice": "self", "consent": True}, "a ü.mp4 has no audio track"),
    ({"text": "Go.", "voices": (("Anna", "voice.wav"),)}, "set consent to yes"),
    ({"text": "Go.", "portrait": "face.png"}, "set consent to yes"),
    ({"text": "Go.", "portrait": "face.png", "consent": True}, ""),
    ({"text": "Go.", "portrait": "ada"}, ""),
    ({"text": "Go.", "portrait": "voice.wav", "consent": True}, "not a picture"),
    ({"audio": "voice.wav"}, ""),
    ({"audio": "voice.wav", "mode": "voice"}, "mode relip only"),
    ({"audio": "voice.wav", "voice": "ada"}, "give one of them"),
    ({}, "no words"),
    ({"text": "?!"}, "nothing to say"),
    ({"text": "Das ist ein ganz normaler deutscher Satz."}, "English"),
    ({"text": "Go.", "language": "de"}, "speaks English"),
    ({"text": "Go.", "subtitles": "a.srt"}, "give one of them"),
    ({"subtitles": "voice.wav"}, "is no subtitle file"),
    ({"subtitles": "a.srt", "start": 0.1}, "no cue from 0.1"),
    ({"text": "Go.", "start": 0.2, "end": 0.1}, "correct start or end"),
    ({"subtitles": "a.srt", "end": 0.2}, "no cue from 0 to 0.2"),
    ({"subtitles": "a.srt", "start": 0.0, "end": 0.3}, ""),
    ({"text": "Go.", "start": 0.2, "end": 0.2}, "correct start or end"),
    ({"text": "Go.", "start": 0.32}, "correct start"),
    ({"text": "Go.", "start": 0.31}, ""),
    ({"text": "Go.", "video": "none.mp4"}, "none.mp4 does not exist"),
    ({"text": "Go.", "video": "text.mp4"}, "text.mp4 cannot be read as video"),
    ({"text": "Go.", "video": "empty.mp4"}, "empty.mp4 cannot be read as video"),
    ({"text": "Go.", "video": "folder.mp4"}, "folder.mp4 is a folder"),
    ({"text": "Go.", "video": "face.png"}, "is a picture"),
    ({"text": "Go.", "video": "voice.wav"}, "no video track"),
    ({"text": "Go.", "background": "duck"}, "no audio track"),
    ({"text": "Go.", "keep_sound": True}, "no audio track"),
    ({"text": "Go.", "background": "voice.wav"}, ""),
    ({"text": "Go.", "background": "face.png"}, "face.png"),
]


@pytest.mark.parametrize(("values", "problem"), CHECKS, ids=lambda value: str(value)[:40])
def test_every_problem_of_a_row_is_found_before_any_work(root: Path, values: dict, problem: str) -> None:
    row = Row(**(VIDEO | values))
    if not problem:
        assert find_inputs(row, root).video == root / "a ü.mp4"
        return
    with pytest.raises(UserError) as caught:
        find_inputs(row, root)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(root) not in str(caught.value)


def test_a_result_depends_on_every_file_of_its_row(root: Path) -> None:
    def files(**values) -> list[str]:
        row = Row(**(VIDEO | {"consent": True} | values))
        return sorted(path.name for path in find_inputs(row, root).files)

    spoken = files(text="Go.", voice="voice.wav", voices=(("Anna", "ben"),), background="a.flac")
    assert spoken == ["a ü.mp4", "a.flac", "ben.wav", "voice.wav"]
    assert files(audio="voice.wav", portrait="face.png") == ["a ü.mp4", "face.png", "voice.wav"]
    assert find_inputs(Row(**VIDEO, text="Go.", voices=(("Anna", "ben"),)), root).voices.keys() == {
        "",
        "Anna",
    }


def test_init_writes_a_manifest_that_the_dry_run_accepts(root: Path, tmp_path: Path, capsys) -> None:
    folder = root / "init"
    (folder / "deeper").mkdir(parents=True)
    for name in ("a.mp4", "deeper/b.mp4", "Deeper-b.mkv"):
        (folder / name).write_bytes((root / "a ü.mp4").read_bytes())
    (folder / "a.srt").write_bytes((root / "a.srt").read_bytes())
    (folder / "deeper/b.txt").write_text("Go\non.")
    (folder / "Deeper-b.txt").write_text("Go.")
    manifest = root / "made.jsonl"
    assert main(["batch-dub", str(manifest), "--init", str(folder)]) == 0
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert rows == [
        {"id": "Deeper-b", "video": "init/Deeper-b.mkv", "text": "Go."},
        {"id": "a", "video": "init/a.mp4", "subtitles": "init/a.srt"},
        {"id": "deeper-b-2", "video": "init/deeper/b.mp4", "text": "Go on."},
    ]
    capsys.readouterr()
    assert main(["batch-dub", str(manifest), "--dry-run"]) == 0
    assert capsys.readouterr().out == "Deeper-b    ok\na           ok\ndeeper-b-2  ok\n"
    assert main(["batch-dub", str(manifest), "--dry-run", "--set", "voice=nobody"]) == 1
    assert "set consent to yes" in capsys.readouterr().out
    assert main(["batch-dub", str(manifest), "--init", str(folder)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["batch-dub", str(manifest)]) == 2
    assert "--out DIR" in capsys.readouterr().err
