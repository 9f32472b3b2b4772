"""What the two autoencoders lose: phonemes after a round trip of sound, decibels after moving a face."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from audio_vae.model import AudioVAE
from evaluation.video import Box, SquaredError, squared_error, ssim
from motion_ae.model import MotionAE


@torch.inference_mode()
def round_trip(vae: AudioVAE, pcm: Tensor) -> Tensor:
    """pcm (samples,) through encoder and decoder: (samples,) cut to whole frames."""
    return vae.decode(vae.encode(pcm[None]))[0]


@dataclass(frozen=True)
class Reenactment:
    """Errors of moving a face from one frame to another, pooled by adding; `copy`: of not moving it at all.

    `mouth`, `copy_mouth` cover the target's mouth box; `ssim` sums structural similarity over `pairs`.
    """

    whole: SquaredError = SquaredError()  # noqa: RUF009 - frozen as well
    mouth: SquaredError = SquaredError()  # noqa: RUF009
    copy_whole: SquaredError = SquaredError()  # noqa: RUF009
    copy_mouth: SquaredError = SquaredError()  # noqa: RUF009
    ssim: float = 0.0
    ssim_mouth: float = 0.0
    pairs: int = 0

    def __add__(self, other: Reenactment) -> Reenactment:
        names = self.__dataclass_fields__
        return Reenactment(**{name: getattr(self, name) + getattr(other, name) for name in names})

    def figures(self) -> dict[str, float | int]:
        """One PSNR a region, from the summed error, and the gain over copying the source."""
        mean = max(self.pairs, 1)
        return {
            "pairs": self.pairs,
            "mouth_db": self.mouth.psnr,
            "copy_mouth_db": self.copy_mouth.psnr,
            "mouth_gain_db": self.mouth.psnr - self.copy_mouth.psnr,
            "whole_db": self.whole.psnr,
            "copy_whole_db": self.copy_whole.psnr,
            "ssim": self.ssim / mean,
            "ssim_mouth": self.ssim_mouth / mean,
        }


@torch.inference_mode()
def reenact(model: MotionAE, source: Tensor, target: Tensor, box: Box) -> Reenactment:
    """Move the face of source (3, H, W) as in target, alike, in [0, 1]; `box` is the target's mouth."""
    portrait = model.portrait(2 * source[None] - 1)
    moved = model.decode(model.encode(2 * target[None] - 1), portrait)[0] / 2 + 0.5
    # Compared as a viewer gets it: in eight bits.
    moved = (moved * 255).round() / 255
    return Reenactment(
        whole=squared_error(moved, target),
        mouth=squared_error(moved, target, box),
        copy_whole=squared_error(source, target),
        copy_mouth=squared_error(source, target, box),
        ssim=ssim(moved, target),
        ssim_mouth=ssim(moved, target, box),
        pairs=1,
    )
