"""Render frames of one person from motion vectors."""

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
SPAN = 3.3  # height of the picture in the face's plane, 0.1 m
EYES_BELOW_TOP = 0.45  # in picture heights, for the neutral pose
FACE_PLANE = 0.5  # z in 0.1 m of the plane that SPAN refers to
EXPOSURE = 1.0
SHADOW_TEXELS, SHADOW_SCALE = 160, 32.0  # texels a side; texels per 0.1 m


class RenderedMesh(NamedTuple):
    """The mesh of one frame of S x S pixels, with V vertices and N triangles.

    Attributes:
        screen: (V, 3) column and row in half pixels, and depth in 0.1 m.
        ids: (2 S, 2 S) index of the visible triangle at each half pixel; negative for the backdrop.
        triangles: (N, 3) vertex indices.
        rest: (V, 3) vertices of the neutral face.
        moved: (V, 3) vertices of the expression, before head rotation and shift.
    """

    screen: NDArray[np.float32]
    ids: NDArray[np.int32]
    triangles: NDArray[np.int32]
    rest: NDArray[np.float32]
    moved: NDArray[np.float32]


class Renderer:
    """A renderer of one person for pictures of `size` x `size` pixels; use one per thread.

    The constructor takes about as long as ten frames. Raises ValueError for a size below 32.
    """

    def __init__(self, person: Identity, size: int = 256) -> None:
        if size < 32:
            raise ValueError(f"size must be at least 32 pixels, got {size}")
        self.identity, self.size = person, size
        self._part = _assemble(person)
        self._skin = paint_skin(person, max(512, 2 * size))
        self._cloth = paint_cloth(person, max(640, 5 * size // 2))
        self._strands = strand_texture()
        self._backdrop = paint_backdrop(person, size)
        self._looks = _looks(person)
        self._lights = _with_halfway(np.array(person.environment.lights))
        self._ambient = np.array([person.environment.sky, person.environment.bounce], np.float32)
        self._eye = np.array([*person.iris, person.iris_size, person.pupil], np.float32)
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
        """Render motion (T, 24) as uint8 sRGB frames (T, size, size, 3); ValueError for another shape."""
        motion = np.asarray(motion, np.float32)
        if motion.ndim != 2:
            raise ValueError(
                f"motion must have shape (T, 24), got {motion.shape}; pass motion[None] for one vector"
            )
        out = np.empty((len(motion), self.size, self.size, 3), np.uint8)
        for row, picture in zip(motion, out, strict=True):
            pose = pose_of(row)
            self._project(pose)
            self._draw(pose, picture)
        return out

    def mesh(self) -> RenderedMesh:
        """Return the mesh of the last frame. Its arrays are views, which the next frame overwrites."""
        part = self._part
        return RenderedMesh(self._screen, self._ids, part.triangles, part.points, self._moved)

    def mouth_box(self, motion: NDArray[np.float32]) -> tuple[int, int, int, int]:
        """Return the square (x0, y0, x1, y1) around the lips in pixels, for one motion vector (24,).

        x1 and y1 are exclusive. The square may extend beyond the picture.
        """
        self._project(pose_of(np.asarray(motion, np.float32)))
        lips = self._screen[: len(load_head().vertices)][load_head().masks[LIPS] > 0.5, :2] / 2
        low, high = lips.min(axis=0), lips.max(axis=0)
        middle, half = (low + high) / 2, float((high - low).max()) * 0.7
        x0, y0 = np.floor(middle - half).astype(int)
        x1, y1 = np.ceil(middle + half).astype(int)
        return int(x0), int(y0), int(x1), int(y1)

    def flow(
        self, motion_a: NDArray[np.float32], motion_b: NDArray[np.float32], size: int | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the optical flow from frame b to frame a, computed from the mesh, for motion vectors (24,).

        Returns:
            grid (size, size, 2): for each pixel of frame b, the position of the same surface point in frame
                a, in grid_sample coordinates (align_corners=False). The backdrop maps to itself. The eyeballs
                do not move with the gaze, because it is painted on them.
            visible (size, size): 1 where frame a shows that point, else 0.
        """
        size = size or self.size
        part = self._part
        depths_a, screen_a = np.empty_like(self._depths), np.empty_like(self._screen)
        for motion, depths, screen in (
            (motion_a, depths_a, screen_a),
            (motion_b, self._depths, self._screen),
        ):
            self._project(pose_of(np.asarray(motion, np.float32)))
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
        grid, visible = np.empty((size, size, 2), np.float32), np.empty((size, size), np.float32)
        raster.flow_field(self._ids, self._screen, screen_a, depths_a, part.triangles, grid, visible)
        return grid, visible

    def _project(self, pose: Pose) -> None:
        """Compute the vertices of a pose and project them to half pixels."""
        part, units = self._part, load_units()
        raster.deform(
            part.points, units.starts, units.vertices, units.deltas, pose.weights, part.anchors, self._moved
        )
        raster.pose(self._moved, part.follow, pose.rotation, PIVOT, pose.lift, self._posed)
        pixels = 2.0 * self.size / SPAN * (CAMERA - FACE_PLANE) * pose.zoom
        across, upward = pose.shift[0], pose.shift[1] + (0.5 - EYES_BELOW_TOP) * SPAN / pose.zoom
        raster.project(self._posed, pixels, CAMERA, across, upward, float(self.size), self._screen)

    def _draw(self, pose: Pose, out: NDArray[np.uint8]) -> None:
        """Light, rasterise and shade the projected vertices into out (size, size, 3)."""
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


def _assemble(person: Identity) -> Part:
    """Return one mesh of head, clothes, glasses and hair, without the triangles that clothes cover."""
    points = shape_head(person)
    head = head_part(person, points)
    keep = ~covered(person) & drawn_lashes(person)
    head.triangles, head.materials, head.uvs = head.triangles[keep], head.materials[keep], head.uvs[keep]
    return join([head, *dress(person, points), *glasses(person, points), *grow_hair(person, points)])


def _casters(part: Part) -> NDArray[np.int32]:
    """Return the triangles (K, 3) that cast shadows: skin, clothes, glasses and a third of the hair."""
    solid = (
        (part.materials == raster.SKIN) | (part.materials == raster.CLOTH) | (part.materials == raster.RIM)
    )
    hair = part.triangles[part.materials == raster.HAIR]
    return np.ascontiguousarray(np.concatenate([part.triangles[solid], hair[::3]]))


def _frame_towards(direction: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the axes (3, 3) of the shadow map's camera: right, up, and towards the light."""
    right = np.cross([0.0, 1.0, 0.0], direction)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(direction, right), direction])


def _looks(person: Identity) -> NDArray[np.float32]:
    """Return the colour of each material without texture (8, 3); row EYE is the colour inside the mouth."""
    looks = np.zeros((8, 3), np.float32)
    looks[raster.EYE] = (0.16, 0.03, 0.03)
    looks[raster.TEETH] = (0.70, 0.66, 0.56)
    looks[raster.TONGUE] = (0.36, 0.10, 0.10)
    looks[raster.LASH] = 0.006 + 0.35 * np.array(person.hair.brow_colour)
    looks[raster.HAIR] = person.hair.colour
    looks[raster.RIM] = person.outfit.rim
    return looks


def _with_halfway(lights: NDArray[np.float64]) -> NDArray[np.float32]:
    """Append to lights (L, 6) the unit vectors halfway between light and camera: (L, 9)."""
    halfway = lights[:, :3] + np.array([0.0, 0.0, 1.0])
    return np.concatenate([lights, halfway / np.linalg.norm(halfway, axis=1, keepdims=True)], axis=1).astype(
        np.float32
    )


def _output_curve() -> NDArray[np.uint8]:
    """Return a table of sRGB bytes for linear light in [0, 1], with compressed highlights."""
    level = np.linspace(0, 1, shading.OUTPUT_LEVELS) * 1.15 * EXPOSURE
    soft = np.where(level < 0.6, level, 0.6 + 0.4 * np.tanh((level - 0.6) / 0.4))
    return np.rint(255 * np.clip(soft, 0, 1) ** (1 / 2.2)).astype(np.uint8)
