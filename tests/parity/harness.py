"""Recorded runs as `Fixture` objects, and the `fixtures` decorator that passes them to tests.

    @fixtures("dit_head")
    def test_velocity(case: Fixture) -> None:
        module = case.load(DiT(config_of(case.config)))
        case.close("velocity", module(case.inputs["x"], ...), 3e-5)

A test runs once for every file whose metadata names one of its kinds; the file name does not matter. A file
of an unknown kind is an error. All sizes come from the metadata.
"""

from __future__ import annotations

import base64
import json
import zlib
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
RECORDED = Path(__file__).parent / "recorded"
DEFAULT_FOLDER = ROOT.parent / "shared" / "parity"
MANIFESTS = Path(__file__).parent / "manifests"

KINDS = (
    *("patch_encoder", "dit_head", "cfm_sample", "cfm_loss", "stop_labels", "talker_step"),
    *("talker_generate", "talker_generate_prefix", "talker_generate_stop"),
    *("talker_continuation", "talker_continuation_noprefix", "train_forward", "train_forward_delay"),
    *("audio_frontend", "audio_vae", "lia_x_ops", "lia_x", "lia_x_scale2", "ecapa", "speaker_wavlm"),
)
"""Kinds of recorded runs, as named in the metadata."""


@dataclass(frozen=True)
class Fixture:
    """One recorded run: `config`, `inputs`, `expected` outputs, and parameters by official checkpoint key."""

    path: Path
    meta: dict[str, Any] = field(repr=False)

    @property
    def kind(self) -> str:
        """The longest entry of KINDS that the recorded name starts with (`cfm_loss_wide` is a `cfm_loss`)."""
        named = self.meta["fixture"]
        kind = max((kind for kind in KINDS if named.startswith(kind)), key=len, default=None)
        if kind is None:
            raise ValueError(f"{self.path} records {named!r}, which is not one of KINDS")
        return kind

    @property
    def config(self) -> dict[str, Any]:
        """Sizes and settings of this run, under the names that the recording uses."""
        return self.meta["config"]

    @property
    def reduced(self) -> bool:
        """Whether this is a reduced copy, which lacks some tensors of the recording (see reduce.py)."""
        return self.meta.get("reduced", False)

    @property
    def seed(self) -> int:
        """Seed of the synthetic weights."""
        return self.meta["weight_seed"]

    @property
    def prefix(self) -> str:
        """The common prefix of the official keys of the recorded module."""
        return self.meta.get("key_prefix", "")

    @property
    def manifest(self) -> dict[str, dict[str, Any]]:
        """For each official key: its shape and, in complete recordings, its dtype, its kind and its rule."""
        return self.meta["manifest"]

    @cached_property
    def _tensors(self) -> dict[str, Tensor]:
        with safe_open(self.path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        # Reduced copies store integers as int16.
        return {key: t.long() if t.dtype == torch.int16 else t for key, t in tensors.items()}

    def _under(self, folder: str) -> dict[str, Tensor]:
        return {key.removeprefix(folder): t for key, t in self._tensors.items() if key.startswith(folder)}

    @cached_property
    def inputs(self) -> dict[str, Tensor]:
        """Recorded inputs by name."""
        return self._under("in/")

    @cached_property
    def expected(self) -> dict[str, Tensor]:
        """Recorded outputs by name."""
        return self._under("out/")

    def params(self) -> dict[str, Tensor]:
        """New tensors by official key, without those that a module computes (`weights.COMPUTED`)."""
        return weights.draw_all(self.manifest, self.seed)

    def load(self, module: nn.Module, rename: Callable[[str], str | None] | None = None) -> Any:
        """Load the parameters of this run into `module` (strictly) and return it in evaluation mode.

        `rename` maps an official key to the key of the module (None: not used). The default removes `prefix`.
        """
        rename = rename or (lambda key: key.removeprefix(self.prefix))
        load_into(module, self.manifest, self.params(), rename)
        return module.eval()

    def close(self, name: str, actual: Tensor, tolerance: float, relative: bool = False) -> None:
        """Assert that `actual` has the shape and, within `tolerance`, the values of the output `name`.

        `tolerance` bounds the largest absolute difference, or the largest relative one with `relative`.
        A reduced copy compares the part that it contains, and nothing if it lacks this output.
        """
        if self.reduced and name not in self.expected:
            return
        expected = self.expected[name]
        if name in (parts := self.meta.get("compared", {})):
            actual = actual[tuple(slice(*part) for part in parts[name])]
        assert actual.shape == expected.shape, (
            f"{name}: shape {tuple(actual.shape)}, expected {tuple(expected.shape)}"
        )
        actual, expected = actual.detach().double(), expected.double()
        error = (actual - expected).abs()
        if relative:
            error = error / expected.abs().clamp(min=1e-30)  # an expected 0 allows only 0
        worst = error.max().item() if error.numel() else 0.0
        assert worst <= tolerance, (
            f"{self.path.name}, {name}: largest difference {worst:.3g}, tolerance {tolerance:.3g}"
        )


def load_into(
    module: nn.Module,
    manifest: dict[str, dict[str, Any]],
    params: dict[str, Tensor],
    rename: Callable[[str], str | None],
) -> None:
    """Copy `params` (official keys) into `module`.

    Every parameter must have a tensor and every tensor a parameter, except those that the module computes.
    """
    computed = {rename(key) for key in manifest if key not in params}
    named = {rename(key): tensor for key, tensor in params.items()}
    named.pop(None, None)
    own = module.state_dict()
    loaded = {own[key].data_ptr() for key in named if key in own}  # a tied parameter has two keys
    missing = [
        key
        for key, tensor in own.items()
        if key not in named and key not in computed and tensor.data_ptr() not in loaded
    ]
    unexpected = [key for key in named if key not in own]
    assert not missing + unexpected, f"missing {missing[:8]}, unexpected {unexpected[:8]}"
    with torch.no_grad():
        for key, tensor in named.items():
            assert own[key].shape == tensor.shape, (
                f"{key}: shape {tuple(own[key].shape)}, expected {tuple(tensor.shape)}"
            )
            own[key].copy_(tensor)


def load_fixture(path: Path) -> Fixture:
    """Read the metadata of one file. Tensors are read on first access.

    Raises:
        ValueError: the file has no parity metadata.
    """
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    if "parity" in metadata:
        return Fixture(path, json.loads(metadata["parity"]))
    if "parity.zlib" in metadata:  # a reduced copy
        return Fixture(path, json.loads(zlib.decompress(base64.b85decode(metadata["parity.zlib"]))))
    raise ValueError(f"{path} has no `parity` metadata: it is not a parity fixture")


def fixtures(*kinds: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a test with the argument `case` for every recorded run of one of these kinds."""

    assert set(kinds) <= set(KINDS)

    def mark(test: Callable[..., None]) -> Callable[..., None]:
        test.parity_kinds = kinds  # type: ignore[attr-defined]
        return test

    return mark
