"""The motion autoencoder: encodes a source picture once, then motion to frames and frames to motion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from motion_ae.config import MotionAEConfig
from motion_ae.decoder import Decoder
from motion_ae.directions import Directions
from motion_ae.encoder import Encoder
from motion_ae.glimpses import Glimpses


@dataclass(frozen=True)
class SourceFeatures:
    """Everything that rendering reads from a source picture; computed once by `MotionAE.encode_source`.

    Attributes:
        identity: identity code (1, S).
        features: features (1, C, h, h) of every level, coarse to fine.
        motion: raw motion (1, M) of the picture, in float32.
        image: the picture (1, 3, H, W) in float32.

    Identity code and features have the data type of the weights. A batch of B pictures instead of one is
    valid for `MotionAE.render` of B frames.
    """

    identity: Tensor
    features: tuple[Tensor, ...]
    motion: Tensor
    image: Tensor


class MotionAE(nn.Module):
    """LIA-X: the style that drives the decoder is the identity code plus a weighted sum of directions.

    The weights of the directions are the motion code. `encode` returns and `decode` takes raw motion, that is
    motion code * scale + mean. Pictures are (B, 3, H, W) in [-1, 1], RGB.

    The weights may be float32, bfloat16 or float16. Inputs of any floating-point type are converted; motion
    and pictures are returned in float32.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, config: MotionAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.directions = Directions(config.style_dim, config.motion_dim)
        self.decoder = Decoder(config)
        self.glimpses = Glimpses(config) if config.glimpses else None
        units = {"mean": config.motion_mean or (0.0,), "scale": config.motion_scale or (1.0,)}
        for name, values in units.items():
            # On the CPU: the buffer has values even if the model is built on the meta device.
            unit = torch.tensor(values, device="cpu").expand(config.motion_dim).clone()
            self.register_buffer(name, unit, persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> MotionAE:
        """Moves and converts the module; the units of raw motion stay in float32."""
        units = {"mean": self.mean, "scale": self.scale}
        super()._apply(fn, recurse)
        for name, unit in units.items():
            converted = getattr(self, name)
            if converted.dtype != unit.dtype:
                setattr(self, name, unit.to(converted.device))
        return self

    def encode_source(self, image: Tensor) -> SourceFeatures:
        """Encode a source picture (1, 3, H, W).

        Raises:
            ValueError: the picture does not have the resolution of the configuration.
        """
        self._check(image)
        identity, features = self.encoder(image)
        return SourceFeatures(identity, features, self.read(image, identity, features), image.float())

    def encode(self, frames: Tensor) -> Tensor:
        """Frames (B, 3, H, W) -> raw motion (B, M).

        Raises:
            ValueError: the frames do not have the resolution of the configuration.
        """
        self._check(frames)
        return self.read(frames, *self.encoder(frames))

    def read(
        self, image: Tensor, identity: Tensor, features: tuple[Tensor, ...], centres: Tensor | None = None
    ) -> Tensor:
        """Pictures (B, 3, H, W) and the outputs of the encoder for them -> raw motion (B, M).

        `centres` (B, glimpses, 2) are the centres of the glimpses; by default the network locates them.
        Training passes the true ones.
        """
        code = self.encoder.motion(identity).float()
        if self.glimpses is not None:
            if centres is None:
                centres = self.glimpses.locate(features)
            code = code + self.glimpses(image, centres)
        return self.raw(code)

    def decode(self, motion: Tensor, source: SourceFeatures) -> Tensor:
        """Raw motion (T, M) -> frames (T, 3, H, W), clamped to [-1, 1]."""
        return self.render(motion, source).clamp(-1.0, 1.0)

    def render(self, motion: Tensor, source: SourceFeatures) -> Tensor:
        """`decode` without clamping, for losses; `source` has a batch of 1 or T."""
        style = self.style(motion, source.identity, source.motion)
        return self.decoder(style, source.features, source.image)

    def style(self, motion: Tensor, identity: Tensor, start: Tensor) -> Tensor:
        """Styles (B, S) in float32 for raw motion (B, M) and the identity codes (B or 1, S) of the source.

        `start` (B or 1, M) is the raw motion of the source; only a `relative` network reads it.
        """
        origin = start if self.config.relative else self.mean
        return identity + self.directions((motion - origin) / self.scale)

    def raw(self, code: Tensor) -> Tensor:
        """Motion codes (B, M) -> raw motion (B, M) in float32."""
        return code * self.scale + self.mean

    def _check(self, frames: Tensor) -> None:
        size = self.config.resolution
        if frames.ndim != 4 or frames.shape[1:] != (3, size, size):
            raise ValueError(f"pictures must be (batch, 3, {size}, {size}), not {tuple(frames.shape)}")


def relative_motion(target: Tensor, start: Tensor, source: SourceFeatures) -> Tensor:
    """Raw motion (T, M) that moves the source as `target` (T, M) moved away from `start` (1, M).

    The published form adds and subtracts displacements. Displacements are linear in the motion, so adding and
    subtracting motions is equivalent.
    """
    return target - start + source.motion
