"""Perceptual distances: differences of features at several scales, from VGG19 or from fixed filters.

Pictures are (B, 3, H, W) in [-1, 1]; a distance is a scalar, 0 for equal pictures.
"""

from collections.abc import Mapping
from math import pi

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SCALES = 4  # 1, 1/2, 1/4 and 1/8 of the resolution


class VGGDistance(nn.Module):
    """LIA's perceptual loss: mean absolute differences of five VGG19 layers at four scales, summed.

    Scales narrower than 16 pixels are left out, because the last layer would be empty.

    Args:
        weights: state dict of torchvision's `vgg19`.

    Raises:
        ValueError: the keys or shapes are not those of `vgg19`.
    """

    mean: Tensor
    deviation: Tensor

    LAYERS = (1, 6, 11, 20, 29)  # relu1_1, ..., relu5_1
    NARROWEST = 16

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        from torchvision.models import vgg  # imported here because it takes seconds

        features = vgg.make_layers(vgg.cfgs["E"])[: self.LAYERS[-1] + 1]
        wanted = {f"features.{key}" for key in features.state_dict()}
        try:
            features.load_state_dict({key[9:]: weights[key] for key in wanted})
        except (KeyError, RuntimeError) as error:
            raise ValueError(
                f"the weights are not torchvision's vgg19 weights ({error}); export them from torchvision"
            ) from error
        self.layers = features.requires_grad_(False).eval()
        self.register_buffer("mean", torch.tensor((0.485, 0.456, 0.406))[:, None, None], persistent=False)
        self.register_buffer(
            "deviation", torch.tensor((0.229, 0.224, 0.225))[:, None, None], persistent=False
        )

    def features(self, pictures: Tensor) -> list[Tensor]:
        """The outputs of `LAYERS` for pictures, each (B, C, h, w)."""
        x, chosen = (pictures / 2 + 0.5 - self.mean) / self.deviation, []
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index in self.LAYERS:
                chosen.append(x)
        return chosen

    def forward(self, picture: Tensor, target: Tensor) -> Tensor:
        loss = torch.zeros((), device=picture.device)
        for ours, goal in scales(picture, target, self.NARROWEST):
            with torch.no_grad():
                goals = self.features(goal)
            for made, wanted in zip(self.features(ours), goals, strict=True):
                loss = loss + (made.float() - wanted.float()).abs().mean()
        return loss


class FilterDistance(nn.Module):
    """A perceptual distance without trained weights: Gabor filters instead of the layers of a network.

    Pairs of an even and an odd Gabor filter (4 orientations, wavelength 4 pixels) respond to edges and lines
    in every colour channel at four scales. The distance is the mean absolute difference of the responses,
    which encode the position of an edge, plus that of the local energy of each pair (root of the sum of
    squares, averaged over neighbours), which encodes its presence. Unlike the deeper layers of VGG, the
    filters do not represent faces or objects.
    """

    filters: Tensor

    ORIENTATIONS, SIZE, WAVELENGTH, WIDTH = 4, 7, 4.0, 1.5

    def __init__(self) -> None:
        super().__init__()
        offset = torch.arange(self.SIZE) - self.SIZE // 2
        y, x = torch.meshgrid(offset, offset, indexing="ij")
        window = torch.exp(-(x.square() + y.square()) / (2 * self.WIDTH**2))
        pairs = []
        for angle in torch.arange(self.ORIENTATIONS) * (pi / self.ORIENTATIONS):
            phase = 2 * pi / self.WAVELENGTH * (x * angle.cos() + y * angle.sin())
            even, odd = window * phase.cos(), window * phase.sin()
            pairs += [even - window * (even.sum() / window.sum()), odd]  # both have a sum of zero
        filters = torch.stack([pair / pair.abs().sum() for pair in pairs])
        self.register_buffer("filters", filters[:, None], persistent=False)

    def features(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Responses (3 B, 8, h, w) without padding, and energies (3 B, 4, h, w)."""
        responses = F.conv2d(pictures.flatten(0, 1)[:, None], self.filters)
        energy = (responses.unflatten(1, (-1, 2)).float().square().sum(2) + 1e-6).sqrt()
        return responses, F.avg_pool2d(energy, 3, stride=1, padding=1)

    def forward(self, picture: Tensor, target: Tensor) -> Tensor:
        loss, pairs = torch.zeros((), device=picture.device), scales(picture, target, self.SIZE)
        for ours, goal in pairs:
            for made, wanted in zip(self.features(ours), self.features(goal), strict=True):
                loss = loss + (made.float() - wanted.float()).abs().mean()
        return loss / len(pairs)


def scales(picture: Tensor, target: Tensor, narrowest: int) -> list[tuple[Tensor, Tensor]]:
    """Both pictures averaged down by 1, 2, 4 and 8, as long as they stay at least `narrowest` pixels wide."""
    pairs = [(picture, target)]
    while len(pairs) < SCALES and picture.shape[-1] // 2 >= narrowest:
        picture, target = F.avg_pool2d(picture, 2), F.avg_pool2d(target, 2)
        pairs.append((picture, target))
    return pairs
