"""The motion vector of the corpus: 24 numbers a frame."""

from __future__ import annotations

MOTION = (
    "yaw", "pitch", "roll", "shift_x", "shift_y", "scale", "jaw", "lip_width", "rounding", "closure", "lip_roll", "upper_lip",
    "lower_lip", "smile", "tongue", "lid_left", "lid_right", "gaze_x", "gaze_y", "brow_inner", "brow_outer", "brow_lower", "cheek",
    "breath",
)  # fmt: skip
