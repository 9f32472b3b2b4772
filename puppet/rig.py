"""Convert a motion vector to morph weights, head rotation, gaze direction and position in the picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from puppet.motion import MOTION

UNITS = (
    "jawOpen", "mouthClose", "mouthStretchLeft", "mouthStretchRight", "mouthPucker", "mouthFunnel",
    "mouthRollLower", "mouthRollUpper", "mouthPressLeft", "mouthPressRight", "mouthUpperUpLeft",
    "mouthUpperUpRight", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthSmileLeft", "mouthSmileRight",
    "cheekSquintLeft", "cheekSquintRight", "cheekPuff", "tongueOut", "eyeBlinkLeft", "eyeBlinkRight",
    "eyeLookDownLeft", "eyeLookDownRight", "eyeLookUpLeft", "eyeLookUpRight", "browInnerUp",
    "browOuterUpLeft", "browOuterUpRight", "browDownLeft", "browDownRight", "tongueUp",
)  # fmt: skip
HEAD_WIDTH = 1.55  # 0.1 m
SHOULDER_LIFT = 0.10  # 0.1 m, at breath = 1
GAZE_ANGLE = 0.42  # radians, at gaze = 1
_INDEX = {name: position for position, name in enumerate(UNITS)}


@dataclass(frozen=True)
class Pose:
    """How the face and the head are positioned in one frame.

    Attributes:
        weights: (len(UNITS),) of the morphs UNITS.
        rotation: (3, 3) of the head.
        gaze: (3,) unit direction of the eyes in head coordinates.
        shift: across and up, in 0.1 m.
        zoom: factor of the size in the picture.
        lift: of the shoulders, in 0.1 m.
    """

    weights: NDArray[np.float64]
    rotation: NDArray[np.float64]
    gaze: NDArray[np.float64]
    shift: tuple[float, float]
    zoom: float
    lift: float


def pose_of(motion: NDArray[np.float32]) -> Pose:
    """Convert a motion vector (24,); values beyond the possible range are clamped.

    Raises ValueError for another shape.
    """
    if motion.shape != (len(MOTION),):
        raise ValueError(f"a motion vector has {len(MOTION)} values, got shape {motion.shape}")
    m = dict(zip(MOTION, (float(value) for value in motion), strict=True))
    return Pose(
        weights=_weights(m),
        rotation=_rotation(*(float(np.clip(m[name], -0.9, 0.9)) for name in ("yaw", "pitch", "roll"))),
        gaze=_gaze(float(np.clip(m["gaze_x"], -1, 1)), float(np.clip(m["gaze_y"], -1, 1))),
        shift=(m["shift_x"] * HEAD_WIDTH, m["shift_y"] * HEAD_WIDTH),
        zoom=float(np.exp(np.clip(m["scale"], -0.4, 0.4))),
        lift=SHOULDER_LIFT * float(np.clip(m["breath"], 0, 1)),
    )


def _weights(m: dict[str, float]) -> NDArray[np.float64]:
    """Return the weights (len(UNITS),) of the morphs for the named motion values."""
    part = {
        name: float(np.clip(m[name], 0, 1))
        for name in MOTION[6:]
        if name not in ("lip_width", "gaze_x", "gaze_y")
    }
    width = float(np.clip(m["lip_width"], -1, 1))
    closure, open_ = part["closure"], 1 - part["closure"]
    # Pressed lips stay closed at any jaw opening: `closure` reduces the opening by up to 45 %, and mouthClose
    # closes the rest.
    jaw = 0.75 * part["jaw"] * (1 - 0.45 * closure)
    funnel, pucker = 0.55 * part["rounding"], 0.75 * part["rounding"] + 0.35 * max(0.0, -width)
    stretch = max(0.0, width) * (1 - 0.6 * part["rounding"])
    look_down, look_up = max(0.0, -m["gaze_y"]), max(0.0, m["gaze_y"])
    values = {
        "jawOpen": jaw,
        "mouthClose": jaw * closure,
        "mouthStretch": 0.85 * stretch,
        "mouthPucker": min(0.9, pucker) * (1 - 0.3 * closure),
        "mouthFunnel": funnel * open_,
        "mouthRollLower": 0.8 * part["lip_roll"] + 0.12 * closure,
        "mouthRollUpper": 0.25 * part["lip_roll"] + 0.10 * closure,
        "mouthPress": 0.35 * closure,
        "mouthUpperUp": 0.8 * part["upper_lip"] * open_,
        "mouthLowerDown": 0.9 * part["lower_lip"] * open_,
        "mouthSmile": 0.75 * part["smile"],
        "cheekSquint": 0.35 * part["smile"] + 0.3 * part["cheek"],
        "cheekPuff": 0.7 * part["cheek"],
        "tongueOut": 0.85 * part["tongue"] * (0.2 + 0.8 * open_) * min(1.0, 4 * jaw + part["lower_lip"]),
        "tongueUp": part["tongue"],
        "browInnerUp": 1.4 * part["brow_inner"],
        "browOuterUp": 1.4 * part["brow_outer"],
        "browDown": 1.4 * part["brow_lower"],
    }
    weights = np.zeros(len(UNITS))
    for name, value in values.items():
        for unit in (name, name + "Left", name + "Right"):
            if unit in _INDEX:
                weights[_INDEX[unit]] = value
    for side in ("Left", "Right"):
        lid = part["lid_" + side.lower()]
        weights[_INDEX["eyeBlink" + side]] = lid
        weights[_INDEX["eyeLookDown" + side]] = min(1.0, look_down) * (1 - lid)
        weights[_INDEX["eyeLookUp" + side]] = min(1.0, look_up) * (1 - lid)
    return weights


def _rotation(yaw: float, pitch: float, roll: float) -> NDArray[np.float64]:
    """Return the rotation (3, 3): roll to image right first, then pitch (up), then yaw to image right."""
    cy, sy, cp, sp, cr, sr = (
        np.cos(yaw),
        np.sin(yaw),
        np.cos(pitch),
        np.sin(pitch),
        np.cos(roll),
        np.sin(roll),
    )
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    nod = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    tilt = np.array([[cr, sr, 0], [-sr, cr, 0], [0, 0, 1]])
    return turn @ nod @ tilt


def _gaze(x: float, y: float) -> NDArray[np.float64]:
    """Return the unit direction (3,) of both eyes in head coordinates; x is image right, y is up."""
    across, upward = GAZE_ANGLE * x, 0.75 * GAZE_ANGLE * y
    return np.array([np.sin(across) * np.cos(upward), np.sin(upward), np.cos(across) * np.cos(upward)])
