"""The motion autoencoder: a portrait once, then motion codes to frames and frames to motion codes."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from motion_ae.config import MotionAEConfig
from motion_ae.decoder import Decoder
from motion_ae.directions import Directions
from motion_ae.encoder import Encoder
from motion_ae.glimpses import Glimpses


@dataclass(frozen=True)
class Portrait:
    """Computed once for a picture: identity code (1, S), features coarse to fine, raw motion (1, M)."""

    identity: Tensor
    features: tuple[Tensor, ...]
    motion: Tensor
    image: Tensor


class MotionAE(nn.Module):
    """LIA-X: style = identity code + sum of directions weighed by a motion code; the style drives the
    decoder.

    Pictures are (B, 3, H, W) in [-1, 1], RGB. Raw motion is what `encode` gives and `decode` takes.
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
        mean, scale = config.motion_mean or (0.0,), config.motion_scale or (1.0,)
        self.register_buffer("mean", torch.tensor(mean).expand(config.motion_dim).clone(), persistent=False)
        self.register_buffer("scale", torch.tensor(scale).expand(config.motion_dim).clone(), persistent=False)

    def portrait(self, image: Tensor) -> Portrait:
        """The source picture (1, 3, H, W); raises ValueError at another size than the configuration's."""
        self._check(image)
        identity, features = self.encoder(image)
        return Portrait(identity, features, self.read(image, identity, features), image)

    def encode(self, frames: Tensor) -> Tensor:
        """Frames (B, 3, H, W) -> raw motion (B, M)."""
        self._check(frames)
        return self.read(frames, *self.encoder(frames))

    def read(
        self, image: Tensor, identity: Tensor, features: tuple[Tensor, ...], centres: Tensor | None = None
    ) -> Tensor:
        """Pictures (B, 3, H, W) and what the encoder made of them -> raw motion (B, M).

        With glimpses, `centres` (B, glimpses, 2) says where to look; training knows it better.
        """
        code = self.encoder.motion(identity)
        if self.glimpses is not None:
            if centres is None:
                centres = self.glimpses.where(features)
            code = code + self.glimpses(image, centres)
        return self.raw(code)

    def decode(self, motion: Tensor, portrait: Portrait) -> Tensor:
        """Raw motion (T, M) -> frames (T, 3, H, W), clamped to [-1, 1]."""
        return self.render(motion, portrait).clamp(-1.0, 1.0)

    def render(self, motion: Tensor, portrait: Portrait) -> Tensor:
        """`decode` without the clamp, for losses; the portrait may hold a batch of T."""
        style = self.style(motion, portrait.identity, portrait.motion)
        return self.decoder(style, portrait.features, portrait.image)

    def style(self, motion: Tensor, identity: Tensor, start: Tensor) -> Tensor:
        """Raw motion (B, M), a portrait's identity codes (B or 1, S) and own raw motion (B or 1, M) -> styles
        (B, S); only a `relative` network reads the latter.
        """
        origin = start if self.config.relative else self.mean
        return identity + self.directions((motion - origin) / self.scale)

    def raw(self, code: Tensor) -> Tensor:
        """Motion codes (B, M) in the network's units -> raw motion."""
        return code * self.scale + self.mean

    def _check(self, frames: Tensor) -> None:
        size = self.config.resolution
        if frames.ndim != 4 or frames.shape[1:] != (3, size, size):
            raise ValueError(f"pictures must be (batch, 3, {size}, {size}), not {tuple(frames.shape)}")


def relative_motion(target: Tensor, start: Tensor, portrait: Portrait) -> Tensor:
    """Raw motion that moves the portrait as `target` (T, M) moved away from `start` (1, M); `decode` takes
    it.

    The published form adds and subtracts displacements; they are linear in the motion, so the motions add
    just as well.
    """
    return target - start + portrait.motion
