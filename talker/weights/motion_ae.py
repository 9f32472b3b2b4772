"""Key table of the published LIA-X renderer: a flat state dict under `enc.` and `dec.`, loaded strictly.

The file also stores the blur kernel of every resampling layer; ours is computed, so those are checked and
left out.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from motion_ae.config import MotionAEConfig
from motion_ae.upfirdn import blur_kernel

LEVELS = ("_512", "2", "3", "4", "5", "6", "7")
"""The published names of the decoder's levels, 8 to 512 pixels wide."""

BLOCKS = ("block2.0", "block3.0", "block4.0", "block5.0", "block6.0", "block7.0", "block_512")
"""The published names of the encoder's residual blocks, fine to coarse."""

Row = tuple[str, str | float]
"""Official key, then our key, or the gain of a blur kernel."""


def conv_layer(official: str, native: str, gain: float = 0.0, activate: bool = True) -> Iterator[Row]:
    """A `ConvLayer`: [blur kernel,] weight[, bias]; `gain` is that of its kernel, 0 without one."""
    place = 1 if gain else 0
    if gain:
        yield f"{official}.0.kernel", gain
    yield f"{official}.{place}.weight", f"{native}.weight"
    if activate:
        yield f"{official}.{place + 1}.bias", f"{native}.bias"


def modulated_conv(official: str, native: str) -> Iterator[Row]:
    """A `ModulatedConv`."""
    for name in ("weight", "modulation.weight", "modulation.bias"):
        yield f"{official}.{name}", f"{native}.{name}"


def styled_conv(official: str, native: str, up: bool = False) -> Iterator[Row]:
    """A `StyledConv`."""
    yield from modulated_conv(f"{official}.conv", f"{native}.conv")
    yield f"{official}.activate.bias", f"{native}.bias"
    if up:
        yield f"{official}.conv.blur.kernel", 4.0


def res_block(official: str, native: str, down: bool = False, skip: bool = False) -> Iterator[Row]:
    """A `ResBlock`; one that halves the picture always has the 1x1 shortcut."""
    gain = 1.0 if down else 0.0
    yield from conv_layer(f"{official}.conv1", f"{native}.conv1")
    yield from conv_layer(f"{official}.conv2", f"{native}.conv2", gain)
    if down or skip:
        yield from conv_layer(f"{official}.skip", f"{native}.skip", gain, activate=False)


def flow_res_block(official: str, native: str) -> Iterator[Row]:
    """A `FlowResBlock`."""
    for name in ("gamma", "norm.weight", "norm.bias"):
        yield f"{official}.{name}", f"{native}.{name}"
    yield from styled_conv(f"{official}.conv1", f"{native}.conv1")
    yield from styled_conv(f"{official}.conv2", f"{native}.conv2")


def to_flow(official: str, native: str) -> Iterator[Row]:
    """A `ToFlow`."""
    yield f"{official}.bias", f"{native}.bias"
    yield f"{official}.up.kernel", 4.0
    yield from modulated_conv(f"{official}.conv", f"{native}.conv")


def to_rgb(official: str, native: str) -> Iterator[Row]:
    """A `ToRGB`."""
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
    """Official key -> our key; the keys of the 41 (at base) blur kernels -> the kernel's gain."""
    return dict([*_encoder(), *_decoder(config)])


def infer_config(shapes: Mapping[str, tuple[int, ...]]) -> MotionAEConfig:
    """The configuration of a published file, from the shapes of its tensors.

    Raises:
        ValueError: a tensor that tells a size is missing.
    """

    def count(kind: str, name: str) -> int:
        stem = f"dec.conv{name}_2{kind}."
        return len({key.removeprefix(stem).split(".")[0] for key in shapes if key.startswith(stem)})

    try:
        style_dim, motion_dim = shapes["dec.direction.weight"]
        channels = tuple(shapes[f"dec.conv{name}_1.activate.bias"][0] for name in LEVELS)
    except KeyError as error:
        raise ValueError(f"not a LIA-X checkpoint: {error.args[0]} is missing") from error
    return MotionAEConfig(
        resolution=512,
        style_dim=style_dim,
        motion_dim=motion_dim,
        channels=channels,
        flow_blocks=tuple(count("", name) for name in LEVELS),
        rgb_blocks=tuple(count("_rgb", name) for name in LEVELS),
    )


def from_official(state: Mapping[str, Tensor]) -> tuple[MotionAEConfig, dict[str, Tensor]]:
    """A published state dict -> configuration and our state dict, float32.

    Raises: ValueError: a key is missing or unexpected (all are listed), or a stored blur kernel is another
    filter.
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
