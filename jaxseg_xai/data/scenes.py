"""Synthetic scenes: one object among rectangles and discs, and the marker of Triangle-Cue."""

from collections.abc import Callable

import numpy as np

Box = tuple[int, int, int, int]
#: (random generator, side of the image, scale) -> bool [S, S] and its corners float64 [N, 2].
DrawObject = Callable[[np.random.Generator, int, float], tuple[np.ndarray, np.ndarray]]


def draw_scene(
    rng: np.random.Generator, size: int, draw_object: DrawObject, scale: float | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One object among rectangles and discs on a striped, noisy ground.

    Args:
      rng: where all chance comes from.
      size: side S of the image in pixels.
      draw_object: makes the object; it gets `rng`, `size` and the scale.
      scale: of all things in it; as large as in an image of side 128 `scale`. None: `size` / 128.

    Returns:
      image: uint8 [S, S, 3].
      mask: bool [S, S], the object.
      vertices: its corners, float64 [N, 2] as (y, x).
    """
    scale = size / 128 if scale is None else scale
    ground_color = rng.uniform(60, 200, 3)
    canvas = ground_color + _stripes(rng, size)
    canvas += rng.normal(0, 18, (size, size, 3))
    for _ in range(int(rng.integers(2, 4))):
        canvas[_distractor(rng, size, scale)] = rng.uniform(0, 255, 3)
    mask, vertices = draw_object(rng, size, scale)
    canvas[mask] = _distinct_color(rng, ground_color)
    image = np.clip(np.rint(canvas + rng.normal(0, 12.75, canvas.shape)), 0, 255).astype(np.uint8)
    return image, mask, vertices


def draw_triangle(
    rng: np.random.Generator, size: int, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """A nearly equilateral triangle, any orientation, sides about 24 to 55 px at size 128.

    Returns:
      bool [S, S] and its corners float64 [3, 2] as (y, x).
    """
    radius = rng.uniform(15, 31) * scale
    center = rng.uniform(radius + 1, size - 2 - radius, 2)
    angles = rng.uniform(0, 2 * np.pi) + 2 * np.pi / 3 * np.arange(3) + rng.uniform(-0.2, 0.2, 3)
    corners = center + radius * np.stack([np.sin(angles), np.cos(angles)], axis=1)
    y, x = np.mgrid[:size, :size]
    # The corners go round in one direction, so inside is on the same side of all three edges.
    inside = np.ones((size, size), bool)
    for (ya, xa), (yb, xb) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        inside &= (xb - xa) * (y - ya) - (yb - ya) * (x - xa) >= 0
    return inside, corners


def draw_marker(image: np.ndarray, triangle: np.ndarray, place: float, scale: float) -> Box:
    """Draw the marker into `image` and return its box.

    9x9 px at size 64, 17x17 at 128; anywhere in the image, at least half its side away from the
    triangle. `place` in [0, 1) picks one of the positions, all equally likely.
    """
    half_arm = max(1, round(2 * scale))
    side = 2 * max(3, round(8 * scale)) + 1
    gap = side // 2
    # blocked[y, x]: pixels of the triangle in the marker's window at (y, x), widened by the gap.
    counts = np.pad(np.pad(triangle, gap), ((1, 0), (1, 0))).astype(np.int64).cumsum(0).cumsum(1)
    reach = side + 2 * gap
    blocked = (
        counts[reach:, reach:]
        - counts[:-reach, reach:]
        - counts[reach:, :-reach]
        + counts[:-reach, :-reach]
    )
    free = np.argwhere(blocked == 0)
    y0, x0 = (int(v) for v in free[int(place * len(free))])
    glyph = np.zeros((side, side, 3), np.uint8)
    arm = slice(side // 2 - half_arm, side // 2 + half_arm + 1)
    edge = max(1, round(2 * scale))
    glyph[edge:-edge, arm] = glyph[arm, edge:-edge] = 255
    image[y0 : y0 + side, x0 : x0 + side] = glyph
    return y0, x0, y0 + side, x0 + side


def _stripes(rng: np.random.Generator, size: int) -> np.ndarray:
    """Rising stripes, 4 to 15 px apart, amplitude 9 to 18 grey levels: float64 [S, S, 1]."""
    (down, right), phase = rng.uniform(0.3, 1.25, 2), rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:size, :size]
    return rng.uniform(9, 18) * np.sin(down * y + right * x + phase)[..., None]


def _distractor(rng: np.random.Generator, size: int, scale: float) -> np.ndarray:
    """A disc or a rectangle, wholly inside the image: bool [S, S]."""
    y, x = np.mgrid[:size, :size]
    if rng.random() < 0.5:
        radius = rng.uniform(7, 16) * scale
        cy, cx = rng.uniform(radius, size - 1 - radius, 2)
        return (y - cy) ** 2 + (x - cx) ** 2 <= radius**2
    height, width = rng.uniform(12, 32, 2) * scale
    y0, x0 = rng.uniform(0, size - height), rng.uniform(0, size - width)
    return (y >= y0) & (y < y0 + height) & (x >= x0) & (x < x0 + width)


def _distinct_color(rng: np.random.Generator, ground_color: np.ndarray) -> np.ndarray:
    """A colour [3] that differs from the ground by at least 40 levels in some channel."""
    while True:
        color = rng.uniform(0, 255, 3)
        if np.abs(color - ground_color).max() >= 40:
            return color
