"""The encoder: from a picture to a feature pyramid, an identity code and a motion code (LIA-X)."""

from torch import Tensor, nn
from torch.nn import functional as F

from motion_ae.config import MotionAEConfig
from motion_ae.layers import ConvLayer, EqualLinear, ResBlock, channels_last, equalised


class Encoder(nn.Module):
    """Residual blocks halve the picture down to 4x4 cells; one convolution gives the identity code."""

    def __init__(self, config: MotionAEConfig) -> None:
        super().__init__()
        fine_to_coarse = config.channels[::-1]
        self.stem = ConvLayer(3, fine_to_coarse[0], 1)
        self.blocks = nn.ModuleList(
            ResBlock(inner, outer, down=True, lean=config.lean)
            for inner, outer in zip(fine_to_coarse, [*fine_to_coarse[1:], fine_to_coarse[-1]], strict=True)
        )
        self.last = ConvLayer(fine_to_coarse[-1], config.style_dim, 4, activate=False)
        self.to_motion = EqualLinear(config.style_dim, config.motion_dim)
        self.config = config

    def forward(self, image: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Pictures (B, 3, H, W) in [-1, 1] -> identity codes (B, S), features (B, C, h, h) coarse to fine.

        Both outputs have the data type of the weights.
        """
        image = image.float()
        if image.shape[-1] != self.config.feature_resolution:
            image = F.interpolate(image, size=self.config.feature_resolution, mode="area")
        x = self.stem(channels_last(image.to(self.stem.weight.dtype)))
        features = []
        for block in self.blocks:
            features.append(x)
            x = block(x)
        code = F.conv2d(x, equalised(self.last.weight))
        return code.flatten(1), tuple(reversed(features))

    def motion(self, identity: Tensor) -> Tensor:
        """Identity codes (B, S) -> motion codes (B, M)."""
        return self.to_motion(identity)
