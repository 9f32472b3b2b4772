"""Reconstruction quality of the audio VAE and of the motion autoencoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from audio_vae.model import AudioVAE
from evaluation.video import Box, SquaredError, squared_error, ssim
from motion_ae.model import MotionAE
from talker.media.pixels import from_uint8, to_uint8


@torch.inference_mode()
def round_trip(vae: AudioVAE, pcm: Tensor) -> Tensor:
    """Encode and decode pcm (samples,); the result is cut to whole frames."""
    return vae.decode(vae.encode(pcm[None]))[0]


@dataclass(frozen=True)
class Reenactment:
    """Errors of reenactment over pairs of frames; the sum of two objects covers the pairs of both.

    Attributes:
        whole, mouth: error of the reenacted frame, in the whole frame and in the target's mouth box.
        copy_whole, copy_mouth: error of the unchanged source frame.
        ssim, ssim_mouth: sums of the structural similarity over the pairs.
        pairs: number of pairs.
    """

    whole: SquaredError = SquaredError()  # noqa: RUF009 - SquaredError is frozen as well
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
        """Return PSNR of each region over all pairs, gain over copying the source, and mean SSIM."""
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
    """Reenact target (3, H, W) with the face of source (3, H, W), both in [0, 1] and of 8 bits.

    `box` contains the mouth in the target.
    """
    first, second = (from_uint8(to_uint8(image[None], low=0)) for image in (source, target))
    moved = model.decode(model.encode(second), model.encode_source(first))[0]
    # Compare the picture as it is displayed, in 8 bits.
    moved = from_uint8(to_uint8(moved), low=0)
    return Reenactment(
        whole=squared_error(moved, target),
        mouth=squared_error(moved, target, box),
        copy_whole=squared_error(source, target),
        copy_mouth=squared_error(source, target, box),
        ssim=ssim(moved, target),
        ssim_mouth=ssim(moved, target, box),
        pairs=1,
    )
