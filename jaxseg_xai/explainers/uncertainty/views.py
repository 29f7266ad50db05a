"""Other views of an image or volume, flipped and turned, and the way back."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp


class View(NamedTuple):
    """An image turned in the plane of its last two axes, then flipped.

    Attributes:
      quarters: turns by 90 degrees, 0 to 3.
      flips: for each of the axes but the last but one, whether it is reversed. (Half a turn and a
        flip of the last axis together reverse the last but one.)
    """

    quarters: int
    flips: tuple[bool, ...]

    @property
    def plane(self) -> tuple[int, int]:
        """The axes that turn."""
        rank = len(self.flips) + 1
        return rank - 2, rank - 1

    @property
    def reversed_axes(self) -> tuple[int, ...]:
        """The axes that are reversed."""
        rank = len(self.flips) + 1
        axes = [axis for axis in range(rank) if axis != rank - 2]
        return tuple(axis for axis, flip in zip(axes, self.flips, strict=True) if flip)


def views_of(size: Sequence[int], *, rotate: bool) -> list[View]:
    """All views of an image but itself.

    Args:
      size: S of the image, two or three numbers.
      rotate: also turn by 90 degrees, where the last two numbers are equal.

    >>> len(views_of((16, 16), rotate=True)), len(views_of((8, 16, 12), rotate=True))
    (7, 7)
    """
    turns = rotate and size[-1] == size[-2]
    quarters = (0, 1, 2, 3) if turns else (0, 2)
    flips = list(itertools.product((False, True), repeat=len(size) - 1))
    return [View(*view) for view in itertools.product(quarters, flips)][1:]


def turn(image: jax.Array, view: View) -> jax.Array:
    """A view of an image [*S, ...]."""
    return jnp.flip(jnp.rot90(image, view.quarters, view.plane), view.reversed_axes)


def turn_back(image: jax.Array, view: View) -> jax.Array:
    """The image again, of its view."""
    return jnp.rot90(jnp.flip(image, view.reversed_axes), -view.quarters, view.plane)
