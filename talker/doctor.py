"""The report of `talker doctor`: environment, devices, packages and weights, and what to do next."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from talker.errors import UserError

# What `make demo` installs.
CORE = (
    "torch", "torchaudio", "safetensors", "numpy", "av", "scikit-image", "gruut", "num2words", "tqdm",
    "pysubs2", "pyloudnorm",
)  # fmt: skip
FITTED = ("torchaudio", "torchvision")  # their compiled code loads with one version of torch only
# Distribution -> what it is for.
OPTIONAL = {
    "torchvision": "training of the motion autoencoder",
    "transformers": "published checkpoints",
    "openai-whisper": "transcripts (--transcribe)",
    "opencv-python": "face detection of data preparation",
    "facexlib": "face detection of data preparation",
    "deepspeed": "training on several GPUs",
    "webdataset": "training on shards",
    "numba": "making the corpus",
    "jiwer": "evaluation",
    "flash-attn": "faster attention on NVIDIA GPUs; not needed",
}
ENCODERS = ("libx264", "aac", "libvpx-vp9", "libopus", "gif")
FREE_DISK = 1 << 30  # bytes below which the report warns
FREE_MEMORY = 2 << 30


@dataclass
class Report:
    """The lines of the report, and whether clips can be made."""

    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def works(self) -> bool:
        """Whether nothing that is needed is missing."""
        return not self.problems


def report() -> Report:
    """Check the installation. Takes a few seconds, because it loads the default model."""
    found = Report()
    for title, lines in (
        ("environment", _environment(found)),
        ("devices", _devices(found)),
        ("packages", _packages(found)),
        ("optional packages", _optional()),
        ("models", _models(found)),
    ):
        found.lines.append(f"{title}:")
        found.lines += [f"  {line}" for line in lines]
    found.lines.append("next:")
    steps = found.problems or ["everything works: run `talker demo`, then `talker say --help`"]
    found.lines += [f"  {step}" for step in steps]
    return found


def _environment(found: Report) -> Iterator[str]:
    yield f"talker {importlib.metadata.version('talker')}, {Path(__file__).parent}"
    yield f"Python {platform.python_version()}, {sys.executable}"
    yield f"{platform.system()} {platform.release()} on {platform.machine()}, {os.cpu_count()} CPU cores"
    free = shutil.disk_usage(Path.cwd()).free
    yield f"free disk space in the current folder: {free / 1e9:.1f} GB"
    if free < FREE_DISK:
        found.problems.append("free some disk space: less than 1 GB is left in the current folder")
    memory = _available_memory()
    if memory is not None:
        yield f"available memory: {memory / 1e9:.1f} GB"
        if memory < FREE_MEMORY:
            found.problems.append("close other programs: less than 2 GB of memory is available")


def _available_memory() -> int | None:
    """Available memory in bytes; None where the system does not say."""
    path = Path("/proc/meminfo")
    if not path.exists():
        return None
    fields = dict(line.split(":") for line in path.read_text().splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024


def _devices(found: Report) -> Iterator[str]:
    try:
        import torch
    except ImportError as error:
        found.problems.append(f"install torch again (make demo): {error}")
        yield "unknown, because torch cannot be imported"
        return
    threads = torch.get_num_threads()
    yield f"cpu: {threads} thread{'s'[: threads > 1]}, {torch.backends.cpu.get_cpu_capability()}"
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        yield f"cuda:{index}: {properties.name}, {properties.total_memory / 1e9:.0f} GB"
    if torch.backends.mps.is_available():
        yield "mps: Apple GPU (not tested)"
    if not torch.cuda.is_available():
        yield "no CUDA device: everything runs on the processor"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _packages(found: Report) -> Iterator[str]:
    for name in CORE:
        version = _version(name)
        yield f"{name} {version or 'is missing'}"
        if version is None:
            found.problems.append(f"install {name}: run make demo")
    for name in FITTED:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        except (ImportError, OSError) as error:
            yield f"{name} cannot be loaded: {error}"
            found.problems.append(f"install {name} again, of the version that fits torch: run make demo")
    try:
        import av

        missing = [name for name in ENCODERS if name not in av.codec.codecs_available]
    except ImportError as error:
        found.problems.append(f"install PyAV again (make demo): {error}")
        return
    yield f"encoders: {', '.join(name for name in ENCODERS if name not in missing)}"
    if missing:
        found.problems.append(
            f"install the registry's wheel of av: it lacks the encoders {', '.join(missing)}"
        )


def _optional() -> Iterator[str]:
    for name, purpose in OPTIONAL.items():
        version = _version(name)
        yield f"{name} {version or 'is not installed'}: {purpose}"
        if name == "opencv-python" and version is not None:
            yield from _opencv()


def _opencv() -> Iterator[str]:
    try:
        import cv2  # noqa: F401 - its import fails without libGL and libglib
    except ImportError as error:
        yield f"  cannot be imported ({error}): install libgl1 and libglib2.0-0"


def _models(found: Report) -> Iterator[str]:
    from talker.pipeline import Talker
    from talker.shipped import shipped_models

    for name in shipped_models():
        try:
            yield f"{name}: {Talker.from_pretrained(name).system.summary}"
        except (UserError, OSError, RuntimeError) as error:
            yield f"{name} cannot be loaded: {error}"
            found.problems.append(f"restore talker/assets/{name}, for example with git checkout: {error}")
    if not shipped_models():
        found.problems.append("no model is shipped: clone the repository again")
