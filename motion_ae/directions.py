"""The dictionary of motion directions (LIA, section 3.1)."""

import torch
from torch import Tensor, nn

from motion_ae.layers import Derived


def orthonormal(weight: Tensor) -> Tensor:
    """Q of the QR decomposition of weight (S, M) in float32; columns have the signs that LAPACK returns."""
    return torch.linalg.qr(weight.float() + 1e-8)[0]


class Directions(nn.Module):
    """`motion_dim` orthonormal directions in the space of identity codes; a motion code is their weights."""

    def __init__(self, style_dim: int, motion_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(style_dim, motion_dim))
        self._basis = Derived(orthonormal)

    def basis(self) -> Tensor:
        """The directions as orthonormal columns, (S, M) in float32; see `orthonormal`."""
        return self._basis(self.weight, self.training)

    def forward(self, code: Tensor) -> Tensor:
        """Motion codes (B, M) -> displacements of the identity code (B, S), both in float32."""
        return code.float() @ self.basis().T
