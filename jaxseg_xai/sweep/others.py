"""Other images for methods that put something of them in the place of an image's own."""

import functools

import numpy as np

from jaxseg_xai.core.errors import DataError
from jaxseg_xai.core.inputs import prepare
from jaxseg_xai.core.types import Sample
from jaxseg_xai.ops.random import image_id
from jaxseg_xai.sweep.work import Work


class OtherImages:
    """Other images of the same size, prepared for the model.

    Which ones depends on the seed and the image's id, not on the other items of the sweep. Images
    of another group (volume, patient) come first: neighbouring slices are nearly the same image.
    """

    def __init__(self, work: Work) -> None:
        self._source = work.others or work.source
        self._spec, self._seed = work.bundle.segmenter.input, work.seed
        self._image = functools.lru_cache(maxsize=64)(self._read)

    def of(self, sample: Sample, shape: tuple[int, ...], count: int) -> np.ndarray:
        """Other images float32 [count, *S, C] for a sample.

        Args:
          sample: the image.
          shape: (*S, C) of it, prepared.
          count: how many.

        Raises:
          DataError: there are not so many of its size.
        """
        ids = self._source.ids
        rng = np.random.default_rng([self._seed, *map(int, image_id(sample.id))])
        order = [i for i in map(int, rng.permutation(len(ids))) if ids[i] != sample.id]
        group = sample.group or sample.id.split("#")[0]
        order.sort(key=lambda i: ids[i].split("#")[0] == group)
        found: list[np.ndarray] = []
        for index in order:
            image = self._image(index)
            if image is not None and image.shape == shape:
                found.append(image)
            if len(found) == count:
                return np.stack(found)
        raise DataError(
            f"{sample.id}: {len(found)} other images of its size, {count} are needed; ask for "
            "fewer (num_others), or name more images (others= or others_source)"
        )

    def _read(self, index: int) -> np.ndarray | None:
        """An item, prepared; None of what cannot be used: another one will do."""
        try:
            return prepare(self._source[index], self._spec).image
        except DataError:
            return None
