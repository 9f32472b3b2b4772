"""Training losses of the motion autoencoder. Pictures are (B, 3, H, W) in [-1, 1]; every loss is a scalar.

Losses that are normalised by a mean weight take the function `mean`, which distributed training replaces by a
mean over all processes.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

Mean = Callable[[Tensor], Tensor]


def box_weights(boxes: Tensor, size: int, weight: float) -> Tensor:
    """Boxes (B, N, 4) of x0, y0, x1, y1 in pixels -> (B, 1, size, size): `weight` inside any box, else 0."""
    centre = torch.arange(size, device=boxes.device) + 0.5
    x0, y0, x1, y1 = boxes.float().unbind(-1)
    across = (centre >= x0[..., None]) & (centre < x1[..., None])
    down = (centre >= y0[..., None]) & (centre < y1[..., None])
    inside = (down[..., :, None] & across[..., None, :]).any(1, keepdim=True)
    return weight * inside.float()


def weighted_l1(picture: Tensor, target: Tensor, weights: Tensor, mean: Mean = torch.mean) -> Tensor:
    """Mean absolute error weighted by (B, 1, H, W), divided by the mean weight."""
    return ((picture - target).abs() * weights).mean() / mean(weights)


def pyramid_l1(picture: Tensor, target: Tensor, levels: int = 3) -> Tensor:
    """Mean absolute error of the pictures averaged down by 2, 4, ..., 2^levels, mean over levels."""
    loss = picture.new_zeros(())
    difference = picture - target
    for _ in range(levels):
        difference = F.avg_pool2d(difference, 2)
        loss = loss + difference.abs().mean()
    return loss / levels


def gradient_l1(picture: Tensor, target: Tensor, weights: Tensor, mean: Mean = torch.mean) -> Tensor:
    """Weighted mean absolute error of the differences of neighbouring pixels, horizontally and vertically.

    The weights are (B, 1, H, W); the result is divided by their mean.
    """
    difference = picture - target
    across = (difference[..., 1:] - difference[..., :-1]).abs() * weights[..., 1:]
    down = (difference[..., 1:, :] - difference[..., :-1, :]).abs() * weights[..., 1:, :]
    return (across.mean() + down.mean()) / mean(weights)


def flow_l1(
    raw: Sequence[Tensor], flow: Tensor, size: int, weights: Tensor, mean: Mean = torch.mean
) -> Tensor:
    """Weighted mean absolute error of predicted flows in picture widths, averaged over levels.

    Args:
        raw: raw flow (B, 3, h, h) of each level (see `decoder.LevelOutput`).
        flow: true flow (B, 2, g, g): displacement from each target pixel to the same point of the source, in
            pixels of a picture `size` wide.
        size: width of the picture in pixels.
        weights: (B, 1, H, W), averaged over the cells of each level.
        mean: the mean of the weights.
    """
    loss = flow.new_zeros(())
    for level in raw:
        wide = level.shape[-1]
        known = F.interpolate(flow, size=(wide, wide), mode="area" if wide <= flow.shape[-1] else "bilinear")
        predicted = torch.tanh(level[:, :2]) * (wide - 1) / (2 * wide)
        cells = F.interpolate(weights, size=(wide, wide), mode="area")
        loss = loss + ((predicted - known / size).abs() * cells).mean() / mean(cells)
    return loss / max(1, len(raw))


def code_error(motion: Tensor, known: Tensor, spread: Tensor) -> Tensor:
    """Mean squared error of raw motion (B, M), where each dimension is divided by its usual spread (M,)."""
    return ((motion - known) / spread).square().mean()


def non_saturating_loss(logits: Tensor) -> Tensor:
    """Non-saturating loss: mean of -log sigmoid(logits) of logits (B,) (Goodfellow et al., 2014, section 3).

    The generator minimises it for the logits of its pictures. The discriminator minimises it for the logits
    of real pictures plus the negated logits of generated pictures.
    """
    return F.softplus(-logits.float()).mean()


def r1(logits: Tensor, pictures: Tensor) -> Tensor:
    """R1 penalty (Mescheder et al., 2018): squared norm of the gradient of logits (B,), mean over samples.

    `pictures` (B, ...) are the real pictures whose logits these are; they must require gradients.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), pictures, create_graph=True)
    return gradient.square().flatten(1).sum(1).mean()


def sparsity(code: Tensor) -> Tensor:
    """Mean absolute value of motion codes (B, M): few directions should be active at a time (LIA-X)."""
    return code.abs().mean()
