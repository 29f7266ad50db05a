"""What the model segments in the images of a sweep."""

import dataclasses
import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxseg_xai.core.errors import JaxsegError
from jaxseg_xai.devices.mesh import pad_batch
from jaxseg_xai.devices.programs import Programs
from jaxseg_xai.program.predict import lower_prediction
from jaxseg_xai.sweeps.items import Item
from jaxseg_xai.sweeps.tiled import effect_of_tiles, say_tiles, segment
from jaxseg_xai.sweeps.work import Work


@dataclasses.dataclass(frozen=True)
class Started:
    """Images of one size, and what the devices will say of them.

    Attributes:
      items: the images.
      output: (segmentations, whether all logits are finite), still on the devices; why there are
        none; None of images that are segmented tile by tile.
    """

    items: Sequence[Item]
    output: Any


class Predictor:
    """Segmentations of images, those of one size at a time.

    Attributes:
      compile_seconds: spent compiling.
      effect_of_tiles: what the first image that is segmented tile by tile showed of them, see
        `tiles.effect_of_tiles`.
    """

    def __init__(self, work: Work, variables: Any, mesh: Mesh, at_a_time: int) -> None:
        """Prepare to segment.

        Args:
          work: model and policy.
          variables: of the model, on every device.
          mesh: the devices.
          at_a_time: images; a multiple of the mesh's size.
        """
        self._work, self._segmenter = work, work.bundle.segmenter
        self._variables, self._mesh, self._at_a_time = variables, mesh, at_a_time
        self._programs = Programs()
        self.compile_seconds = 0.0
        self.effect_of_tiles: Mapping[str, Any] = {}

    def start(self, items: Sequence[Item]) -> list[Started]:
        """Give the devices images to segment, those of one size together."""
        by_shape: dict[tuple[int, ...], list[Item]] = defaultdict(list)
        for item in items:
            by_shape[item.image.shape].append(item)
        found = []
        for shape, same in by_shape.items():
            if self._work.is_too_large(shape[:-1]):  # tile by tile, when its turn comes
                found.append(Started(same, None))
                continue
            try:
                output = self._run(np.stack([item.image for item in same]))
            except JaxsegError as error:  # of this size: the model takes others
                output = error
            found.append(Started(same, output))
        return found

    def finish(
        self, started: Sequence[Started]
    ) -> Iterator[tuple[Item, tuple[np.ndarray, bool] | JaxsegError]]:
        """An image with (its segmentation on its prepared grid; whether all logits are finite).

        Or with the error of a model that does not take its size.
        """
        for one in started:
            try:
                if one.output is None:
                    found = [self._by_tiles(item) for item in one.items]
                elif isinstance(one.output, JaxsegError):
                    raise one.output
                else:
                    found = list(zip(*jax.device_get(one.output), strict=True))
            except JaxsegError as error:
                found = [error] * len(one.items)
            # What only fills up the batch comes last.
            yield from zip(one.items, found, strict=False)

    def _run(self, images: np.ndarray) -> Any:
        padded = pad_batch(images, self._at_a_time)
        static = {"segmenter": self._segmenter, "mesh": self._mesh}
        given = (lower_prediction, self._variables, padded)
        run, seconds = self._programs.get(padded.shape, *given, **static)
        self.compile_seconds += seconds
        return run(self._variables, padded)

    def _predict(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        predictions, finite = jax.device_get(self._run(images))
        return predictions[: len(images)], finite[: len(images)]

    def _by_tiles(self, item: Item) -> tuple[np.ndarray, bool]:
        image, tiling = item.image, self._work.tiling
        if not self.effect_of_tiles:
            self.effect_of_tiles = effect_of_tiles(self._segmenter, self._variables, image, tiling)
            logging.getLogger(__name__).warning(
                f"{item.sample.id}: {say_tiles(self.effect_of_tiles)}"
            )
        return segment(image, tiling, self._predict, self._at_a_time)
