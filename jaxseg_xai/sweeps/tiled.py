"""What a model segments tile by tile, and what cutting changes in its output."""

import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxseg_xai.core.segmenter import Segmenter
from jaxseg_xai.sweeps.tiles import Tiling, down, slices

#: Logits that differ by more differ by more than rounding.
_ROUNDING = 1e-3


def segment(
    image: np.ndarray,
    tiling: Tiling,
    predict: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    at_a_time: int,
) -> tuple[np.ndarray, bool]:
    """What a model segments in an image, tile by tile.

    Every pixel is taken from the tile in which it lies farthest from the border.

    Args:
      image: prepared, [*S, C].
      tiling: of the model.
      predict: as `program.predict.predict_batch`, for tiles [N, *T, C].
      at_a_time: N at most.

    Returns:
      (label map [*S] or planes [*S, K]; whether all logits are finite).
    """
    size = image.shape[:-1]
    axes = [_parts(tiling.starts(n, axis), n) for axis, n in enumerate(size)]
    sides = tuple(map(min, tiling.size, size))
    parts, whole, finite = list(itertools.product(*axes)), None, True
    for i in range(0, len(parts), at_a_time):
        group = parts[i : i + at_a_time]
        corners = [[first for first, _, _ in part] for part in group]
        tiles = [image[slices(corner, np.add(corner, sides))] for corner in corners]
        found, usable = predict(np.stack(tiles))
        if whole is None:
            whole = np.zeros((*size, *found.shape[1 + len(size) :]), found.dtype)
        for part, corner, tile in zip(group, corners, found, strict=True):
            begin, end = [a for _, a, _ in part], [b for _, _, b in part]
            own = slices(np.subtract(begin, corner), np.subtract(end, corner))
            whole[slices(begin, end)] = tile[own]
        finite = finite and bool(np.all(usable))
    assert whole is not None
    return whole, finite


def effect_of_tiles(
    segmenter: Segmenter, variables: Any, image: np.ndarray, tiling: Tiling
) -> dict[str, Any]:
    """What cutting changes in a model's output, measured where two tiles of an image overlap.

    Args:
      segmenter: the model.
      variables: of the model.
      image: prepared, [*S, C], larger than a tile.
      tiling: of the model.

    Returns:
      As JSON values: "tile", the largest size; "margin", see `Tiling`, None where there is none;
      "largest_logit_difference" of two tiles, over the pixels that lie at least the margin (a
      quarter of the tile where there is none) from the border of either; and
      "share_of_pixels_changed", of these pixels those whose class differs.
    """
    firsts, shared = [], []
    for axis, n in enumerate(image.shape[:-1]):
        side = min(tiling.size[axis], n)
        seen = side // 4 if tiling.margin is None else tiling.margin[axis]
        shift = min(n - side, max(tiling.unit, down((side - 2 * seen) // 2, tiling.unit)))
        first = down((n - side - shift) // 2, tiling.unit)
        firsts.append((first, first + shift))
        # All of an axis of one tile; the image's own border is none of a tile.
        shared.append((first + shift + seen, first + side - seen) if shift else (0, n))
    logits = []
    for chosen in range(2):
        corner = [pair[chosen] for pair in firsts]
        tile = image[slices(corner, np.add(corner, tiling.size))]
        with jax.enable_x64(False):
            found = np.asarray(_logits(segmenter, variables, tile[None]))[0]
        logits.append(found[slices(*np.subtract(np.transpose(shared), corner))])
    classes = [np.asarray(segmenter.output.prediction(found)) for found in logits]
    return {
        "tile": list(tiling.size),
        "margin": None if tiling.margin is None else list(tiling.margin),
        "largest_logit_difference": float(np.max(abs(logits[0] - logits[1]), initial=0)),
        "share_of_pixels_changed": float(np.mean(classes[0] != classes[1])),
    }


def say_tiles(found: Mapping[str, Any]) -> str:
    """`effect_of_tiles` in a line."""
    size = " x ".join(map(str, found["tile"]))
    if found["margin"] is None:
        sees = "a pixel sees more than a tile, so that they change the model's output"
    else:
        sees = f"a pixel sees {max(found['margin'])} pixels to each side, which they hold"
        if found["largest_logit_difference"] > _ROUNDING:
            sees += ", but what the model computes depends on the size of the image"
    return (
        f"images too large to be computed whole are explained on tiles of at most {size} pixels: "
        f"{sees}; between two tiles logits differ by up to "
        f"{found['largest_logit_difference']:.3g}, and the class of "
        f"{100 * found['share_of_pixels_changed']:.3g} % of the pixels"
    )


@functools.partial(jax.jit, static_argnums=0)
def _logits(segmenter: Segmenter, variables: Any, images: jax.Array) -> jax.Array:
    return segmenter.logits(variables, images)


def _parts(starts: list[int], size: int) -> list[tuple[int, int, int]]:
    """(first pixel of a tile, first and past the last of those taken from it)."""
    if len(starts) == 1:
        return [(0, 0, size)]
    side = size - starts[-1]
    seams = [(after + before + side) // 2 for before, after in itertools.pairwise(starts)]
    return list(zip(starts, [0, *seams], [*seams, size], strict=True))
