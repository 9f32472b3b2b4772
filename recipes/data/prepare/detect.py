"""RetinaFace (facexlib), where its weights are at hand, as a detector of the kind that the framing knows."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from talker.errors import UserError
from talker.media.face import Box

Detector = Callable[[Image.Image], list[Box]]

SEARCH_SIDE = 960
CONFIDENCE = 0.8
# The box that the cascade draws, in distances from the eyes to the mouth: its side, and how far below the
# eyes its centre is. Medians of ten rendered people whose eyes and mouths are known.
SIDE, BELOW_EYES = 2.55, 0.27


def retinaface(weights: Path, device: str) -> Detector:
    """A detector from facexlib's published weights, of either size.

    Raises:
        UserError: facexlib cannot be imported here, or the file holds other weights.
    """
    try:
        from facexlib.detection.retinaface import RetinaFace
    except ImportError as error:  # OpenCV's wheel wants libGL and libglib
        raise UserError(f"facexlib cannot be imported ({error}): apt install libgl1 libglib2.0-0") from error
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
        size = "mobile0.25" if any(name.startswith("body.stage1") for name in state) else "resnet50"
        net = RetinaFace(network_name=size, device=torch.device(device))
        net.load_state_dict(state)
    except (OSError, RuntimeError, AttributeError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(f"{weights} holds no RetinaFace weights of facexlib: {_line(error)}") from error
    return lambda picture: _boxes(net, picture)


@torch.inference_mode()
def _boxes(net: Any, picture: Image.Image) -> list[Box]:
    """Faces, largest first."""
    scale = max(1.0, max(picture.size) / SEARCH_SIDE)
    width, height = (max(1, round(length / scale)) for length in picture.size)
    bgr = np.asarray(picture.resize((width, height), Image.Resampling.BOX))[..., ::-1]
    found = net.detect_faces(bgr, conf_threshold=CONFIDENCE)
    boxes = [box_of(landmarks * scale) for landmarks in found[:, 5:].reshape(-1, 5, 2)]
    return sorted(boxes, key=lambda box: -box.side)


def box_of(landmarks: np.ndarray) -> Box:
    """The cascade's box from landmarks (5, 2) in pixels: both eyes, nose, both corners of the mouth."""
    eyes, mouth = landmarks[:2].mean(0), landmarks[3:].mean(0)
    side = SIDE * float(np.linalg.norm(mouth - eyes))
    x, y = (eyes + BELOW_EYES * (mouth - eyes)).tolist()
    return Box(x - side / 2, y - side / 2, side)


def _line(error: Exception) -> str:
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__
