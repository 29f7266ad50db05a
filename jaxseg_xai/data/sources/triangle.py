"""Triangle and Triangle-Cue: small synthetic data sets in which it is known what matters.

Triangle: find the triangle among rectangles and discs on a striped, noisy ground.

Triangle-Cue: every image holds a triangle, but its class depends on something elsewhere: with a
small marker (a white plus on black) it is a "cued triangle" (1), without one an "uncued triangle"
(2). What decides the class is therefore known: the triangle and the marker (`causal_mask`). A fair
explanation of the triangle's class points at the marker, which lies outside the segmentation.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.types import Sample
from jaxseg_xai.data.checks import SPLITS, check_index, check_split

Box = tuple[int, int, int, int]
#: (random generator, side of the image, scale) -> bool [S, S] and its corners float64 [N, 2].
DrawObject = Callable[[np.random.Generator, int, float], tuple[np.ndarray, np.ndarray]]

_NUM_ITEMS = {"train": 2000, "validation": 200, "test": 200}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TriangleInfo:
    """What is known about one generated image.

    Attributes:
      vertices: float64 [N, 2], (y, x) of the corners of the triangle (N = 3), or of what stands in
        its place (see `jaxseg_xai.data.sources.shapes`), in pixels.
      marker: (y0, x0, y1, x1) of the marker, end exclusive, or None where there is none.
    """

    vertices: np.ndarray
    marker: Box | None = None


def make_triangle(
    index: int, *, size: int = 64, seed: int = 0, cue: bool = False, marker: bool | None = None
) -> tuple[np.ndarray, np.ndarray, TriangleInfo]:
    """Generate one image; it depends on the arguments alone, not on what was generated before.

    Shapes scale with `size`; the stripes and the noise do not. The same (index, size,
    seed) gives the same scene with and without `cue`, and with and without a marker, so the two
    values of `marker` give a counterfactual pair that differs in the marker and the class only.

    Args:
      index: number of the image, >= 0.
      size: side S of the image in pixels, >= 32.
      seed: stream of images, >= 0.
      cue: Triangle-Cue rather than Triangle.
      marker: with `cue`, whether the marker is there; None tosses a fair coin per image.

    Returns:
      image: uint8 [S, S, 3].
      labels: uint8 [S, S]; 0 background, 1 (cued) triangle, 2 uncued triangle.
      info: `TriangleInfo`.

    Raises:
      ConfigError: a size below 32, a negative index or seed, or `marker` without `cue`.
    """
    if size < 32 or index < 0 or seed < 0:
        raise ConfigError(f"size={size}, index={index}, seed={seed}: size >= 32, the others >= 0")
    if marker is not None and not cue:
        raise ConfigError(f"marker={marker}: only Triangle-Cue has a marker; set cue=True")
    rng = np.random.default_rng([seed, index])
    image, triangle, vertices = draw_scene(rng, size, draw_triangle)
    box = None
    if cue:
        coin, place = rng.random(2)
        if coin < 0.5 if marker is None else marker:
            box = _draw_marker(image, triangle, place, size / 128)
    labels = triangle.astype(np.uint8) * np.uint8(2 if cue and box is None else 1)
    return image, labels, TriangleInfo(vertices=vertices, marker=box)


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


def causal_mask(labels: np.ndarray, info: TriangleInfo) -> np.ndarray:
    """The pixels that decide the labels: the triangle, and the marker where there is one.

    Args:
      labels: integer [S, S], as `make_triangle` returns them.
      info: the image's `TriangleInfo`.

    Returns:
      bool [S, S].
    """
    mask = labels > 0
    if info.marker is not None:
        y0, x0, y1, x1 = info.marker
        mask[y0:y1, x0:x1] = True
    return mask


class TriangleDataset:
    """Triangle as a `Source`; items are made when they are asked for.

    Attributes:
      class_names: ("background", "triangle").
      ids: "triangle-test-00012".
    """

    class_names: tuple[str, ...] = ("background", "triangle")
    #: Begins the ids.
    _name = "triangle"
    #: Whether a marker elsewhere decides the class.
    _cue = False

    def __init__(
        self, split: str = "test", size: int = 64, num: int | None = None, seed: int = 0
    ) -> None:
        """Images float32 [size, size, 3] in [0, 1].

        Args:
          split: "train", "validation" or "test"; they share no random stream.
          size: side of the images in pixels, >= 32.
          num: number of items, >= 1; None: 2000, 200, 200. More items keep the first ones.
          seed: >= 0; other seeds give other images in every split.
        """
        check_split(split)
        self.size = size
        num = _NUM_ITEMS[split] if num is None else num
        if num < 1 or size < 32 or seed < 0:
            raise ConfigError(f"num={num}, size={size}, seed={seed}: at least 1, 32 and 0")
        self._seed = len(SPLITS) * seed + SPLITS.index(split)
        self.ids: Sequence[str] = tuple(f"{self._name}-{split}-{index:05d}" for index in range(num))

    def __len__(self) -> int:
        """Number of items."""
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Item `index`: image float32 [S, S, 3] in [0, 1], labels int32 [S, S]."""
        image, labels, _ = self.make(index)
        return Sample(
            id=self.ids[index],
            image=image.astype(np.float32) / np.float32(255),
            labels=labels.astype(np.int32),
        )

    def make(self, index: int) -> tuple[np.ndarray, np.ndarray, TriangleInfo]:
        """What `make_triangle` returns for item `index`: uint8 image, uint8 labels, info."""
        index = check_index(index, len(self))
        return make_triangle(index, size=self.size, seed=self._seed, cue=self._cue)

    def causal_mask(self, index: int) -> np.ndarray:
        """The pixels that decide the labels of item `index`, bool [S, S]."""
        _, labels, info = self.make(index)
        return causal_mask(labels, info)


class TriangleCueDataset(TriangleDataset):
    """Triangle-Cue as a `Source`, with the options of `TriangleDataset`.

    Attributes:
      class_names: ("background", "cued triangle", "uncued triangle").
      ids: "triangle-cue-test-00012".
    """

    class_names = ("background", "cued triangle", "uncued triangle")
    _name = "triangle-cue"
    _cue = True


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


def _distinct_color(rng: np.random.Generator, ground_color: np.ndarray) -> np.ndarray:
    """A colour [3] that differs from the ground by at least 40 levels in some channel."""
    while True:
        color = rng.uniform(0, 255, 3)
        if np.abs(color - ground_color).max() >= 40:
            return color


def _draw_marker(image: np.ndarray, triangle: np.ndarray, place: float, scale: float) -> Box:
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
