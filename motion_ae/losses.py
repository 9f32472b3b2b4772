"""Training losses of the motion autoencoder. Pictures (B, 3, H, W) in [-1, 1]; every loss is a scalar.

Those that are divided by a mean weight take how to find it, which several processes do together.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

Mean = Callable[[Tensor], Tensor]


def box_weights(boxes: Tensor, size: int, weight: float) -> Tensor:
    """Boxes (B, N, 4) of x0, y0, x1, y1 in pixels -> (B, 1, size, size): `weight` inside any, else 0."""
    at = torch.arange(size, device=boxes.device) + 0.5
    x0, y0, x1, y1 = boxes.float().unbind(-1)
    across = (at >= x0[..., None]) & (at < x1[..., None])
    down = (at >= y0[..., None]) & (at < y1[..., None])
    inside = (down[..., :, None] & across[..., None, :]).any(1, keepdim=True)
    return weight * inside.float()


def weighted_l1(picture: Tensor, target: Tensor, weights: Tensor, mean: Mean = torch.mean) -> Tensor:
    """Mean absolute error under weights (B, 1, H, W), divided by the mean weight."""
    return ((picture - target).abs() * weights).mean() / mean(weights)


def pyramid_l1(picture: Tensor, target: Tensor, levels: int = 3) -> Tensor:
    """Mean absolute error of the pictures averaged down by 2, 4, ... (`levels` times), mean over levels."""
    loss = picture.new_zeros(())
    difference = picture - target
    for _ in range(levels):
        difference = F.avg_pool2d(difference, 2)
        loss = loss + difference.abs().mean()
    return loss / levels


def gradient_l1(picture: Tensor, target: Tensor, weights: Tensor, mean: Mean = torch.mean) -> Tensor:
    """Mean absolute error of neighbours' differences, down and across, under weights (B, 1, H, W)."""
    difference = picture - target
    across = (difference[..., 1:] - difference[..., :-1]).abs() * weights[..., 1:]
    down = (difference[..., 1:, :] - difference[..., :-1, :]).abs() * weights[..., 1:, :]
    return (across.mean() + down.mean()) / mean(weights)


def flow_l1(
    raw: Sequence[Tensor], flow: Tensor, size: int, weights: Tensor, mean: Mean = torch.mean
) -> Tensor:
    """How far the predicted warps are from known ones, in picture widths, averaged over levels.

    Args:
        raw: raw flow (B, 3, h, h) of some levels (see `decoder.Canvas`).
        flow: from each target pixel to the same spot of the source (B, 2, g, g), in pixels of a picture
            `size` wide.
        weights: (B, 1, H, W), averaged over each cell.
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
    """Mean squared error of raw motion (B, M), each dimension divided by its usual spread (M)."""
    return ((motion - known) / spread).square().mean()


def not_believed(logits: Tensor) -> Tensor:
    """Non-saturating loss of pictures that should be taken for real: mean of -log sigmoid(logits) (B,).

    The generator's loss of what it draws, and half of the discriminator's: of real pictures as they are, of
    drawn ones with the sign changed (Goodfellow et al., 2014, section 3).
    """
    return F.softplus(-logits.float()).mean()


def r1(logits: Tensor, pictures: Tensor) -> Tensor:
    """R1 penalty: squared norm of the logits' (B,) gradient at real pictures (B, ...), a mean over samples
    (Mescheder et al., 2018). `pictures` need a gradient."""
    (gradient,) = torch.autograd.grad(logits.sum(), pictures, create_graph=True)
    return gradient.square().flatten(1).sum(1).mean()


def sparsity(code: Tensor) -> Tensor:
    """Mean absolute value of motion codes (B, M): few directions are to move at a time (LIA-X)."""
    return code.abs().mean()
