"""LIA-X: building blocks, the whole renderer at scale 1 and 2, and the key table of the full size."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from motion_ae.config import MotionAEConfig
from motion_ae.decoder import ToFlow, ToRGB
from motion_ae.directions import Directions
from motion_ae.layers import ConvLayer, FlowResBlock, ResBlock, StyledConv
from motion_ae.model import MotionAE, relative_motion
from motion_ae.upfirdn import blur_kernel
from parity import weights
from parity.harness import MANIFESTS, Fixture, fixtures
from talker.weights import motion_ae as keys

Rows = Callable[..., Iterator[keys.Row]]


def _part(case: Fixture, name: str, module: nn.Module, rows: Rows, **options: object) -> nn.Module:
    """Load the parameters of one recorded block into `module`."""
    table = dict(rows(name, "", **options))
    params = {key.removeprefix(case.prefix): tensor for key, tensor in case.params().items()}
    state = {ours.lstrip("."): params[key] for key, ours in table.items() if isinstance(ours, str)}
    module.load_state_dict(state, strict=True)
    return module.eval()


@fixtures("lia_x_ops")
@torch.no_grad()
def test_building_blocks(case: Fixture) -> None:
    c, given, tol = case.config, case.inputs, 2e-5
    cin, cout, style, x = c["cin"], c["cout"], c["style"], given["x"]
    layers: dict[str, tuple[nn.Module, dict[str, object]]] = {
        "conv_same": (ConvLayer(cin, cout), {}),
        "conv_down": (ConvLayer(cin, cout, resample="down"), {"gain": 1.0}),
        "conv_up": (ConvLayer(cin, cout, resample="up"), {"gain": 4.0}),
        "skip_down": (
            ConvLayer(cin, cout, 1, resample="down", activate=False),
            {"gain": 1.0, "activate": False},
        ),
    }
    for name, (layer, options) in layers.items():
        case.close(name, _part(case, name, layer, keys.conv_layer, **options)(x), tol)
    enc = _part(case, "enc_res", ResBlock(cin, cout, down=True), keys.res_block, down=True)
    case.close("enc_res", enc(x), tol)
    dec = _part(case, "dec_res", ResBlock(cin, cout), keys.res_block, skip=cin != cout)
    case.close("dec_res", dec(x), tol)
    for name, up in (("styled", False), ("styled_up", True)):
        styled = _part(case, name, StyledConv(cin, cout, style, up=up), keys.styled_conv, up=up)
        case.close(name, styled(x, given["style"]), tol)
    block = _part(case, "flow_res", FlowResBlock(c["gn"], style, 32), keys.flow_res_block)
    case.close("flow_res", block(given["x_gn"], given["style"][: len(given["x_gn"])]), tol)


@fixtures("lia_x_ops")
@torch.no_grad()
def test_flow_rgb_and_directions(case: Fixture) -> None:
    c, given, tol = case.config, case.inputs, 2e-5
    flow = _part(case, "flow", ToFlow(c["cin"], c["style"]), keys.to_flow)
    rgb = _part(case, "rgb", ToRGB(c["cin"]), keys.to_rgb)
    coarser = (("", given["flow_skip"], given["rgb_skip"]), ("_noskip", None, None))
    for suffix, flow_skip, rgb_skip in coarser:
        # Training warps with `grid_sample`, inference on a CPU with weighted rows of a table.
        for training in (False, True):
            with torch.set_grad_enabled(training):
                warped, mask, raw = flow(given["x"], given["style"], given["feat"], flow_skip)
            case.close(f"flow{suffix}_warped", warped * mask, tol)
            case.close(f"flow{suffix}_hidden", torch.lerp(given["x"], warped, mask), tol)
            case.close(f"flow{suffix}_raw", raw, tol)
        case.close(f"rgb{suffix}", rgb(given["x"], rgb_skip), tol)
    directions = Directions(c["dir_dim"], c["motion"])
    directions.load_state_dict({"weight": case.params()[f"{case.prefix}direction.weight"]})
    case.close("direction", directions(given["alpha"]), tol)
    constant = case.params()[f"{case.prefix}input.input"]
    case.close("input", constant.expand(c["batch"], -1, -1, -1), 0.0)
    for name, gain in (("up", 4.0), ("down", 1.0), ("styled_up", 4.0)):
        case.close(f"blur_kernel_{name}", blur_kernel(gain), 1e-6)


def _renderer(case: Fixture) -> MotionAE:
    """The whole network. Parameters are assigned instead of copied, because there are up to 911 million."""
    config = keys.infer_config({key: tuple(row["shape"]) for key, row in case.manifest.items()})
    table = keys.key_table(config)
    assert table.keys() == case.manifest.keys()
    with torch.device("meta"):
        model = MotionAE(config)
    state = {ours: tensor for key, tensor in case.params().items() if isinstance(ours := table[key], str)}
    model.load_state_dict(state, strict=True, assign=True)
    model.mean, model.scale = torch.zeros(config.motion_dim), torch.ones(config.motion_dim)
    return model.eval().requires_grad_(False)


def _check_render(case: Fixture, name: str, frames: Tensor, tol: float) -> None:
    crops = torch.stack([frames[:, :, y : y + 16, x : x + 16] for y, x in case.config["crops"]], 1)
    case.close(f"{name}_pool4", F.avg_pool2d(frames, 4), tol)
    case.close(f"{name}_crops", crops, tol)
    case.close(f"{name}_mean", frames.mean((1, 2, 3)), tol)
    case.close(f"{name}_absmax", frames.abs().amax((1, 2, 3)), tol)


def _check_renderer(case: Fixture, tol: float) -> None:
    model = _renderer(case)
    images = torch.stack([weights.image(int(seed), 512) for seed in case.inputs["image_seeds"]])
    portrait = model.encode_source(images[:1])
    identities = torch.cat([portrait.identity, *(model.encoder(image[None])[0] for image in images[1:])])
    alpha = model.encoder.motion(identities)
    case.close("z", identities, tol)
    case.close("alpha", alpha, tol)
    case.close("direction", model.directions(alpha), tol)
    case.close("direction_basis", model.directions.basis(), tol)
    shapes = torch.tensor([feature.shape[1:] for feature in portrait.features])
    assert torch.equal(shapes, case.expected["feature_shapes"].long())
    case.close("feature_mean", torch.stack([f.mean() for f in portrait.features]), tol)
    case.close("feature_std", torch.stack([f.std() for f in portrait.features]), tol)
    _check_render(case, "render_absolute", model.render(alpha[case.config["absolute"]], portrait), tol)
    moved = relative_motion(alpha[case.config["relative"]], alpha[1:2], portrait)
    _check_render(case, "render_relative", model.render(moved, portrait), tol)


@pytest.fixture
def two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.mark.long
@pytest.mark.usefixtures("two_threads")
@fixtures("lia_x")
@torch.no_grad()
def test_renderer(case: Fixture) -> None:
    _check_renderer(case, 2e-4)


@pytest.mark.long
@pytest.mark.usefixtures("two_threads")
@fixtures("lia_x_scale2")
@torch.no_grad()
def test_renderer_at_the_published_size(case: Fixture) -> None:
    _check_renderer(case, 5e-4)


def test_key_table_covers_the_published_checkpoint() -> None:
    manifest = json.loads((MANIFESTS / "lia_x.json").read_text())
    config = MotionAEConfig.base()
    assert keys.infer_config({key: tuple(row["shape"]) for key, row in manifest.items()}) == config
    table = keys.key_table(config)
    assert table.keys() == manifest.keys()
    assert sum(isinstance(ours, float) for ours in table.values()) == 41
    with torch.device("meta"):
        state = MotionAE(config).state_dict()
    named = {ours: manifest[key]["shape"] for key, ours in table.items() if isinstance(ours, str)}
    assert named == {key: list(tensor.shape) for key, tensor in state.items()}
