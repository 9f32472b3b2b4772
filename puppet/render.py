"""Frames of one identity from motion vectors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from puppet import raster, shading
from puppet.backdrop import paint_backdrop
from puppet.clothes import covered, dress, glasses, paint_cloth
from puppet.face import Identity
from puppet.hair import grow_hair, strand_texture
from puppet.head import LIPS, load_head
from puppet.rig import Pose, pose_of
from puppet.scene import PIVOT, Part, drawn_lashes, head_part, join, load_units, shape_head
from puppet.skin import paint_skin

CAMERA = 11.0  # distance from the eyes' plane, 0.1 m
SPAN = 3.3  # height of the picture in the eyes' plane, 0.1 m
EYES_BELOW_TOP = 0.45  # of the picture's height, in the neutral pose
FACE_PLANE = 0.5  # z at which SPAN holds
EXPOSURE = 1.0
SHADOW_TEXELS, SHADOW_SCALE = 160, 32.0  # texels a side; texels per 0.1 m


class Drawn(NamedTuple):
    """A mesh of V vertices and N triangles in one frame of S pixels a side: screen (V, 3) in half pixels and
    depth; ids (2 S, 2 S), the triangle that each half pixel shows, or below 0; triangles (N, 3) of vertices;
    and the vertices in space, at rest and moved, pose aside, each (V, 3)."""

    screen: NDArray[np.float32]
    ids: NDArray[np.int32]
    triangles: NDArray[np.int32]
    rest: NDArray[np.float32]
    moved: NDArray[np.float32]


class Renderer:
    """One identity, ready to draw. Building takes some tenths of a second, a frame some milliseconds; safe
    to use from one thread.
    """

    def __init__(self, who: Identity, size: int = 256) -> None:
        if size < 32:
            raise ValueError(f"the smallest picture is 32 pixels wide, got {size}")
        self.identity, self.size = who, size
        self._part = _assemble(who)
        self._skin = paint_skin(who, max(512, 2 * size))
        self._cloth = paint_cloth(who, max(640, 5 * size // 2))
        self._strands = strand_texture()
        self._backdrop = paint_backdrop(who, size)
        self._looks = _looks(who)
        self._lights = _with_halfway(np.array(who.stage.lights))
        self._ambient = np.array([who.stage.sky, who.stage.bounce], np.float32)
        self._eye = np.array([*who.iris, who.iris_size, who.pupil], np.float32)
        self._curve = _output_curve()
        count = len(self._part.points)
        self._moved, self._posed, self._normals, self._screen, self._towards_light = (
            np.empty((count, 3), np.float32) for _ in range(5)
        )
        self._lit = np.empty((count, 6), np.float32)
        self._casters = _casters(self._part)
        self._light_frame = _frame_towards(self._lights[0, :3])
        self._shadow_map = np.empty((SHADOW_TEXELS, SHADOW_TEXELS), np.float32)
        self._shadow = np.empty(count, np.float32)
        self._ids = np.empty((2 * size, 2 * size), np.int32)
        self._depths = np.empty((2 * size, 2 * size), np.float32)

    def frames(self, motion: NDArray[np.float32]) -> NDArray[np.uint8]:
        """motion (T,24) to sRGB frames (T,size,size,3)."""
        motion = np.asarray(motion, np.float32)
        if motion.ndim != 2:
            raise ValueError(
                f"frames wants motion of shape (T, 24), got {motion.shape}; for one vector pass motion[None]"
            )
        out = np.empty((len(motion), self.size, self.size, 3), np.uint8)
        for row, picture in zip(motion, out, strict=True):
            pose = pose_of(row)
            self._place(pose)
            self._draw(pose, picture)
        return out

    def drawn(self) -> Drawn:
        """The mesh in the frame that was drawn last: views, which the next frame overwrites."""
        part = self._part
        return Drawn(self._screen, self._ids, part.triangles, part.points, self._moved)

    def mouth_box(self, motion: NDArray[np.float32]) -> tuple[int, int, int, int]:
        """(x0, y0, x1, y1) in pixels, a square about the lips, for one motion vector (24,); it may reach
        past the picture.
        """
        self._place(pose_of(np.asarray(motion, np.float32)))
        lips = self._screen[: len(load_head().vertices)][load_head().masks[LIPS] > 0.5, :2] / 2
        low, high = lips.min(axis=0), lips.max(axis=0)
        middle, half = (low + high) / 2, float((high - low).max()) * 0.7
        x0, y0 = np.floor(middle - half).astype(int)
        x1, y1 = np.ceil(middle + half).astype(int)
        return int(x0), int(y0), int(x1), int(y1)

    def flow(
        self, motion_a: NDArray[np.float32], motion_b: NDArray[np.float32], size: int | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """For each pixel of frame b, where its surface lies in frame a, from the mesh.

        Motions (24,). Returns a grid (size,size,2) for grid_sample (align_corners=False; the backdrop maps
        to itself) and a mask
        (size,size) that is 1 where that place is visible in frame a. Gaze is painted, so eyes count as still.
        """
        size = size or self.size
        part = self._part
        depths_a, screen_a = np.empty_like(self._depths), np.empty_like(self._screen)
        for motion, depths, screen in (
            (motion_a, depths_a, screen_a),
            (motion_b, self._depths, self._screen),
        ):
            self._place(pose_of(np.asarray(motion, np.float32)))
            screen[:] = self._screen
            raster.rasterise(
                screen,
                part.triangles,
                part.materials,
                part.uvs,
                part.attributes,
                self._strands,
                self._ids,
                depths,
            )
        grid, seen = np.empty((size, size, 2), np.float32), np.empty((size, size), np.float32)
        raster.flow_field(self._ids, self._screen, screen_a, depths_a, part.triangles, grid, seen)
        return grid, seen

    def _place(self, pose: Pose) -> None:
        """Move every vertex and project it to subpixels."""
        part, units = self._part, load_units()
        raster.deform(
            part.points, units.starts, units.vertices, units.deltas, pose.weights, part.anchors, self._moved
        )
        raster.pose(self._moved, part.follow, pose.rotation, PIVOT, pose.lift, self._posed)
        pixels = 2.0 * self.size / SPAN * (CAMERA - FACE_PLANE) * pose.zoom
        across, upward = pose.shift[0], pose.shift[1] + (0.5 - EYES_BELOW_TOP) * SPAN / pose.zoom
        raster.project(self._posed, pixels, CAMERA, across, upward, float(self.size), self._screen)

    def _draw(self, pose: Pose, out: NDArray[np.uint8]) -> None:
        part = self._part
        raster.vertex_normals(self._posed, part.triangles, self._normals)
        shading.project_to_light(
            self._posed, self._light_frame, SHADOW_SCALE, 0.5 * SHADOW_TEXELS, self._towards_light
        )
        shading.shadow_map(self._towards_light, self._casters, self._shadow_map)
        shading.shadow_vertices(self._towards_light, self._shadow_map, self._shadow)
        shading.light_vertices(
            self._normals,
            part.occlusion,
            part.wraps,
            part.sharpness,
            self._lights,
            self._ambient,
            self._shadow,
            self._lit,
        )
        raster.rasterise(
            self._screen,
            part.triangles,
            part.materials,
            part.uvs,
            part.attributes,
            self._strands,
            self._ids,
            self._depths,
        )
        shading.resolve(
            self._ids, self._depths, self._screen, part.triangles, part.materials, part.uvs, self._lit,
            part.attributes, self._skin, self._strands, self._cloth, self._looks, self._lights, self._eye,
            pose.gaze,
            self._backdrop, self._curve, out,
        )  # fmt: skip


def _assemble(who: Identity) -> Part:
    points = shape_head(who)
    head = head_part(who, points)
    keep = ~covered(who) & drawn_lashes(who)
    head.triangles, head.materials, head.uvs = head.triangles[keep], head.materials[keep], head.uvs[keep]
    return join([head, *dress(who, points), *glasses(who, points), *grow_hair(who, points)])


def _casters(part: Part) -> NDArray[np.int32]:
    """The triangles that throw shadows: all but eyes, lashes, and a third of the hair."""
    solid = (
        (part.materials == raster.SKIN) | (part.materials == raster.CLOTH) | (part.materials == raster.RIM)
    )
    hair = part.triangles[part.materials == raster.HAIR]
    return np.ascontiguousarray(np.concatenate([part.triangles[solid], hair[::3]]))


def _frame_towards(direction: NDArray[np.float32]) -> NDArray[np.float64]:
    """Rows right, up and towards the light of the shadow map's camera (3,3)."""
    right = np.cross([0.0, 1.0, 0.0], direction)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(direction, right), direction])


