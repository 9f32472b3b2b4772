"""The recordings in the repository: small, and copied from the whole recordings without a change."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from parity.harness import DEFAULT_FOLDER, KINDS, RECORDED, load_fixture
from parity.reduce import REDUCTIONS, reduce

FILES = sorted(RECORDED.glob("*.safetensors"))
ONLY_SHARED = {  # variants of recorded kinds, or too large
    *("talker_generate", "talker_generate_prefix", "talker_generate_stop", "talker_continuation_noprefix"),
    *("train_forward", "lia_x_scale2", "ecapa"),
}


def test_recordings_take_less_than_400_kilobytes() -> None:
    assert sum(path.stat().st_size for path in FILES) < 400 * 1024


def test_every_kind_has_a_recording_or_is_listed() -> None:
    assert {path.stem for path in FILES} == REDUCTIONS.keys()
    assert {load_fixture(path).kind for path in FILES} == set(KINDS) - ONLY_SHARED


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_copy_equals_its_part_of_the_whole_recording(path: Path, tmp_path: Path) -> None:
    whole = DEFAULT_FOLDER / path.name
    if not whole.is_file():
        pytest.skip("needs the whole recordings in ../shared/parity")
    reduce(whole, tmp_path / path.name)
    copy, expected = load_fixture(path), load_fixture(tmp_path / path.name)
    assert copy.meta == expected.meta
    for own, other in ((copy.inputs, expected.inputs), (copy.expected, expected.expected)):
        assert own.keys() == other.keys()
        assert all(torch.equal(tensor, other[name]) for name, tensor in own.items())
