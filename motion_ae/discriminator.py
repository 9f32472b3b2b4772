"""The discriminator of frames: the residual one of StyleGAN2 (Karras et al., 2020, appendix B), as in LIA."""

from dataclasses import dataclass
from math import log2

import torch
from torch import Tensor, nn

from motion_ae.layers import ConvLayer, EqualLinear, ResBlock, channels_last, leaky


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """Sizes of the discriminator.

    Attributes:
        channels: one entry per resolution from 4 pixels up, coarse to fine.
        group: samples per group of the minibatch standard deviation.
        lean: as in `MotionAEConfig`.
    """

    channels: tuple[int, ...]
    group: int = 4
    lean: bool = False

    @classmethod
    def base(cls) -> "DiscriminatorConfig":
        """The sizes of StyleGAN2 for 512 pixels."""
        return cls(channels=(512, 512, 512, 512, 512, 256, 128, 64))

    @classmethod
    def puppet(cls) -> "DiscriminatorConfig":
        """For a CPU: 128 pixels, with the channels of the puppet's encoder."""
        return cls(channels=(128, 128, 96, 64, 32, 16), lean=True)

    @classmethod
    def tiny(cls) -> "DiscriminatorConfig":
        """For tests: 32 pixels, a few thousand parameters."""
        return cls(channels=(8, 8, 8, 4), group=2, lean=True)


class Discriminator(nn.Module):
    """Pictures of any supported resolution -> logits; residual blocks halve the resolution down to 4 pixels.

    Every resolution has its own stem, so that training in stages keeps the weights of the coarser resolutions
    (Karras et al., 2018).
    """

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config, widths = config, config.channels
        self.stems = nn.ModuleList(ConvLayer(3, width, 1) for width in widths)
        self.blocks = nn.ModuleList(
            ResBlock(inner, outer, down=True, lean=config.lean)
            for inner, outer in zip(widths[1:], widths, strict=False)
        )
        self.last = ConvLayer(widths[0] + 1, widths[0])
        self.summary = EqualLinear(16 * widths[0], widths[0])
        self.judge = EqualLinear(widths[0], 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, H) in [-1, 1], H = 4, 8, ... -> logits (B,) in float32.

        Raises:
            ValueError: H is not a supported resolution.
        """
        index = log2(pictures.shape[-1] / 4)
        if index not in range(len(self.stems)):
            raise ValueError(
                f"pictures are {pictures.shape[-1]} pixels wide; the discriminator supports 4, 8, ..., "
                f"{4 << (len(self.blocks))}"
            )
        level = int(index)
        x = self.stems[level](channels_last(pictures))
        for block in reversed(self.blocks[:level]):
            x = block(x)
        x = self.last(torch.cat([x, minibatch_deviation(x, self.config.group)], dim=1))
        logits: Tensor = self.judge(leaky(self.summary(x.flatten(1))))
        return logits[:, 0].float()


def minibatch_deviation(x: Tensor, group: int) -> Tensor:
    """Minibatch standard deviation (Karras et al., 2018, section 3): features (B, C, H, W) -> (B, 1, H, W).

    The standard deviation over the g samples of a group, averaged over all features. g is the largest divisor
    of B up to `group`; the samples of a group are B / g apart.
    """
    size = next(size for size in range(min(group, len(x)), 0, -1) if len(x) % size == 0)
    grouped = x.float().unflatten(0, (size, -1))
    deviation = (grouped.var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3), keepdim=True)
    return deviation.to(x.dtype).repeat(size, 1, *x.shape[2:])