def _looks(who: Identity) -> NDArray[np.float32]:
    """Plain colours by material; the EYE row holds the colour of the mouth's inside."""
    looks = np.zeros((8, 3), np.float32)
    looks[raster.EYE] = (0.16, 0.03, 0.03)
    looks[raster.TEETH] = (0.70, 0.66, 0.56)
    looks[raster.TONGUE] = (0.36, 0.10, 0.10)
    looks[raster.LASH] = 0.006 + 0.35 * np.array(who.hair.brow_colour)
    looks[raster.HAIR] = who.hair.colour
    looks[raster.RIM] = who.outfit.rim
    return looks


def _with_halfway(lights: NDArray[np.float64]) -> NDArray[np.float32]:
    """lights (L,6) and the unit vectors halfway between each light and the camera: (L,9)."""
    halfway = lights[:, :3] + np.array([0.0, 0.0, 1.0])
    return np.concatenate([lights, halfway / np.linalg.norm(halfway, axis=1, keepdims=True)], axis=1).astype(
        np.float32
    )


def _output_curve() -> NDArray[np.uint8]:
    """Linear light in [0,1] to sRGB bytes with a soft shoulder, as a table."""
    level = np.linspace(0, 1, shading.OUTPUT_LEVELS) * 1.15 * EXPOSURE
    soft = np.where(level < 0.6, level, 0.6 + 0.4 * np.tanh((level - 0.6) / 0.4))
    return np.rint(255 * np.clip(soft, 0, 1) ** (1 / 2.2)).astype(np.uint8)
