"""Sizes of the motion autoencoder."""

from dataclasses import dataclass
from math import log2

_PUPPET_SCALE = (
    *(0.07, 0.05, 0.04, 0.02, 0.02, 0.02),  # yaw, pitch, roll, shift x and y, scale
    *(0.1, 0.15, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1),  # jaw, lip width, rounding, ..., tongue
    *(0.12, 0.12, 0.15, 0.15, 0.1, 0.1, 0.1, 0.1, 0.1),  # lids, gaze, brows, cheek, breath
)
"""A third of the usual spread of each motion value: a code of 3 moves the style by about that spread."""


@dataclass(frozen=True, kw_only=True)
class MotionAEConfig:
    """Sizes of a LIA-X-style autoencoder. Levels run from 8 pixels to `feature_resolution`, coarse to fine.

    The defaults of the last eight attributes are the values of the published network.

    Attributes:
        resolution: width and height of pictures in pixels.
        style_dim: width of the identity code and of a style.
        motion_dim: number of directions, the width of a motion code.
        channels, flow_blocks, rgb_blocks: one entry per level: channels of the feature maps, residual blocks
            of the hidden path, residual blocks of the paint path.
        norm_groups: groups of the group normalisation in the flow blocks.
        lean: convolve at the lower resolution before up-sampling (a quarter of the multiplications), and
            average 2x2 pixels before a strided convolution instead of blurring.
        blend: the features end at half the resolution; a predicted mask mixes the painted picture with the
            warped source image. This is sharp where the source shows the content, and cheap.
        inpaint: the paint path also reads the hidden path, so that it can paint content that the source does
            not show, such as an open mouth.
        relative: the motion code is the difference from the motion of the source, so that the decoder need
            not infer the pose of the source from the identity code.
        glimpses: number of parts of the face (mouth, eyes) whose crops are read; see `glimpses.py`.
        motion_mean, motion_scale: one entry per dimension, or empty for 0 and 1. Raw motion is
            code * scale + mean, which gives it the units of an existing motion vector.
        mouth: indices of the values of raw motion that move the mouth only; empty if they are not known.
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
    mouth: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check that the fields agree.

        Raises:
            ValueError: a tuple has the wrong length, or a width is not divisible as required.
        """
        levels = log2(self.feature_resolution / 4)
        for name in ("channels", "flow_blocks", "rgb_blocks"):
            if len(getattr(self, name)) != levels:
                raise ValueError(
                    f"{name} needs one entry per level, {levels:g} at resolution {self.resolution}"
                )
        if self.motion_dim > self.style_dim:
            raise ValueError(f"motion_dim {self.motion_dim} must not exceed style_dim {self.style_dim}")
        for width, blocks in zip(self.channels, self.flow_blocks, strict=True):
            if blocks and width % self.norm_groups:
                raise ValueError(f"{width} channels must be a multiple of norm_groups {self.norm_groups}")
        if any(not 0 <= index < self.motion_dim for index in self.mouth):
            raise ValueError(f"mouth must have indices below motion_dim {self.motion_dim}, not {self.mouth}")
        for scale in (self.motion_mean, self.motion_scale):
            if scale and len(scale) != self.motion_dim:
                raise ValueError(
                    f"motion_mean and motion_scale need {self.motion_dim} entries, one per dimension, or none"
                )

    @property
    def feature_resolution(self) -> int:
        """Width of the finest feature map in cells."""
        return self.resolution // 2 if self.blend else self.resolution

    @classmethod
    def base(cls, scale: int = 2) -> "MotionAEConfig":
        """LIA-X as published, 512 pixels; scale 2 is the released size, scale 1 has half the channels."""
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
        """The embedded default, 256 pixels; raw motion is the motion vector of the puppet corpus."""
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
            mouth=(6, 7, 8, 9, 10, 11, 12, 14),  # jaw to lower lip, and tongue
        )

    @classmethod
    def small(cls) -> "MotionAEConfig":
        """The published form except for `lean`, at a size that a CPU can train: 128 pixels."""
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
        """For tests: 32 pixels, a few thousand parameters, every option of the puppet enabled."""
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
            mouth=(2, 3),
        )

    @classmethod
    def tiny_published(cls) -> "MotionAEConfig":
        """For tests: the published form except for `lean`, at 32 pixels."""
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
