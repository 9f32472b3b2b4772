"""Parameter names of the published LIA-X renderer, which are under `enc.` and `dec.`. All keys must match.

The published file also stores the blur kernel of every resampling layer. Ours computes it, so loading checks
the stored kernels and leaves them out.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from motion_ae.config import MotionAEConfig
from motion_ae.upfirdn import blur_kernel

LEVELS = ("_512", "2", "3", "4", "5", "6", "7")
"""Published names of the decoder levels, from a width of 8 to 512 pixels."""

BLOCKS = ("block2.0", "block3.0", "block4.0", "block5.0", "block6.0", "block7.0", "block_512")
"""Published names of the residual blocks of the encoder, from fine to coarse."""

Row = tuple[str, str | float]
"""Official key, and the native key or the gain of a blur kernel."""


def conv_layer(official: str, native: str, gain: float = 0.0, activate: bool = True) -> Iterator[Row]:
    """Rows of a `ConvLayer`: [blur kernel,] weight[, bias]. `gain`: of the blur kernel, 0 if it has none."""
    index = 1 if gain else 0
    if gain:
        yield f"{official}.0.kernel", gain
    yield f"{official}.{index}.weight", f"{native}.weight"
    if activate:
        yield f"{official}.{index + 1}.bias", f"{native}.bias"


def modulated_conv(official: str, native: str) -> Iterator[Row]:
    """Rows of a `ModulatedConv`."""
    for name in ("weight", "modulation.weight", "modulation.bias"):
        yield f"{official}.{name}", f"{native}.{name}"


def styled_conv(official: str, native: str, up: bool = False) -> Iterator[Row]:
    """Rows of a `StyledConv`. `up`: whether it doubles the resolution."""
    yield from modulated_conv(f"{official}.conv", f"{native}.conv")
    yield f"{official}.activate.bias", f"{native}.bias"
    if up:
        yield f"{official}.conv.blur.kernel", 4.0


def res_block(official: str, native: str, down: bool = False, skip: bool = False) -> Iterator[Row]:
    """Rows of a `ResBlock`. `down`: whether it halves the resolution, which implies the 1x1 `skip`."""
    gain = 1.0 if down else 0.0
    yield from conv_layer(f"{official}.conv1", f"{native}.conv1")
    yield from conv_layer(f"{official}.conv2", f"{native}.conv2", gain)
    if down or skip:
        yield from conv_layer(f"{official}.skip", f"{native}.skip", gain, activate=False)


def flow_res_block(official: str, native: str) -> Iterator[Row]:
    """Rows of a `FlowResBlock`."""
    for name in ("gamma", "norm.weight", "norm.bias"):
        yield f"{official}.{name}", f"{native}.{name}"
    yield from styled_conv(f"{official}.conv1", f"{native}.conv1")
    yield from styled_conv(f"{official}.conv2", f"{native}.conv2")


def to_flow(official: str, native: str) -> Iterator[Row]:
    """Rows of a `ToFlow`."""
    yield f"{official}.bias", f"{native}.bias"
    yield f"{official}.up.kernel", 4.0
    yield from modulated_conv(f"{official}.conv", f"{native}.conv")


def to_rgb(official: str, native: str) -> Iterator[Row]:
    """Rows of a `ToRGB`."""
    yield f"{official}.bias", f"{native}.bias"
    yield f"{official}.up.kernel", 4.0
    yield from conv_layer(f"{official}.conv", f"{native}.conv")


def _encoder() -> Iterator[Row]:
    yield from conv_layer("enc.enc_2r.block1", "encoder.stem")
    for index, block in enumerate(BLOCKS):
        yield from res_block(f"enc.enc_2r.{block}", f"encoder.blocks.{index}", down=True)
    yield "enc.enc_2r.block8.weight", "encoder.last.weight"
    yield "enc.enc_r2t.0.weight", "encoder.to_motion.weight"
    yield "enc.enc_r2t.0.bias", "encoder.to_motion.bias"


def _decoder(config: MotionAEConfig) -> Iterator[Row]:
    yield "dec.direction.weight", "directions.weight"
    yield "dec.input.input", "decoder.constant"
    yield from styled_conv("dec.conv1", "decoder.first")
    for index, name in enumerate(LEVELS):
        native = f"decoder.levels.{index}"
        yield from styled_conv(f"dec.conv{name}_1", f"{native}.up", up=True)
        for block in range(config.flow_blocks[index]):
            yield from flow_res_block(f"dec.conv{name}_2.{block}", f"{native}.flow_blocks.{block}")
        for block in range(config.rgb_blocks[index]):
            yield from res_block(f"dec.conv{name}_2_rgb.{block}", f"{native}.rgb_blocks.{block}")
        if index:
            yield from conv_layer(f"dec.conv{name}_2_up", f"{native}.paint_up", 4.0)
        flow, rgb = (f"{kind}{name}" for kind in ("dec.flow", "dec.rgb"))
        yield from to_flow(flow, f"{native}.to_flow")
        yield from to_rgb(rgb, f"{native}.to_rgb")


def key_table(config: MotionAEConfig) -> dict[str, str | float]:
    """Official key -> native key, or gain of a blur kernel (41 kernels at the published size)."""
    return dict([*_encoder(), *_decoder(config)])


def infer_config(shapes: Mapping[str, tuple[int, ...]]) -> MotionAEConfig:
    """Infer the config of a published file from the shapes of its tensors.

    Raises:
        ValueError: a tensor that is needed to infer a size is missing.
    """

    def count(kind: str, name: str) -> int:
        stem = f"dec.conv{name}_2{kind}."
        return len({key.removeprefix(stem).split(".")[0] for key in shapes if key.startswith(stem)})

    try:
        style_dim, motion_dim = shapes["dec.direction.weight"]
        channels = tuple(shapes[f"dec.conv{name}_1.activate.bias"][0] for name in LEVELS)
    except KeyError as error:
        raise ValueError(f"{error.args[0]} is missing: give the published file of LIA-X") from error
    return MotionAEConfig(
        resolution=512,
        style_dim=style_dim,
        motion_dim=motion_dim,
        channels=channels,
        flow_blocks=tuple(count("", name) for name in LEVELS),
        rgb_blocks=tuple(count("_rgb", name) for name in LEVELS),
    )


def from_official(state: Mapping[str, Tensor]) -> tuple[MotionAEConfig, dict[str, Tensor]]:
    """Convert a published state dict to a config and a native state dict in float32.

    Raises:
        ValueError: keys are missing or unexpected (it lists all of them), or a stored blur kernel differs.
    """
    config = infer_config({key: tuple(tensor.shape) for key, tensor in state.items()})
    table = key_table(config)
    missing, unexpected = sorted(table.keys() - state.keys()), sorted(state.keys() - table.keys())
    if missing or unexpected:
        raise ValueError(f"not the published keys; missing: {missing}; unexpected: {unexpected}")
    native = {}
    for official, ours in table.items():
        if isinstance(ours, str):
            native[ours] = state[official].float()
        elif not torch.allclose(state[official].float(), blur_kernel(ours), atol=1e-6):
            raise ValueError(f"{official} is not the filter (1, 3, 3, 1) with gain {ours:g}")
    return config, native
