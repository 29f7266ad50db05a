"""A network of patches on whole images: overlapping tiles, averaged as nnU-Net does."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from scipy import ndimage

from jaxseg_xai.ops.layers import pad_to

#: Pixels that go through the network at a time.
_PIXELS = 2**18


@dataclasses.dataclass(frozen=True)
class SlidingWindow:
    """The function (variables, inputs [B, *S, C]) -> logits [B, *S, K] of images of any size.

    Tiles overlap by half a patch at least; a pixel's logits are the mean of those of its tiles,
    weighted by a Gaussian around the middle of each. Everything is summed up in float32 (nnU-Net
    itself does so in float16, which is off by up to 0.5 at the corners of a volume).

    Attributes:
      network: of one patch, (weights, [N, *patch, C]) -> [N, *patch, K].
      patch: its size. Of one axis fewer than the images have, it takes slices of a volume.
      axes: the network's axis i is the image's axis `axes[i]`; slices lie along the first.
      mirror: axes of the patch; the logits are the mean over the image mirrored along any of them.
      num_folds: networks that are averaged; where there are several, variables is a tuple of
        their weights.
    """

    network: Callable[[Any, Any], Any]
    patch: tuple[int, ...]
    axes: tuple[int, ...]
    mirror: tuple[int, ...] = ()
    num_folds: int = 1

    def __call__(self, variables: Any, inputs: jax.Array) -> jax.Array:
        """See the class."""
        last = len(self.axes) + 1
        x = inputs.transpose(0, *(axis + 1 for axis in self.axes), last)
        if x.shape[1:-1] == self.patch and not self.mirror:
            # As many at a time as whoever calls it has room for.
            logits = self._mean_of_folds(variables, lambda weights: self.network(weights, x))
        else:
            leading = x.shape[: x.ndim - len(self.patch) - 1]
            x = x.reshape(-1, *x.shape[len(leading) :])
            logits = self._tiled(functools.partial(self._predict, variables), x)
            logits = logits.reshape(*leading, *logits.shape[1:])
        return logits.transpose(0, *(int(axis) + 1 for axis in np.argsort(self.axes)), last)

    @property
    def patch_of_image(self) -> tuple[int, ...] | None:
        """Sides of the patch along the image's axes; None where it takes slices."""
        if len(self.patch) != len(self.axes):
            return None
        return tuple(self.patch[int(axis)] for axis in np.argsort(self.axes))

    def _tiled(self, run: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
        """[N, *S, C] -> [N, *S, K], S in the network's axes."""
        size = x.shape[1:-1]
        padded = pad_to(x, [max(n, p) for n, p in zip(size, self.patch, strict=True)])
        logits = self._average(run, padded)
        first = [(b - a) // 2 for a, b in zip(size, padded.shape[1:-1], strict=True)]
        inside = (slice(a, a + n) for a, n in zip(first, size, strict=True))
        return logits[:, *inside]

    def _average(self, run: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
        size = x.shape[1:-1]
        corners = list(itertools.product(*map(tile_starts, size, self.patch)))
        if len(corners) == 1:
            return run(x)
        total_weight = total_weights(size, self.patch)
        weight = jnp.asarray(gaussian(self.patch)[..., None], x.dtype)
        if len(corners) * len(x) * math.prod(self.patch) <= _PIXELS:
            tiles = jnp.stack([x[:, *_place(corner, self.patch)] for corner in corners])
            found = run(tiles.reshape(-1, *tiles.shape[2:])) * weight
            found = found.reshape(len(corners), len(x), *found.shape[1:])
            total = jnp.zeros((*x.shape[:-1], found.shape[-1]), found.dtype)
            for corner, tile in zip(corners, found, strict=True):
                total = total.at[:, *_place(corner, self.patch)].add(tile)
        else:
            tile = jax.ShapeDtypeStruct((len(x), *self.patch, x.shape[-1]), x.dtype)
            one = jax.eval_shape(run, tile)

            def step(total: jax.Array, corner: jax.Array) -> tuple[jax.Array, None]:
                place = (0, *corner, 0)
                # A gradient computes each tile again instead of keeping its layers.
                found = jax.checkpoint(run)(lax.dynamic_slice(x, place, tile.shape)) * weight
                before = lax.dynamic_slice(total, place, one.shape)
                return lax.dynamic_update_slice(total, before + found, place), None

            total = jnp.zeros((*x.shape[:-1], one.shape[-1]), one.dtype)
            total, _ = lax.scan(step, total, jnp.array(corners))
        return total / jnp.asarray(total_weight[..., None], x.dtype)

    def _predict(self, variables: Any, tiles: jax.Array) -> jax.Array:
        """Mean over mirrored tiles and folds: [N, *patch, C] -> [N, *patch, K]."""
        subsets = [
            tuple(axis + 1 for axis in chosen)
            for count in range(len(self.mirror) + 1)
            for chosen in itertools.combinations(self.mirror, count)
        ]
        views = jnp.concatenate([jnp.flip(tiles, axes) for axes in subsets])
        mean = self._mean_of_folds(variables, lambda weights: self._in_chunks(weights, views))
        parts = jnp.split(mean, len(subsets))
        mean = [jnp.flip(part, axes) for part, axes in zip(parts, subsets, strict=True)]
        return sum(mean[1:], mean[0]) / len(subsets)

    def _mean_of_folds(self, variables: Any, run: Callable[[Any], jax.Array]) -> jax.Array:
        found = [run(weights) for weights in (variables if self.num_folds > 1 else (variables,))]
        return sum(found[1:], found[0]) / len(found)

    def _in_chunks(self, weights: Any, tiles: jax.Array) -> jax.Array:
        """The network on so many tiles at a time that they fit into memory."""
        run = functools.partial(self.network, weights)
        size = max(1, _PIXELS // math.prod(self.patch))
        if len(tiles) <= size:
            return run(tiles)
        count = -(-len(tiles) // size)
        # As many in each, so that little is computed for nothing.
        size = -(-len(tiles) // count)
        extra = [(0, count * size - len(tiles))] + [(0, 0)] * (tiles.ndim - 1)
        chunks = jnp.pad(tiles, extra).reshape(count, size, *tiles.shape[1:])
        found = lax.map(jax.checkpoint(run), chunks)
        return found.reshape(-1, *found.shape[2:])[: len(tiles)]


def tile_starts(size: int, patch: int) -> list[int]:
    """First pixels of the tiles along an axis of at least the patch's size, evenly spread."""
    count = math.ceil((size - patch) / (patch / 2)) + 1
    step = (size - patch) / max(count - 1, 1)
    return [round(step * i) for i in range(count)]


@functools.cache
def gaussian(patch: tuple[int, ...]) -> np.ndarray:
    """Weight of every pixel of a tile, float32 [*patch], above 0; 10 in the middle.

    The standard deviation is an eighth of the patch. Rounded as nnU-Net's, to float16.
    """
    point = np.zeros(patch)
    point[tuple(n // 2 for n in patch)] = 1
    spread = np.asarray(ndimage.gaussian_filter(point, [n / 8 for n in patch], mode="constant"))
    weight = (10 * spread / spread.max()).astype(np.float16).astype(np.float32)
    return np.maximum(weight, weight[weight > 0].min())


def total_weights(size: tuple[int, ...], patch: tuple[int, ...]) -> np.ndarray:
    """Sum of the weights of all tiles at every pixel, float64 [*S]."""
    total, weight = np.zeros(size, np.float64), gaussian(patch)
    for corner in itertools.product(*map(tile_starts, size, patch)):
        total[_place(corner, patch)] += weight
    return total


def _place(corner: tuple[int, ...], patch: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(a, a + n) for a, n in zip(corner, patch, strict=True))
