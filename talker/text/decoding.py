"""Decoding of text files in any usual encoding."""

from __future__ import annotations

import codecs
import re

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins with the mark of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x19\x1c-\x1f]")


def decoded(data: bytes) -> tuple[str, str]:
    """Decode a text file: by its byte order mark, else as UTF-16, UTF-8 or Windows-1252.

    Returns:
        The text and the name of the encoding.

    Raises:
        ValueError: the bytes are no text.
    """
    marked = (encoding for mark, encoding in _BOMS if data.startswith(mark))
    even, odd = (data[first:4096:2].count(0) for first in (0, 1))
    encoding = next(marked, "utf-16-be" if even > odd else "utf-16-le" if odd else "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        if encoding != "utf-8":
            raise
        encoding = "cp1252"
        text = data.decode(encoding)
    if _CONTROL.search(text):
        raise ValueError("no text")
    return text, encoding
