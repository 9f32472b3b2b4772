"""How different two pictures look: distances of features at several scales, of a trained network or of fixed
filters. Pictures are (B, 3, H, W) in [-1, 1]; a distance is a scalar, 0 for equal pictures.
"""

from collections.abc import Mapping
from math import pi

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SCALES = 4  # of the picture: 1, 1/2, 1/4, 1/8


class VGGDistance(nn.Module):
    """LIA's perceptual loss: mean absolute differences of five of VGG19's layers at four scales, summed.

    Scales narrower than 16 pixels, of which the last layer would see nothing, are left out.

    Args:
        weights: of torchvision's `vgg19`, keys as there.

    Raises:
        ValueError: these are other weights.
    """

    mean: Tensor
    deviation: Tensor

    LAYERS = (1, 6, 11, 20, 29)  # relu1_1, ..., relu5_1
    NARROWEST = 16

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        from torchvision.models import vgg  # takes seconds, and few train with it

        features = vgg.make_layers(vgg.cfgs["E"])[: self.LAYERS[-1] + 1]
        wanted = {f"features.{key}" for key in features.state_dict()}
        try:
            features.load_state_dict({key[9:]: weights[key] for key in wanted})
        except (KeyError, RuntimeError) as error:
            raise ValueError(f"these are not torchvision's weights of vgg19: {error}") from error
        self.layers = features.requires_grad_(False).eval()
        self.register_buffer("mean", torch.tensor((0.485, 0.456, 0.406))[:, None, None], persistent=False)
        self.register_buffer(
            "deviation", torch.tensor((0.229, 0.224, 0.225))[:, None, None], persistent=False
        )

    def features(self, pictures: Tensor) -> list[Tensor]:
        """What the chosen layers make of pictures, each (B, C, h, w)."""
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
    """A perceptual distance without trained weights: fixed oriented filters instead of a network's layers.

    Pairs of an even and an odd Gabor filter (4 orientations, wavelength 4 pixels) see the edges and lines of
    every colour at four scales. What is compared, in absolute value: their responses, which say where an edge
    lies, and the local energy of each pair (root of the sum of squares, then averaged over neighbours), which
    says that there is one. It knows nothing of faces or objects, which is what VGG's deeper layers add.
    """

    filters: Tensor

    ORIENTATIONS, SIZE, WAVELENGTH, WIDTH = 4, 7, 4.0, 1.5

    def __init__(self) -> None:
        super().__init__()
        at = torch.arange(self.SIZE) - self.SIZE // 2
        y, x = torch.meshgrid(at, at, indexing="ij")
        window = torch.exp(-(x.square() + y.square()) / (2 * self.WIDTH**2))
        pairs = []
        for angle in torch.arange(self.ORIENTATIONS) * (pi / self.ORIENTATIONS):
            phase = 2 * pi / self.WAVELENGTH * (x * angle.cos() + y * angle.sin())
            even, odd = window * phase.cos(), window * phase.sin()
            pairs += [even - window * (even.sum() / window.sum()), odd]  # both blind to brightness
        filters = torch.stack([pair / pair.abs().sum() for pair in pairs])
        self.register_buffer("filters", filters[:, None], persistent=False)

    def features(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Responses (3 B, 8, h, w) inside the picture, and energies (3 B, 4, h', w')."""
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
    """Both pictures, averaged down by 1, 2, 4 and 8 as long as `narrowest` pixels are left."""
    pairs = [(picture, target)]
    while len(pairs) < SCALES and picture.shape[-1] // 2 >= narrowest:
        picture, target = F.avg_pool2d(picture, 2), F.avg_pool2d(target, 2)
        pairs.append((picture, target))
    return pairs
