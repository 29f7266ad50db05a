"""From a sample to what a model takes, and its maps back to the sample's grid; on the host.

Everything that explains lives on the prepared grid: regions, blocks, patches, baselines, maps.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from jaxseg_xai.core.errors import DataError
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.core.resampling import axis_apart, resize, resize_antialiased, size_at
from jaxseg_xai.core.types import Sample

#: What is divided by at least.
_TINY = 1e-8


@dataclasses.dataclass(frozen=True)
class Grid:
    """How the sample's pixels lie on the prepared grid.

    Attributes:
      sample: size of the sample, one number per axis.
      resized: size after the resizing; the same where there is none.
      prepared: size after the padding at the end of each axis.
      box: the part of the sample that is taken, (first, past the last) of each axis; (): all.
      apart: an axis that is resampled apart on the way there, and one on the way back, see
        `resampling.resize`.
    """

    sample: tuple[int, ...]
    resized: tuple[int, ...]
    prepared: tuple[int, ...]
    box: tuple[tuple[int, int], ...] = ()
    apart: tuple[int | None, int | None] = (None, None)

    @property
    def valid(self) -> np.ndarray:
        """Where the prepared grid holds the sample and no padding, bool [*S]."""
        valid = np.zeros(self.prepared, bool)
        valid[tuple(slice(size) for size in self.resized)] = True
        return valid

    @property
    def changes(self) -> bool:
        """Whether the sample's pixels are not those of the prepared grid."""
        return bool(self.box) or self.sample != self.prepared

    def forward(self, values: np.ndarray) -> np.ndarray:
        """Labels, masks, planes or a map [*S, ...] of the sample on the prepared grid.

        Where sizes differ, floats are interpolated linearly and everything else takes its nearest
        neighbour; 0 in the padding.
        """
        order = int(values.dtype.kind == "f")
        found = resize(values[self._taken], self.resized, order=order, apart=self.apart[0])
        extra = [(0, b - a) for a, b in zip(self.resized, self.prepared, strict=True)]
        return np.pad(found, extra + [(0, 0)] * (values.ndim - len(extra)))

    def back(self, values: np.ndarray) -> np.ndarray:
        """A map [*S, ...] of the prepared grid on the sample's.

        Padding is cut off. Where the sample was resized, floats are interpolated linearly and
        everything else takes its nearest neighbour. 0 where the sample was left out.
        """
        values = np.asarray(values)[tuple(slice(size) for size in self.resized)]
        order = int(values.dtype.kind == "f")
        size = tuple(b - a for a, b in self.box) or self.sample
        values = resize(values, size, order=order, apart=self.apart[1])
        if not self.box:
            return values
        whole = np.zeros((*self.sample, *values.shape[len(size) :]), values.dtype)
        whole[self._taken] = values
        return whole

    @property
    def _taken(self) -> tuple[slice, ...]:
        return tuple(slice(*ends) for ends in self.box)


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
    """Crop, resize, scale, normalise and pad a sample for a model.

    Args:
      sample: image float32 [*S, C].
      spec: what the model takes.

    Raises:
      DataError: pixels that are no floats, another rank, other channels, a size that the model does
        not take, or no spacing where one is needed; the message names the sample and the remedy.
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
    if spec.channel_order == "bgr":
        image = image[..., ::-1]
    size, box, inside = image.shape[:-1], (), None
    if spec.crop != "none" or "zscore_nonzero" in spec.normalize:
        inside = _nonzero(image)
        if spec.crop != "none":
            box = tuple((s.start, s.stop) for s in ndimage.find_objects(inside.astype(int))[0])
            image, inside = (x[tuple(slice(*ends) for ends in box)] for x in (image, inside))
    resized, apart = _resized(sample, image.shape[:-1], spec)
    if not spec.spacing:
        image = resize_antialiased(image, resized)
    image = _scaled(image, inside, spec)
    if spec.spacing:
        image = resize(image, resized, order=3, apart=apart[0])
    padded = spec.padded(resized)
    if padded != resized:
        if spec.pad == "refuse" and not spec.pad_to:
            raise DataError(
                f"{sample.id}: {'x'.join(map(str, size))} is not a multiple of the model's stride "
                f"{spec.multiple_of}; set pad to edge, reflect or constant, or sizes"
            )
        extra = [(0, b - a) for a, b in zip(resized, padded, strict=True)]
        mode = "edge" if spec.pad == "refuse" else spec.pad
        image = np.pad(image, [*extra, (0, 0)], mode=mode)
    grid = Grid(size, resized, padded, box, apart)
    return Prepared(image=np.ascontiguousarray(image, np.float32), grid=grid)


def _nonzero(image: np.ndarray) -> np.ndarray:
    """Pixels that are not 0 in some channel, in volumes with the holes among them: bool [*S].

    All pixels of an image that has none.
    """
    found = (image != 0).any(-1)
    if found.ndim == 3:  # nnU-Net takes an image for a volume of one slice, which has no holes
        found = np.asarray(ndimage.binary_fill_holes(found))
    return found if found.any() else np.ones_like(found)


def _resized(
    sample: Sample, size: tuple[int, ...], spec: InputSpec
) -> tuple[tuple[int, ...], tuple[int | None, int | None]]:
    """Size after the resizing, and `Grid.apart`."""
    if not spec.spacing:
        return spec.fixed_size or size, (None, None)
    if sample.spacing is None or len(sample.spacing) != spec.rank or min(sample.spacing) <= 0:
        wanted = " x ".join("any" if n is None else f"{n:.4g}" for n in spec.spacing)
        raise DataError(
            f"{sample.id}: its spacing is {sample.spacing}, and the model takes {wanted} mm; give a"
            f" Sample with {spec.rank} numbers as spacing"
        )
    here = tuple(map(float, sample.spacing))
    there = tuple(a if b is None else b for a, b in zip(here, spec.spacing, strict=True))
    resized = size_at(size, here, there)
    if min(resized) < 1:
        raise DataError(f"{sample.id}: nothing is left of {size} at {there} mm; check its spacing")
    return resized, (axis_apart(here, there), axis_apart(there, here))


def _scaled(image: np.ndarray, inside: np.ndarray | None, spec: InputSpec) -> np.ndarray:
    """Range, limits and normalisation of every channel; `inside` as `_nonzero` found it."""
    low, high = spec.value_range
    if (low, high) != (0.0, 1.0):
        image = low + image * (high - low)
    if any(spec.clip) or spec.normalize:
        channels = [image[..., i] for i in range(spec.channels)]
        for i, limits in enumerate(spec.clip):
            channels[i] = channels[i] if limits is None else np.clip(channels[i], *limits)
        for i, kind in enumerate(spec.normalize):
            channels[i] = _normalized(channels[i], inside, kind)
        image = np.stack(channels, axis=-1)
    if spec.mean:
        image = image - np.asarray(spec.mean, np.float32)
    if spec.std:
        image = image / np.asarray(spec.std, np.float32)
    return image


def _normalized(channel: np.ndarray, inside: np.ndarray | None, kind: str) -> np.ndarray:
    if kind == "none":
        return channel
    if kind == "minmax":
        low, high = channel.min(), channel.max()
        return (channel - low) / max(high - low, _TINY)
    where = (
        inside if kind == "zscore_nonzero" and inside is not None else np.ones_like(channel, bool)
    )
    values = channel[where].astype(np.float64)
    scaled = (channel - values.mean()) / max(values.std(), _TINY)
    return np.where(where, scaled, channel).astype(np.float32)
