"""Where blocks may be: sizes, first pixels, and which block covers an interval."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.types import Array


def block_starts(size: int, side: int, step: int | None) -> np.ndarray:
    """First pixels of the blocks of an axis, int [positions].

    Args:
      size: of the axis.
      side: of the blocks.
      step: from one block to the next; the last then ends at the border. None: blocks side by side,
        the last of which may be cut off.
    """
    if step is None:
        return np.arange(0, size, side)
    return np.append(np.arange(0, size - side, step), size - side)


class Covering(NamedTuple):
    """A block that holds a box, as far as one does.

    Attributes:
      block: int32 [], its position along the axis.
      fits: bool [], whether the interval lies inside of it.
    """

    block: jax.Array
    fits: jax.Array


def covering(size: int, side: int, step: int, lo: Array, hi: Array) -> Covering:
    """The block of one axis that holds the pixels [lo, hi), which may be traced.

    One always does where hi - lo <= side - step + 1, and where the interval ends at the border and
    is no longer than a block. An empty interval fits in any.
    """
    starts = jnp.asarray(block_starts(size, side, step), jnp.int32)
    last = len(starts) - 1
    index = jnp.where(lo >= size - side, last, jnp.clip(lo // step, 0, last)).astype(jnp.int32)
    start = starts[index]
    return Covering(index, (hi <= lo) | ((start <= lo) & (hi <= start + side)))


def check_sizes(
    image_shape: tuple[int, ...], block: tuple[int, ...], region: tuple[int, ...], num_patches: int
) -> None:
    """Raise `ConfigError` for sizes that no plan can have."""
    shape = image_shape[:-1]
    if len(shape) not in (2, 3) or min(image_shape) < 1:
        raise ConfigError(
            f"image_shape is {image_shape}; it must be (height, width, channels), or (depth, "
            "height, width, channels) of volumes"
        )
    if num_patches < 1:
        raise ConfigError(f"num_patches is {num_patches}; it must be at least 1")
    for name, size in (("block", block), ("region", region)):
        check_rank(name, size, len(shape))
        if min(size) < 1:
            raise ConfigError(f"the {name} is {times(size)}; its sides must be at least 1")
        if any(side > n for side, n in zip(size, shape, strict=True)):
            raise ConfigError(
                f"the {name} of {times(size)} pixels is larger than the image of {times(shape)}; "
                "make it smaller, or the image larger"
            )


def check_rank(name: str, sizes: tuple[int, ...], rank: int) -> None:
    """Raise `ConfigError` where there is not one number for every axis."""
    if len(sizes) != rank:
        raise ConfigError(
            f"the {name} is {sizes}; the image has {rank} axes, give it a number for each"
        )


def check_step(
    block: tuple[int, ...], step: tuple[int, ...] | None, region: tuple[int, ...] | None
) -> None:
    """Raise `ConfigError` for steps that leave gaps, or cut off a block that is the region."""
    if step is None and region is None:
        raise ConfigError(
            "with the block as the region, give a block_step: no block is cut off then"
        )
    if step is None:
        return
    check_rank("block_step", step, len(block))
    for name, side, each in zip(sides_of(len(block)), block, step, strict=True):
        if not 1 <= each <= side:
            raise ConfigError(
                f"block_step is {each} along the {name}; it must be between 1 and the block's "
                f"{side} pixels"
            )


def sides_of(rank: int) -> tuple[str, ...]:
    """What a person calls the sides of an image, or of a volume."""
    return ("depth", "height", "width")[-rank:]


def times(sizes: Sequence[int]) -> str:
    """Sizes for people: 16x16."""
    return "x".join(map(str, sizes))
