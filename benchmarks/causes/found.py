"""Whether a map has found a known cause.

A map is judged outside of the object, whose own pixels are part of every cause. With G the pixels
of the cues and blocks of 6 pixels, the cause is found where

- of one cue: the energy in G, the share of the positive relevance that lies there, is at least 0.5
  and at least 5 times G's share of the area; or G touches the block of the highest mean relevance;
- of two cues: both are touched by the group of blocks that was found. Of a method that names its
  groups (maps `necessary` and `sufficient`) it is these, which must not be more blocks than G
  touches; of the others, the blocks of the highest mean relevance, as many as G touches.
"""

from collections.abc import Mapping

import numpy as np

from jaxseg_xai.ops.blocks import grid_shape

BLOCK = 6
_ENERGY, _TIMES = 0.5, 5.0
_GROUPS = ("necessary", "sufficient")


def judge(
    relevance: np.ndarray,
    thing: np.ndarray,
    cues: np.ndarray,
    maps: Mapping[str, np.ndarray] | None = None,
) -> dict[str, float]:
    """Judge one map.

    Args:
      relevance: float [*S], high where a pixel speaks for the segment.
      thing: bool [*S], the object.
      cues: bool [cues, *S], where each of them is.
      maps: further maps of the explanation.

    Returns:
      `found` 0 or 1; `energy` in G, in [0, 1], and `share` of G of the area; `top`, whether G
      touches the top block, 0 or 1. Energy is 0 where nothing is relevant.
    """
    positive = np.where(thing, 0.0, np.maximum(relevance, 0.0))
    cause = np.any(cues, axis=0) & ~thing
    share = cause.sum() / (~thing).sum()
    energy = positive[cause].sum() / max(positive.sum(), np.finfo(float).tiny)
    blocks = _sums(positive) / np.maximum(_sums(~thing), 1)
    touched = np.stack([_sums(cue & ~thing) > 0 for cue in cues])
    number = np.any(touched, axis=0).sum()
    order = np.argsort(-blocks, kind="stable")
    top = blocks[order[0]] > 0 and touched[:, order[0]].any()
    if len(cues) == 1:
        found = (energy >= _ENERGY and energy >= _TIMES * share) or top
    else:
        group = np.zeros(blocks.size, bool)
        if maps and all(name in maps for name in _GROUPS):
            group = np.any([_sums(np.asarray(maps[name], bool)) > 0 for name in _GROUPS], axis=0)
        else:
            group[order[:number]] = True
            group &= blocks > 0
        found = group.sum() <= number and np.all(np.any(touched & group, axis=1))
    return {
        "found": float(found),
        "energy": float(energy),
        "share": float(share),
        "top": float(top),
    }


def _sums(values: np.ndarray) -> np.ndarray:
    """Sum over every block, [*S] -> [blocks]."""
    grid = grid_shape(values.shape, BLOCK)
    filled = np.pad(values.astype(float), [(0, -size % BLOCK) for size in values.shape])
    split = filled.reshape([n for size in grid for n in (size, BLOCK)])
    return split.sum(axis=tuple(range(1, split.ndim, 2))).ravel()
