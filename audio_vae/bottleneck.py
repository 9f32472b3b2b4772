"""The Gaussian bottleneck: hidden frames to means and deviations, and latents back to hidden frames."""

from __future__ import annotations

from torch import Tensor, nn


class Bottleneck(nn.Module):
    """Two pointwise linear maps around a diagonal Gaussian of `latent_dim` dimensions a frame."""

    def __init__(self, width_in: int, latent_dim: int, width_out: int) -> None:
        super().__init__()
        self.project = nn.Linear(width_in, 2 * latent_dim)
        self.expand = nn.Linear(latent_dim, width_out)

    def posterior(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation, each (B, T, C), of hidden frames (B, T, width)."""
        mean, scale = self.project(hidden).chunk(2, dim=-1)
        return mean, scale.clamp(-7.0, 2.0)


def sample(mean: Tensor, log_std: Tensor, noise: Tensor) -> Tensor:
    """The draw from the posterior that standard normal noise of the same shape gives."""
    return mean + log_std.exp() * noise
