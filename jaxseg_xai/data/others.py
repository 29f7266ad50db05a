"""Other images of a data set, for methods that put something of them into an image."""

from collections.abc import Sequence

import numpy as np

from jaxseg_xai.core.errors import DataError
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.core.inputs import prepare
from jaxseg_xai.core.types import Sample, Source
from jaxseg_xai.data.checks import read_item
from jaxseg_xai.ops.random import image_id


def choose_others(ids: Sequence[str], name: str, *, seed: int) -> list[int]:
    """The order in which to take other images for an image.

    Random, but slices of its own volume, which are likely of its group, come last: each would be
    read in vain. It depends on the seed and on the image's name, not on what else is explained.

    Args:
      ids: names of the images there are.
      name: of the image that needs others; it is left out.
      seed: >= 0.

    Returns:
      Indices into `ids`.
    """
    rng = np.random.default_rng([seed, *map(int, image_id(name))])
    order = [index for index in map(int, rng.permutation(len(ids))) if ids[index] != name]
    volume = name.rpartition("#")[0] or name
    return sorted(order, key=lambda index: ids[index].rpartition("#")[0] == volume)


def read_others(
    source: Source,
    spec: InputSpec,
    sample: Sample,
    size: tuple[int, ...],
    *,
    count: int,
    seed: int,
) -> np.ndarray:
    """Other images for a sample, prepared for a model.

    Images that cannot be read, have another size or are of the sample's group are skipped.

    Args:
      source: where they come from; it may hold the sample itself, which is left out.
      spec: what the model takes.
      sample: the sample that needs them; its image is not looked at.
      size: S of that, prepared.
      count: how many, >= 1.
      seed: >= 0, see `choose_others`.

    Returns:
      float32 [count, *S, C].

    Raises:
      DataError: there are fewer.
    """
    found: list[np.ndarray] = []
    related = 0
    for index in choose_others(source.ids, sample.id, seed=seed):
        if len(found) == count:
            break
        try:
            other = read_item(source, index)
            image = prepare(other, spec).image
        except DataError:  # another one will do
            continue
        if other.belongs_to == sample.belongs_to:
            related += 1
        elif image.shape[:-1] == size:
            found.append(image)
    if len(found) < count:
        own = f" ({related} more belong to {sample.belongs_to} as it does)" if related else ""
        raise DataError(
            f"{sample.id}: {len(found)} other images of its size{own}, {count} are needed; lower "
            "num_others, name another source of other images, or choose settings that need none"
        )
    return np.stack(found)
