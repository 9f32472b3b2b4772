"""What stands behind a puppet: lit, out of focus, still."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recipes.data.puppet.face import Identity


def paint_backdrop(who: Identity, size: int) -> NDArray[np.float32]:
    """Linear colour (size,size,3)."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    first, second, _ = (np.array(colour, np.float32) for colour in who.stage.palette)
    blend = np.clip(y * 0.8 + x * 0.2, 0, 1)[..., None]
    return np.ascontiguousarray(first * (1 - blend) + second * blend, np.float32)
