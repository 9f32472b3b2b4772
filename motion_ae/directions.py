"""The dictionary of motion directions (LIA, section 3.1)."""

import torch
from torch import Tensor, nn


class Directions(nn.Module):
    """`motion_dim` orthonormal directions in the space of identity codes; a motion code weighs them."""

    def __init__(self, style_dim: int, motion_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(style_dim, motion_dim))

    def basis(self) -> Tensor:
        """(S, M), orthonormal columns: Q of Householder's QR, with the signs that LAPACK leaves."""
        return torch.linalg.qr(self.weight + 1e-8)[0]

    def forward(self, code: Tensor) -> Tensor:
        """(B, M) codes -> (B, S) displacements of the identity code."""
        return code @ self.basis().T
