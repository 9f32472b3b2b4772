"""Sizes of the motion autoencoder."""

from dataclasses import dataclass
from math import log2

_PUPPET_SCALE = (
    *(0.07, 0.05, 0.04, 0.02, 0.02, 0.02),  # yaw, pitch, roll, shift x and y, scale
    *(0.1, 0.15, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1),  # jaw, lip width, rounding, ..., tongue
    *(0.12, 0.12, 0.15, 0.15, 0.1, 0.1, 0.1, 0.1, 0.1),  # lids, gaze, brows, cheek, breath
)
"""A third of each motion value's usual spread: codes of about 3 move a style as far as people differ."""


@dataclass(frozen=True, kw_only=True)
class MotionAEConfig:
    """A LIA-X-style autoencoder. The levels run from 8 pixels wide to `feature_resolution`, coarse to fine.

    `channels`, `flow_blocks` and `rgb_blocks` have one entry a level; `style_dim` is the width of the
    identity code. The last seven fields are not in the published network, whose values are the defaults:

    - `lean`: resample beside the convolution, not inside it: convolve at the lower resolution, then up-sample
      (a quarter of the multiplications), and average 2x2 instead of blurring before a strided convolution;
    - `blend`: features end at half the resolution, and the picture is the warped source image itself, mixed
      by a predicted mask with what the network paints: sharp where the source shows it, and cheap;
    - `inpaint`: the picture is painted from what the hidden path knows too, where the mask hides the warped
      source: an open mouth that the source keeps shut;
    - `relative`: a style leaves the identity code by how far the motion is from the portrait's own, so that
      the decoder need not find out from the identity code where the portrait already stands;
    - `glimpses`: so many parts of the face (mouth, eyes) are found and looked at closely when motion is read;
    - `motion_mean`, `motion_scale` (one a dimension): raw motion = code x scale + mean, which gives the code
      the units of a motion vector known from elsewhere.
    """

    resolution: int
    style_dim: int
    motion_dim: int
    channels: tuple[int, ...]
    flow_blocks: tuple[int, ...]
    rgb_blocks: tuple[int, ...]
    norm_groups: int = 32
    lean: bool = False
    blend: bool = False
    inpaint: bool = False
    relative: bool = False
    glimpses: int = 0
    motion_mean: tuple[float, ...] = ()
    motion_scale: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError where the fields do not fit together."""
        levels = log2(self.feature_resolution / 4)
        for name in ("channels", "flow_blocks", "rgb_blocks"):
            if len(getattr(self, name)) != levels:
                raise ValueError(
                    f"{name} needs {levels:g} entries, one a level, at resolution {self.resolution}"
                )
        if self.motion_dim > self.style_dim:
            raise ValueError("motion_dim directions cannot be orthogonal in a smaller style_dim")
        for width, blocks in zip(self.channels, self.flow_blocks, strict=True):
            if blocks and width % self.norm_groups:
                raise ValueError(f"{width} channels do not divide into {self.norm_groups} groups")
        for scale in (self.motion_mean, self.motion_scale):
            if scale and len(scale) != self.motion_dim:
                raise ValueError("motion_mean and motion_scale have one entry a motion dimension, or none")

    @property
    def feature_resolution(self) -> int:
        """Width of the finest feature map in pixels."""
        return self.resolution // 2 if self.blend else self.resolution

    @classmethod
    def base(cls, scale: int = 2) -> "MotionAEConfig":
        """LIA-X as published (512 pixels; scale 2 is the released size, scale 1 half as wide)."""
        wide = 512 * scale
        return cls(
            resolution=512,
            style_dim=wide,
            motion_dim=40,
            channels=(wide, wide, wide, wide, wide // 2, wide // 4, wide // 8),
            flow_blocks=(4,) * 7,
            rgb_blocks=(4,) * 7,
        )

    @classmethod
    def puppet(cls) -> "MotionAEConfig":
        """The embedded default: 256 pixels, its code is the puppet corpus's motion vector."""
        return cls(
            resolution=256,
            style_dim=256,
            motion_dim=24,
            channels=(128, 96, 64, 32, 16),
            flow_blocks=(1, 1, 1, 1, 0),
            rgb_blocks=(0, 0, 0, 1, 0),
            norm_groups=8,
            lean=True,
            blend=True,
            inpaint=True,
            relative=True,
            glimpses=3,
            motion_scale=_PUPPET_SCALE,
        )

    @classmethod
    def small(cls) -> "MotionAEConfig":
        """The published form, but for `lean`, at a size that a CPU can train: 128 pixels."""
        return cls(
            resolution=128,
            style_dim=256,
            motion_dim=40,
            channels=(128, 96, 64, 32, 16),
            flow_blocks=(1, 1, 1, 1, 1),
            rgb_blocks=(0, 0, 1, 1, 1),
            norm_groups=8,
            lean=True,
        )

    @classmethod
    def tiny(cls) -> "MotionAEConfig":
        """For tests: 32 pixels, a few thousand parameters, every option of the puppet on."""
        return cls(
            resolution=32,
            style_dim=16,
            motion_dim=6,
            channels=(8, 4),
            flow_blocks=(1, 1),
            rgb_blocks=(0, 1),
            norm_groups=4,
            lean=True,
            blend=True,
            inpaint=True,
            relative=True,
            glimpses=3,
            motion_mean=(0.1,) * 6,
            motion_scale=(0.5,) * 6,
        )

    @classmethod
    def tiny_published(cls) -> "MotionAEConfig":
        """For tests: the published form, but for `lean`, at 32 pixels."""
        return cls(
            resolution=32,
            style_dim=16,
            motion_dim=6,
            channels=(8, 8, 4),
            flow_blocks=(1, 1, 0),
            rgb_blocks=(0, 0, 1),
            norm_groups=4,
            lean=True,
        )
