"""Other images of a data set, for methods that put something of them into an image."""

from collections.abc import Sequence

import numpy as np

from jaxseg_xai.core.errors import DataError
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.core.inputs import prepare
from jaxseg_xai.core.types import Sample, Source
from jaxseg_xai.data.checks import read_item
from jaxseg_xai.ops.random import image_id


def group_of(name: str, group: str = "") -> str:
    """What an item belongs to: its group, else its id up to "#" (slices of a volume have one)."""
    return group or name.split("#")[0]


def choose_others(
    ids: Sequence[str], name: str, *, seed: int, groups: Sequence[str] | None = None
) -> list[int]:
    """The order in which to take other images for an image.

    Random, but those of other groups come first: neighbouring slices of a volume are nearly the
    same image. It depends on the seed and on the image's name, not on what else is explained.

    Args:
      ids: names of the images there are.
      name: of the image that needs others; it is left out.
      seed: >= 0.
      groups: what each of `ids` belongs to; default: its id up to "#".

    Returns:
      Indices into `ids`.
    """
    rng = np.random.default_rng([seed, *map(int, image_id(name))])
    order = [index for index in map(int, rng.permutation(len(ids))) if ids[index] != name]
    given = groups or [""] * len(ids)
    of = [group_of(other, group) for other, group in zip(ids, given, strict=True)]
    own = of[ids.index(name)] if name in ids else group_of(name)
    return sorted(order, key=lambda index: of[index] == own)


def read_others(
    source: Source, spec: InputSpec, sample: Sample, *, count: int, seed: int
) -> np.ndarray:
    """Other images for a sample, prepared for a model.

    Images that cannot be read or have another size are skipped.

    Args:
      source: where they come from; it may hold the sample itself, which is left out.
      spec: what the model takes.
      sample: the sample that needs them. Images of its group come last.
      count: how many, >= 1.
      seed: >= 0, see `choose_others`.

    Returns:
      float32 [count, *S, C].

    Raises:
      DataError: there are fewer.
    """
    shape = prepare(sample, spec).image.shape
    own = group_of(sample.id, sample.group)
    found: list[np.ndarray] = []
    related: list[np.ndarray] = []
    for index in choose_others(source.ids, sample.id, seed=seed):
        if len(found) == count:
            break
        try:
            other = read_item(source, index)
            image = prepare(other, spec).image
        except DataError:  # another one will do
            continue
        if image.shape == shape:
            # What a group is can be known only now.
            (related if group_of(other.id, other.group) == own else found).append(image)
    found = (found + related)[:count]
    if len(found) < count:
        raise DataError(
            f"{sample.id}: {len(found)} other images of its size, {count} are needed; lower "
            "num_others, name another source of other images, or choose settings that need none"
        )
    return np.stack(found)
