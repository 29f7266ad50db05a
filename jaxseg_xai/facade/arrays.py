"""Explanations of several images as arrays, one row each."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxseg_xai.core.errors import ConfigError

if TYPE_CHECKING:
    from jaxseg_xai.facade.result import Explained

#: What stands where an explanation has no map, by kind of number: NaN, False, or -1 (no class).
_NOTHING: dict[str, Any] = {"f": np.nan, "b": False, "i": -1}


def stack(found: Iterable["Explained"]) -> dict[str, np.ndarray]:
    """Everything of some explanations, stacked.

    Args:
      found: N explanations; those that failed have no maps.

    Returns:
      "image", "class", "method" and "status", text [N]; "score_<name>" float [N]; "attribution" and
      "map_<name>" [N, *S], or [N, *S, K] of planes; "trace_<name>" float32 [N, T]. What an
      explanation does not have is NaN in floats, False in booleans and -1 in label maps.

    Raises:
      ConfigError: the images have several sizes, or there is no explanation.
    """
    rows = [_row(one) for one in found]
    if not rows:
        raise ConfigError("there is no explanation yet; run the sweep first")
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: _stacked(name, [row.get(name) for row in rows]) for name in names}


def _row(one: "Explained") -> dict[str, Any]:
    row: dict[str, Any] = {"image": one.image_id, "class": one.class_name}
    row |= {"method": one.method, "status": one.status_name}
    row |= {f"score_{name}": value for name, value in one.scores.items()}
    if one.attribution is not None:
        row["attribution"] = one.attribution
    row |= {f"map_{name}": value for name, value in one.maps.items()}
    return row | {f"trace_{name}": value for name, value in one.traces.items()}


def _stacked(name: str, values: list[Any]) -> np.ndarray:
    arrays = [None if value is None else np.asarray(value) for value in values]
    known = [array for array in arrays if array is not None]
    shapes = {array.shape for array in known}
    if len(shapes) > 1 and not name.startswith("trace_"):
        raise ConfigError(
            f"the images have {len(shapes)} sizes; convert or save them one by one (found[0]), or "
            "save as .zarr"
        )
    if len(known) == len(arrays) and len(shapes) == 1:
        return np.stack(known)
    # Traces of several methods may differ in length.
    shape = tuple(max(sizes) for sizes in zip(*shapes, strict=True))
    stacked = np.full((len(arrays), *shape), _NOTHING[known[0].dtype.kind], known[0].dtype)
    for number, array in enumerate(arrays):
        if array is not None:
            stacked[(number, *map(slice, array.shape))] = array
    return stacked
