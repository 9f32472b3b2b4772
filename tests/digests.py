"""One number for an array, to record it by."""

from __future__ import annotations

from typing import Any

import numpy as np


def digest(values: Any) -> float:
    """The mean of all values, with irregular weights: it changes with any value and with their order."""
    numbers = np.asarray(values, np.float64).reshape(-1)
    return float(np.mean(numbers * (1 + 0.5 * np.cos(1.7 * np.arange(len(numbers))))))
