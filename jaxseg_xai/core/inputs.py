"""From a sample to what a model takes, and its maps back to the sample's grid; on the host.

Everything that explains lives on the prepared grid: regions, blocks, patches, baselines, maps.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from jaxseg_xai.core.errors import DataError
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.core.types import Sample


@dataclasses.dataclass(frozen=True)
class Grid:
    """How the sample's pixels lie on the prepared grid.

    Attributes:
      sample: size of the sample, one number per axis.
      resized: size after the resizing; the same where there is none.
      prepared: size after the padding at the end of each axis.
    """

    sample: tuple[int, ...]
    resized: tuple[int, ...]
    prepared: tuple[int, ...]

    @property
    def valid(self) -> np.ndarray:
        """Where the prepared grid holds the sample and no padding, bool [*S]."""
        valid = np.zeros(self.prepared, bool)
        valid[tuple(slice(size) for size in self.resized)] = True
        return valid

    def forward(self, labels: np.ndarray) -> np.ndarray:
        """Labels, masks or planes [*S, ...] of the sample on the prepared grid.

        Nearest neighbours where sizes differ; 0 in the padding.
        """
        found = _resize(labels, self.resized, order=0)
        extra = [(0, b - a) for a, b in zip(self.resized, self.prepared, strict=True)]
        return np.pad(found, extra + [(0, 0)] * (labels.ndim - len(extra)))

    def back(self, values: np.ndarray) -> np.ndarray:
        """A map [*S, ...] of the prepared grid on the sample's.

        Padding is cut off. Where the sample was resized, floats are interpolated linearly and
        everything else takes its nearest neighbour.
        """
        values = np.asarray(values)[tuple(slice(size) for size in self.resized)]
        return _resize(values, self.sample, order=int(values.dtype.kind == "f"))


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A sample as a model takes it.

    Attributes:
      image: float32 [*S, C] on the prepared grid, normalised.
      grid: how to get there and back.
    """

    image: np.ndarray
    grid: Grid


def pixels_of(sample: Sample) -> np.ndarray:
    """The image float32 [*S, C] of a sample, its values as they are.

    Raises:
      DataError: its pixels are no floats; how others are scaled is for their source to say.
    """
    image = np.asarray(sample.image)
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise DataError(
            f"{sample.id}: pixels of type {image.dtype}; its source must give floats, scaled as "
            "the model wants them (uint8 / 255, say)"
        )
    return image.astype(np.float32, copy=False)


def prepare(sample: Sample, spec: InputSpec) -> Prepared:
    """Resize, scale, normalise and pad a sample for a model.

    Args:
      sample: image float32 [*S, C].
      spec: what the model takes.

    Raises:
      DataError: pixels that are no floats, another rank, other channels, or a size that the model
        does not take; the message names the sample and the remedy.
    """
    image = pixels_of(sample)
    if image.ndim != spec.rank + 1:
        kind = {2: "an image [H, W, C]", 3: "a volume [D, H, W, C]"}[spec.rank]
        raise DataError(
            f"{sample.id}: {image.shape} is no {kind.split(' ', 1)[1]}; the model takes {kind}"
        )
    if image.shape[-1] != spec.channels:
        if image.shape[-1] == 1 and spec.grey == "repeat":
            image = np.repeat(image, spec.channels, axis=-1)
        else:
            remedy = (
                'set channels="repeat", or convert the image'
                if image.shape[-1] == 1
                else "convert the image"
            )
            raise DataError(
                f"{sample.id}: {image.shape[-1]} channels, the model takes {spec.channels}; "
                f"{remedy}"
            )
    size = image.shape[:-1]
    resized = spec.fixed_size or size
    image = _resize(image, resized, order=1)
    low, high = spec.value_range
    if (low, high) != (0.0, 1.0):
        image = low + image * (high - low)
    if spec.mean:
        image = image - np.asarray(spec.mean, np.float32)
    if spec.std:
        image = image / np.asarray(spec.std, np.float32)
    extra = tuple(-n % spec.multiple_of for n in resized)
    if any(extra):
        if spec.pad == "refuse":
            raise DataError(
                f"{sample.id}: {'x'.join(map(str, size))} is not a multiple of the model's stride "
                f"{spec.multiple_of}; set pad to edge, reflect or constant, or resize the image"
            )
        image = np.pad(image, [(0, n) for n in extra] + [(0, 0)], mode=spec.pad)
    grid = Grid(size, resized, tuple(n + e for n, e in zip(resized, extra, strict=True)))
    labels = sample.labels
    if labels is not None and labels.shape[: spec.rank] != size:
        raise DataError(
            f"{sample.id}: labels {labels.shape} for an image {size}; give one label a pixel, or "
            "planes [*S, classes]"
        )
    return Prepared(image=np.ascontiguousarray(image, np.float32), grid=grid)


def _resize(values: np.ndarray, size: tuple[int, ...], order: int) -> np.ndarray:
    """[*S, ...] to another S, pixel centres at halves; as it is where that is the same."""
    if values.shape[: len(size)] == tuple(size):
        return values
    rest = (1.0,) * (values.ndim - len(size))
    zoom = tuple(new / old for new, old in zip(size, values.shape, strict=False))
    found = ndimage.zoom(
        values.astype(np.float32 if order else np.int32),
        (*zoom, *rest),
        order=order,
        mode="nearest",
        grid_mode=True,
    )
    return np.asarray(found, values.dtype)
