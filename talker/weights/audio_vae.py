"""Parameter names of the published WhisperX-VAE: `CodecEnc`, `CodecDec`, `vae`, and the encoder of Whisper.

The published file stores each convolution as a direction `weight_v` and a length `weight_g` (weight norm).
Ours stores their product, so both have the same native key, and loading multiplies them.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from audio_vae.config import AudioVAEConfig, ConvolutionalConfig, WhisperConfig

WHISPER_HEAD = 64
"""Width of an attention head in all Whisper models. The shapes do not show the number of heads."""

PARTS = ("CodecEnc.", "CodecDec.", "vae.", "semantic_model.encoder.")
"""Prefixes of the parameters that the autoencoder uses. The file also contains the text decoder of Whisper,
and may contain networks that only training uses.
"""

_WHISPER_LAYER = tuple(
    f"{name}.{kind}"
    for name in ("attn.query", "attn.key", "attn.value", "attn.out", "attn_ln", "mlp.0", "mlp.2", "mlp_ln")
    for kind in ("weight", "bias")
    if (name, kind) != ("attn.key", "bias")
)

Row = tuple[str, str]


def _conv(official: str, native: str) -> Iterator[Row]:
    yield f"{official}.weight_g", f"{native}.weight"
    yield f"{official}.weight_v", f"{native}.weight"
    yield f"{official}.bias", f"{native}.bias"


def _unit(official: str, native: str) -> Iterator[Row]:
    yield f"{official}.0.alpha", f"{native}.snake_in.alpha"
    yield from _conv(f"{official}.1", f"{native}.conv_in")
    yield f"{official}.2.alpha", f"{native}.snake_out.alpha"
    yield from _conv(f"{official}.3", f"{native}.conv_out")


def _encoder(form: ConvolutionalConfig) -> Iterator[Row]:
    stages, units = len(form.strides), len(form.dilations)
    yield from _conv("CodecEnc.block.0", "encoder.stem")
    for stage in range(stages):
        official, native = f"CodecEnc.block.{stage + 1}.block", f"encoder.stages.{stage}"
        for unit in range(units):
            yield from _unit(f"{official}.{unit}.block", f"{native}.units.{unit}")
        yield f"{official}.{units}.alpha", f"{native}.snake.alpha"
        yield from _conv(f"{official}.{units + 1}", f"{native}.down")
    yield f"CodecEnc.block.{stages + 1}.alpha", "encoder.snake.alpha"
    yield from _conv(f"CodecEnc.block.{stages + 2}", "encoder.out")


def _decoder(form: ConvolutionalConfig) -> Iterator[Row]:
    stages = len(form.strides)
    yield from _conv("CodecDec.model.0", "decoder.stem")
    for stage in range(stages):
        official, native = f"CodecDec.model.{stage + 1}.block", f"decoder.stages.{stage}"
        yield f"{official}.0.alpha", f"{native}.snake.alpha"
        yield from _conv(f"{official}.1", f"{native}.up")
        for unit in range(len(form.dilations)):
            yield from _unit(f"{official}.{unit + 2}.block", f"{native}.units.{unit}")
    yield f"CodecDec.model.{stages + 1}.alpha", "decoder.snake.alpha"
    yield from _conv(f"CodecDec.model.{stages + 2}", "decoder.out")


def _whisper(config: WhisperConfig) -> Iterator[Row]:
    names = ["positional_embedding"]
    names += [f"{part}.{kind}" for part in ("conv1", "conv2", "ln_post") for kind in ("weight", "bias")]
    names += [f"blocks.{layer}.{name}" for layer in range(config.layers) for name in _WHISPER_LAYER]
    for name in names:
        yield f"semantic_model.encoder.{name}", f"whisper.encoder.{name}"


def key_table(config: AudioVAEConfig) -> dict[str, str]:
    """Official key -> native key, for all parameters that the autoencoder uses.

    Raises:
        ValueError: the config is not convolutional.
    """
    form = config.convolutional
    if form is None:
        raise ValueError("the published autoencoder is convolutional: use a config with `convolutional` set")
    rows = [*_encoder(form), *_decoder(form)]
    rows += [*_conv("vae.in_proj", "bottleneck.project"), *_conv("vae.out_proj", "bottleneck.expand")]
    return dict([*rows, *_whisper(form.whisper)] if form.whisper else rows)


def infer_config(shapes: Mapping[str, tuple[int, ...]]) -> AudioVAEConfig:
    """Infer the config of a published file from the shapes of its tensors.

    Raises:
        ValueError: a tensor that is needed to infer a size is missing.
    """
    try:
        strides: list[int] = []
        while f"CodecEnc.block.{len(strides) + 1}.block.4.weight_v" in shapes:
            strides.append(shapes[f"CodecEnc.block.{len(strides) + 1}.block.4.weight_v"][-1] // 2)
        width, mels = shapes["semantic_model.encoder.conv1.weight"][:2]
        numbers = {
            int(key.split(".")[3]) for key in shapes if key.startswith("semantic_model.encoder.blocks.")
        }
        whisper = WhisperConfig(
            mels=mels,
            positions=shapes["semantic_model.encoder.positional_embedding"][0],
            width=width,
            heads=max(1, width // WHISPER_HEAD),
            layers=len(numbers),
        )
        form = ConvolutionalConfig(
            encoder_width=shapes["CodecEnc.block.0.weight_v"][0],
            hidden=shapes["vae.out_proj.weight_v"][0],
            decoder_width=shapes["CodecDec.model.0.weight_v"][0],
            strides=tuple(strides),
            whisper=whisper,
        )
        return AudioVAEConfig(latent_dim=shapes["vae.out_proj.weight_v"][1], convolutional=form)
    except KeyError as error:
        raise ValueError(f"{error.args[0]} is missing: give the published WhisperX-VAE") from error


def native_shape(official: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the native tensor for an official tensor. `weight_v` and `alpha` differ by one dimension.

    Kernels of 1-D convolutions get a height of 1, and kernels of pointwise convolutions become matrices.
    """
    if official.startswith("semantic_model.") or official.endswith(".bias"):
        return shape
    return shape[:2] if official.startswith("vae.") else (*shape[:2], 1, *shape[2:])


def from_official(state: Mapping[str, Tensor]) -> tuple[AudioVAEConfig, dict[str, Tensor]]:
    """Convert a published state dict to a config and a native state dict in float32, without weight norm.

    Keys that do not start with one of PARTS are ignored.

    Raises:
        ValueError: keys are missing or unexpected. It lists all of them.
    """
    config = infer_config({key: tuple(tensor.shape) for key, tensor in state.items()})
    table = key_table(config)
    used = {key for key in state if key.startswith(PARTS)}
    missing, unexpected = sorted(table.keys() - used), sorted(used - table.keys())
    if missing or unexpected:
        raise ValueError(f"not the published keys; missing: {missing}; unexpected: {unexpected}")
    native = {}
    for official, ours in table.items():
        if official.endswith(".weight_g"):
            continue
        tensor = state[official].float()
        if official.endswith(".weight_v"):
            tensor = fold(tensor, state[f"{official.removesuffix('v')}g"].float())
        native[ours] = tensor.reshape(native_shape(official, tuple(tensor.shape)))
    return config, native


def fold(direction: Tensor, length: Tensor) -> Tensor:
    """Fold weight norm: scale each `direction[i]` of (n, ., .) to the norm `length[i]` of (n, 1, 1)."""
    return direction * (length / torch.linalg.vector_norm(direction, dim=(1, 2), keepdim=True))
