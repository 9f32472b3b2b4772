"""Checkpoint folders: round trip, strict loading, and atomic writing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from talker.checkpoint import (
    CheckpointError,
    atomic,
    config_from_dict,
    config_to_dict,
    load_component,
    load_strict,
    save_component,
)


@dataclass(frozen=True, kw_only=True)
class InnerConfig:
    sizes: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ValuesConfig:
    rate: float = 0.5
    count: int = 1
    on: bool = False


def test_json_values_have_the_types_of_their_fields() -> None:
    assert config_from_dict(ValuesConfig, {"rate": 1}) == ValuesConfig(rate=1)
    assert config_from_dict(ValuesConfig, {"on": True}).on
    for values in ({"rate": True}, {"count": True}, {"count": 1.0}, {"on": 1}, {"rate": "1"}):
        with pytest.raises(CheckpointError, match="is no"):
            config_from_dict(ValuesConfig, values)


@dataclass(frozen=True, kw_only=True)
class NetConfig:
    width: int
    inner: InnerConfig
    pairs: tuple[InnerConfig, ...]
    note: str | None = None


class Net(nn.Module):
    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.config = config
        self.a = nn.Linear(config.width, config.width)
        self.tied = self.a
        self.register_buffer("count", torch.tensor(3))


CONFIG = NetConfig(width=4, inner=InnerConfig(sizes=(1, 2)), pairs=(InnerConfig(sizes=()),))


def test_config_round_trip() -> None:
    assert config_from_dict(NetConfig, json.loads(json.dumps(config_to_dict(CONFIG)))) == CONFIG


def test_component_round_trip(tmp_path: Path) -> None:
    net = Net(CONFIG)
    save_component(net, tmp_path / "net", torch.float32)
    again = load_component(Net, NetConfig, tmp_path / "net")
    assert again.config == CONFIG
    assert not again.training
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in net.state_dict().items())
    files = sorted((tmp_path / "net").iterdir())
    assert [path.name for path in files] == ["config.json", "model.safetensors"]
    assert [path.stat().st_mode & 0o777 for path in files] == [0o644] * 2  # readable by other users


@pytest.mark.parametrize("fault", ["missing", "unexpected", "shape", "nan", "inf", "truncated", "no file"])
def test_mismatched_checkpoint_is_one_error_line(tmp_path: Path, fault: str) -> None:
    from safetensors.torch import load_file, save_file

    save_component(Net(CONFIG), tmp_path)
    weights = tmp_path / "model.safetensors"
    tensors = load_file(weights)
    if fault == "truncated":
        weights.write_bytes(weights.read_bytes()[:-9])
    elif fault == "no file":
        weights.unlink()
    else:
        if fault == "missing":
            del tensors["a.bias"]
        elif fault == "unexpected":
            tensors["b"] = torch.zeros(1)
        elif fault == "shape":
            tensors["a.bias"] = torch.zeros(5)
        else:
            tensors["a.bias"][0] = float(fault)
        save_file(tensors, weights)
    with pytest.raises(CheckpointError) as error:
        load_component(Net, NetConfig, tmp_path)
    assert "\n" not in str(error.value)


def test_interrupted_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")

    def interrupted() -> None:
        with atomic(path) as temporary:
            temporary.write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"width": 4, "breadth": 2}', "no field named breadth"),
        ('{"width": 4}', "missing"),
        ("[4]", "holds no JSON object"),
        ('{"width": ', "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_a_config_that_cannot_be_used_is_one_error_line(
    tmp_path: Path, text: str | bytes, words: str
) -> None:
    save_component(Net(CONFIG), tmp_path)
    (tmp_path / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CheckpointError, match=words) as error:
        load_component(Net, NetConfig, tmp_path)
    assert "\n" not in str(error.value)


def test_problems_of_a_checkpoint_are_listed_up_to_six_names() -> None:
    tensors = {f"b{number}": torch.zeros(1) for number in range(8)} | {"count": torch.tensor(3)}
    with pytest.raises(CheckpointError) as error:
        load_strict(Net(CONFIG), tensors | {"tied.weight": torch.zeros(4, 4)}, "x.safetensors")
    assert str(error.value) == (
        "x.safetensors does not fit Net; 2 missing: a.bias, tied.bias; "
        "8 unexpected: b0, b1, b2, b3, b4, b5 and 2 more"
    )
