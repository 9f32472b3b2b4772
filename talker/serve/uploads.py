"""Uploaded files: one way in, through a process with limits (see `talker.serve.opener`)."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

from talker.serve.inputs import InputError
from talker.serve.opener import CPU_SECONDS

log = logging.getLogger(__name__)

PACKAGES = str(Path(__file__).parents[2])  # the folder of the package; other entries of sys.path hide modules
REFUSED_CONSENTS = ("", "false", "no", "0", "off", "none", "null")


def open_upload(source: Path, target: Path, kind: str, param: str) -> str:
    """Decode an upload in a process with limits, and return its kind: "image", "sound" or "video".

    Args:
        source: the upload.
        target: the file to write: a PNG picture, a WAV recording, or an mp4 video without sound.
        kind: the kind that is wanted; "any": all.
        param: field of the upload, for errors.

    Raises:
        InputError: the file is damaged, too long or too large, or of another kind.
    """
    command = [sys.executable, "-P", "-m", "talker.serve.opener", kind, str(source), str(target)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (PACKAGES, os.environ.get("PYTHONPATH")))),
        "OMP_NUM_THREADS": "1",
    }
    answer = {"error": "the file needs too much time or memory to decode"}
    with contextlib.suppress(subprocess.TimeoutExpired):
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment,
            timeout=3 * CPU_SECONDS.get(kind, CPU_SECONDS["video"]),
        )
        if ended.returncode == 0:
            answer = json.loads(ended.stdout)
        elif ended.returncode > 0:  # it was not killed
            log.error("an upload was not decoded: %s", ended.stderr.decode(errors="replace")[-2000:])
            answer = {"error": "the file cannot be decoded: see the log of the server"}
    if "error" in answer:
        raise InputError("invalid_file", answer["error"], param)
    return answer["kind"]


def checked_consent(consent: str | None, of: str) -> str:
    """How the person in an upload has agreed.

    Raises:
        InputError: it is missing.
    """
    text = (consent or "").strip()
    if text.lower() in REFUSED_CONSENTS:
        raise InputError(
            "consent_required",
            f"consent is missing: say in the field consent how the person whose {of} this is has agreed",
            "consent",
        )
    return text[:1000]
