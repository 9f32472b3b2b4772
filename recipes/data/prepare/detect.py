"""RetinaFace (facexlib) as a face detector that returns the same boxes as the built-in cascade."""

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

SEARCH_SIDE = 960  # pixels; larger pictures are reduced to this
CONFIDENCE = 0.8
# Side of the cascade's box, and distance of its centre below the eyes, in distances from eyes to mouth:
# medians over ten rendered people whose eye and mouth positions are known.
SIDE, BELOW_EYES = 2.55, 0.27


def retinaface(weights: Path, device: str) -> Detector:
    """Load facexlib's published weights of either size (ResNet-50 or MobileNet).

    Returns:
        A function from a picture to the boxes of its faces, the largest first.

    Raises:
        UserError: facexlib cannot be imported, or the file holds other weights.
    """
    try:
        from facexlib.detection.retinaface import RetinaFace
    except ImportError as error:  # OpenCV's wheel needs libGL and libglib
        raise UserError(
            f"facexlib cannot be imported ({error}): run apt install libgl1 libglib2.0-0"
        ) from error
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
        size = "mobile0.25" if any(name.startswith("body.stage1") for name in state) else "resnet50"
        net = RetinaFace(network_name=size, device=torch.device(device))
        net.load_state_dict(state)
    except (OSError, RuntimeError, AttributeError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(
            f"{weights} holds no RetinaFace weights of facexlib ({_line(error)}): "
            "give detection_Resnet50_Final.pth or detection_mobilenet0.25_Final.pth"
        ) from error
    return lambda picture: _boxes(net, picture)


@torch.inference_mode()
def _boxes(net: Any, picture: Image.Image) -> list[Box]:
    """Boxes of the faces in a picture, the largest first."""
    scale = max(1.0, max(picture.size) / SEARCH_SIDE)
    width, height = (max(1, round(length / scale)) for length in picture.size)
    bgr = np.asarray(picture.resize((width, height), Image.Resampling.BOX))[..., ::-1]
    found = net.detect_faces(bgr, conf_threshold=CONFIDENCE)
    boxes = [box_of(landmarks * scale) for landmarks in found[:, 5:].reshape(-1, 5, 2)]
    return sorted(boxes, key=lambda box: -box.side)


def box_of(landmarks: np.ndarray) -> Box:
    """The cascade's box for landmarks (5, 2) in pixels: both eyes, nose, both corners of the mouth."""
    eyes, mouth = landmarks[:2].mean(0), landmarks[3:].mean(0)
    side = SIDE * float(np.linalg.norm(mouth - eyes))
    x, y = (eyes + BELOW_EYES * (mouth - eyes)).tolist()
    return Box(x - side / 2, y - side / 2, side)


def _line(error: Exception) -> str:
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__
