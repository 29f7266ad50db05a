"""Triangle and Triangle-Cue: small synthetic data sets in which it is known what matters.

Triangle: find the triangle among rectangles and discs on a striped, noisy ground.

Triangle-Cue: every image holds a triangle, but its class depends on something elsewhere: with a
small marker (a white plus on black) it is a "cued triangle" (1), without one an "uncued triangle"
(2). What decides the class is therefore known: the triangle and the marker (`causal_mask`). A fair
explanation of the triangle's class points at the marker, which lies outside the segmentation.
"""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.types import Sample
from jaxseg_xai.data.checks import SPLITS, check_index, check_split
from jaxseg_xai.data.scenes import Box, draw_marker, draw_scene, draw_triangle

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
            box = draw_marker(image, triangle, place, size / 128)
    labels = triangle.astype(np.uint8) * np.uint8(2 if cue and box is None else 1)
    return image, labels, TriangleInfo(vertices=vertices, marker=box)


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

    licence: ClassVar[str] = "none needed: drawn when asked for"
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
        """Item `index`: image float32 [S, S, 3] in [0, 1], labels int32 [S, S], the marker."""
        image, labels, info = self.make(index)
        return Sample(
            id=self.ids[index],
            image=image.astype(np.float32) / np.float32(255),
            labels=labels.astype(np.int32),
            cause=causal_mask(labels, info) & (labels == 0) if self._cue else None,
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
