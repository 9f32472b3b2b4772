"""Text frontend: written English -> spoken words -> token ids, and sentence splitting."""

import hashlib
import importlib.metadata
from pathlib import Path

_LIBRARIES = ("num2words", "gruut", "gruut_lang_en")


def fingerprint() -> str:
    """A hash of what decides how a text is read: the files of this package and the versions of its libraries.

    Speech that was made from texts under another fingerprint may contain other words.
    """
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    for name in _LIBRARIES:
        digest.update(f"{name} {importlib.metadata.version(name)}\0".encode())
    return digest.hexdigest()[:16]
