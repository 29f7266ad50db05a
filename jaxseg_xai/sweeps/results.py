"""Explanations as a sweep writes them: on the sample's grid, and of what cannot be explained."""

from typing import Any

import jax
import numpy as np

from jaxseg_xai.core.inputs import Grid
from jaxseg_xai.core.types import Explanation, SegmentTarget, Status
from jaxseg_xai.sweeps.tiles import Tile


def back(grid: Grid | Tile, tree: Any) -> Any:
    """Every map of a pytree on the sample's grid; other leaves as they are."""
    rank = len(grid.prepared)

    def one(leaf: Any) -> Any:
        is_map = np.ndim(leaf) >= rank and np.shape(leaf)[:rank] == grid.prepared
        return grid.back(leaf) if is_map else leaf

    return jax.tree.map(one, tree)


def nothing_found(
    class_index: int, prediction: np.ndarray, size: tuple[int, ...], status: Status, *, pixels: bool
) -> tuple[Explanation, SegmentTarget]:
    """The explanation of what cannot be explained: zeros, with the status that says why.

    Args:
      class_index: of the class.
      prediction: of the model, on the prepared grid.
      size: S of that grid.
      status: why.
      pixels: whether the method explains pixels.
    """
    empty = np.zeros(size, bool)
    target = SegmentTarget(class_index=np.int32(class_index), region=empty, reference=empty)
    explanation = Explanation(
        attribution=np.zeros(size, np.float32) if pixels else None,
        status=np.int32(status),
        maps={"prediction": prediction},
    )
    return explanation, target
