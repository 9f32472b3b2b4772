"""Fixtures as objects, and the decorator that hands them to a test.

    @fixtures("dit_head")
    def test_velocity(case: Fixture) -> None:
        module = case.load(DiT(config_of(case.config)))
        case.close("velocity", module(case.inputs["x"], ...), 3e-5)

A test runs once for every file whose metadata names one of its kinds, whatever the file is called; a kind
that the folder lacks is not collected, and a file of no known kind is an error. All sizes come from the
metadata.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from parity import weights

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_FOLDER = ROOT.parent / "shared" / "parity"
MANIFESTS = Path(__file__).parent / "manifests"

KINDS = (
    *("patch_encoder", "dit_head", "cfm_sample", "cfm_loss", "stop_labels", "talker_step"),
    *("talker_generate", "talker_generate_prefix", "talker_generate_stop"),
    *("talker_continuation", "talker_continuation_noprefix", "train_forward", "train_forward_delay"),
    *("audio_frontend", "audio_vae", "lia_x_ops", "lia_x", "lia_x_scale2", "ecapa", "speaker_wavlm"),
)
"""What recorded runs are of, as named in their metadata."""


@dataclass(frozen=True)
class Fixture:
    """One recorded run: `config`, `inputs`, `expected` outputs, and the parameters by official key."""

    path: Path
    meta: dict[str, Any] = field(repr=False)

    @property
    def kind(self) -> str:
        """One of KINDS: the longest that the recorded name begins with (`cfm_loss_wide` is a `cfm_loss`)."""
        named = self.meta["fixture"]
        kind = max((kind for kind in KINDS if named.startswith(kind)), key=len, default=None)
        if kind is None:
            raise ValueError(f"{self.path} is a run of {named!r}, which no test knows")
        return kind

    @property
    def config(self) -> dict[str, Any]:
        """Sizes and settings of this run, in the recorder's names."""
        return self.meta["config"]

    @property
    def seed(self) -> int:
        return self.meta["weight_seed"]

    @property
    def prefix(self) -> str:
        """What the official keys of this sub-module start with."""
        return self.meta.get("key_prefix", "")

    @property
    def manifest(self) -> dict[str, dict[str, Any]]:
        """Official key -> shape, dtype, buffer, rule."""
        return self.meta["manifest"]

    @cached_property
    def _tensors(self) -> dict[str, Tensor]:
        with safe_open(self.path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict

    def _under(self, folder: str) -> dict[str, Tensor]:
        return {key.removeprefix(folder): t for key, t in self._tensors.items() if key.startswith(folder)}

    @cached_property
    def inputs(self) -> dict[str, Tensor]:
        return self._under("in/")

    @cached_property
    def expected(self) -> dict[str, Tensor]:
        return self._under("out/")

    def params(self) -> dict[str, Tensor]:
        """Parameters by full official key; those that a module computes itself are left out. Drawn anew."""
        return weights.draw_all(self.manifest, self.seed)

    def load(self, module: nn.Module, rename: Callable[[str], str | None] | None = None) -> Any:
        """`module` in evaluation mode with the fixture's parameters, loaded strictly.

        `rename` maps a full official key to the module's (None: not used); by default `prefix` is removed.
        """
        rename = rename or (lambda key: key.removeprefix(self.prefix))
        load_into(module, self.manifest, self.params(), rename)
        return module.eval()

    def close(self, name: str, actual: Tensor, tolerance: float, relative: bool = False) -> None:
        """Assert that `actual` is the expected output `name`: shape, and maximal (relative) difference."""
        expected = self.expected[name]
        assert actual.shape == expected.shape, f"{name}: {tuple(actual.shape)}, not {tuple(expected.shape)}"
        actual, expected = actual.detach().double(), expected.double()
        error = (actual - expected).abs()
        if relative:
            error = error / expected.abs().clamp(min=1e-30)  # 0 is met by 0 alone
        worst = error.max().item() if error.numel() else 0.0
        assert worst <= tolerance, f"{self.path.name}, {name}: off by {worst:.3g}, allowed {tolerance:.3g}"


def load_into(
    module: nn.Module,
    manifest: dict[str, dict[str, Any]],
    params: dict[str, Tensor],
    rename: Callable[[str], str | None],
) -> None:
    """Copy `params` (official keys) into `module`; both sides must be covered, computed tensors excepted."""
    computed = {rename(key) for key in manifest if key not in params}
    named = {rename(key): tensor for key, tensor in params.items()}
    named.pop(None, None)
    own = module.state_dict()
    kept = {own[key].data_ptr() for key in named if key in own}
    missing = [k for k, v in own.items() if k not in named and k not in computed and v.data_ptr() not in kept]
    unexpected = [key for key in named if key not in own]
    assert not missing + unexpected, f"missing {missing[:8]}, unexpected {unexpected[:8]}"
    with torch.no_grad():
        for key, tensor in named.items():
            assert own[key].shape == tensor.shape, (
                f"{key}: {tuple(own[key].shape)}, not {tuple(tensor.shape)}"
            )
            own[key].copy_(tensor)


def load_fixture(path: Path) -> Fixture:
    """Read the metadata of one file; tensors are read when they are asked for."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    if "parity" not in metadata:
        raise ValueError(f"{path} has no `parity` metadata: it is not a parity fixture")
    return Fixture(path, json.loads(metadata["parity"]))


def fixtures(*kinds: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a test with argument `case` for every fixture of one of these kinds."""

    assert set(kinds) <= set(KINDS)

    def mark(test: Callable[..., None]) -> Callable[..., None]:
        test.parity_kinds = kinds  # type: ignore[attr-defined]
        return test

    return mark
