"""Reading of picture files as 8-bit RGB, upright. Imports no PyTorch."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from talker.errors import UserError
from talker.media.files import check_input

# Formats that Pillow decodes itself; for others, such as PostScript, it would run another program.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "PPM")
MAX_PIXELS = 64_000_000  # pixels to decode; phones take photographs of up to 50 megapixels
WORKING_SIDE = 3072  # pictures with a longer side than twice this are reduced while they are read
ORIENTATION = ExifTags.Base.Orientation
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def check_picture(path: str | Path) -> None:
    """Check that a file is a picture, from its header.

    Raises:
        UserError: the file is missing, or not a picture of one of FORMATS.
    """
    path = check_input(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            Image.open(path, formats=FORMATS).close()
    except Image.DecompressionBombError:
        pass  # `read_picture` has a limit of its own
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise UserError(f"{path} is not a picture that can be read: give a PNG, JPEG or WebP file") from error


def is_picture(path: Path) -> bool:
    """Whether a file is a still picture."""
    try:
        with Image.open(path, formats=[name for name in FORMATS if name != "GIF"]):
            return True
    except Image.DecompressionBombError:
        return True
    except (OSError, SyntaxError, ValueError, EOFError):
        return False


def read_picture(path: str | Path, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read a picture file as 8-bit RGB, upright, on white where it is transparent.

    Large pictures are reduced by a whole factor, so that the longer side is below 6144 pixels.

    Args:
        path: a picture file of one of FORMATS.
        max_pixels: limit of the pixels to decode. Most JPEG files are decoded at a fraction of their size and
            so may be larger, up to 179 megapixels.

    Raises:
        UserError: the file is missing, not a picture, damaged or too large.
    """
    path = check_input(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `max_pixels` is the limit
            with Image.open(path, formats=FORMATS) as picture:
                full = picture.width * picture.height
                picture.draft("RGB", (WORKING_SIDE, WORKING_SIDE))  # changes the size of a JPEG picture
                # The decoder keeps every coefficient of a progressive JPEG file, whatever the size.
                if (full if "progressive" in picture.info else picture.width * picture.height) > max_pixels:
                    raise Image.DecompressionBombError
                turn = TURNS.get(picture.getexif().get(ORIENTATION, 1))
                upright = _on_white(_reduced(_eight_bits(picture)))
                return upright if turn is None else upright.transpose(turn)
    except Image.DecompressionBombError as error:
        side = math.isqrt(max_pixels)
        raise UserError(f"{path} has too many pixels: scale it to {side} x {side} or less") from error
    except Image.UnidentifiedImageError as error:
        raise UserError(f"{path} is not a picture that can be read: give a PNG, JPEG or WebP file") from error
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is damaged ({error}): save it again as PNG or JPEG") from error


def _eight_bits(picture: Image.Image) -> Image.Image:
    """A picture of any mode as L, LA, RGB or RGBA."""
    if picture.mode in ("L", "LA", "RGB", "RGBA"):
        return picture
    if picture.mode.startswith("I"):  # 16 bits: Pillow's own conversion would clip them
        return Image.fromarray((np.asarray(picture) >> 8).clip(0, 255).astype(np.uint8))
    return picture.convert("RGBA" if picture.mode in ("P", "PA", "La", "RGBa") else "RGB")


def _reduced(picture: Image.Image) -> Image.Image:
    """A picture whose longer side is at least twice the working side, reduced by a whole factor."""
    factor = max(picture.size) // WORKING_SIDE
    return picture.reduce(factor) if factor > 1 else picture


def _on_white(picture: Image.Image) -> Image.Image:
    """A picture as RGB, on a white background where it is transparent."""
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
