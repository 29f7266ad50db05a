"""Shapes: Triangle's scenes with an object that is not a triangle, to test a model off its data.

The object is a star, a cross or a turned square in the place of the triangle, as large, in a colour
and on a ground drawn in the same way. The label map calls it class 1, "triangle": what is to be
segmented is the object that stands out by its outline, and a model that knows triangles only gets
it partly wrong. Discs and upright rectangles are no such objects: in Triangle they are background.
"""

import functools
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

from jaxseg_xai.data.checks import check_index
from jaxseg_xai.data.scenes import draw_scene
from jaxseg_xai.data.sources.triangle import TriangleDataset, TriangleInfo

Shape = Literal["star", "cross", "square"]
#: Keeps the scenes apart from those of `make_triangle`, which have no third number in their seed.
_STREAM = 1
_ARM = 0.3


def _unit_corners() -> dict[Shape, np.ndarray]:
    """Corners [N, 2] on and inside the unit circle, in order."""
    turns = np.pi / 5 * np.arange(10)
    reach = np.where(np.arange(10) % 2 == 0, 1.0, 0.45)
    star = reach[:, None] * np.stack([np.sin(turns), np.cos(turns)], axis=1)
    long = np.sqrt(1 - _ARM**2)
    quarter = np.array([[long, _ARM], [_ARM, _ARM], [_ARM, long]])
    square = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]) @ _rotation(np.pi / 4)
    cross = np.concatenate([quarter @ _rotation(np.pi / 2 * turn) for turn in range(4)])
    return {"star": star, "cross": cross, "square": square}


def _rotation(angle: float) -> np.ndarray:
    """Row vectors times this [2, 2] are turned by `angle`."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, sine], [-sine, cosine]])


SHAPES = _unit_corners()


class ShapesDataset(TriangleDataset):
    """Stars, crosses and turned squares as a `Source`, with the options of `TriangleDataset`.

    The shape is drawn for each image.

    Attributes:
      class_names: ("background", "triangle"), those of Triangle, whose models it is for.
      ids: "shapes-test-00012".
    """

    _name = "shapes"

    def make(self, index: int) -> tuple[np.ndarray, np.ndarray, TriangleInfo]:
        """Item `index`: uint8 image [S, S, 3], uint8 labels [S, S], info with the corners."""
        index = check_index(index, len(self))
        rng = np.random.default_rng([self._seed, index, _STREAM])
        shape: Shape = tuple(SHAPES)[int(rng.integers(len(SHAPES)))]
        image, mask, vertices = draw_scene(rng, self.size, functools.partial(_draw, shape=shape))
        return image, mask.astype(np.uint8), TriangleInfo(vertices=vertices)


def _draw(
    rng: np.random.Generator, size: int, scale: float, shape: Shape
) -> tuple[np.ndarray, np.ndarray]:
    """A shape wholly inside the image: bool [S, S] and its corners float64 [N, 2] as (y, x)."""
    radius = rng.uniform(15, 31) * scale
    center = rng.uniform(radius + 1, size - 2 - radius, 2)
    # A square must not stand upright: then it would be one of the rectangles of the background.
    turn = np.pi / 4 + rng.uniform(-0.5, 0.5)
    corners = center + radius * SHAPES[shape] @ _rotation(turn)
    canvas = Image.new("L", (size, size))
    ImageDraw.Draw(canvas).polygon([(x, y) for y, x in corners.tolist()], fill=1)
    return np.asarray(canvas) > 0, corners
