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
    save_component,
)


@dataclass(frozen=True, kw_only=True)
class InnerConfig:
    sizes: tuple[int, ...]


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


@pytest.mark.parametrize("fault", ["missing", "unexpected", "shape", "nan", "truncated", "config", "no file"])
def test_mismatched_checkpoint_is_one_error_line(tmp_path: Path, fault: str) -> None:
    from safetensors.torch import load_file, save_file

    save_component(Net(CONFIG), tmp_path)
    weights = tmp_path / "model.safetensors"
    tensors = load_file(weights)
    if fault == "truncated":
        weights.write_bytes(weights.read_bytes()[:-9])
    elif fault == "config":
        (tmp_path / "config.json").write_text('{"width": 4, "breadth": 2}')
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
            tensors["a.bias"][0] = torch.nan
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
