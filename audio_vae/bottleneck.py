"""The Gaussian bottleneck: hidden frames to means and standard deviations, latents to hidden frames."""

from __future__ import annotations

from torch import Tensor, nn


class Bottleneck(nn.Module):
    """Linear layers before and after a diagonal Gaussian of `latent_dim` dimensions per frame."""

    def __init__(self, width_in: int, latent_dim: int, width_out: int) -> None:
        super().__init__()
        self.project = nn.Linear(width_in, 2 * latent_dim)
        self.expand = nn.Linear(latent_dim, width_out)

    def posterior(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation, each (B, T, C) in float32, for hidden frames (B, T, width)."""
        mean, log_std = self.project(hidden).float().chunk(2, dim=-1)
        return mean, log_std.clamp(-7.0, 2.0)

    def hidden(self, latents: Tensor) -> Tensor:
        """Latents (B, T, C) -> hidden frames (B, T, width) in the data type of the weights."""
        return self.expand(latents.to(self.expand.weight.dtype))


def sample(mean: Tensor, log_std: Tensor, noise: Tensor) -> Tensor:
    """A sample of the posterior (B, T, C), from standard normal noise of the same shape."""
    return mean + log_std.exp() * noise
