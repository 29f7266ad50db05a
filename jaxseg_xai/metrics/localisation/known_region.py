"""What metrics of localisation share: how many of the largest values lie in the known region."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseg_xai.explainers.base import Example
from jaxseg_xai.metrics.base import Rated


class Top(NamedTuple):
    """As many of the most relevant pixels as the known region G has.

    Attributes:
      hits: float32 [], how many of them lie in G; of pixels that are equal at the end, the share
        that lies in G.
      size: float32 [], |G|.
    """

    hits: jax.Array
    size: jax.Array


def own_plane(example: Example, rated: Rated) -> jax.Array:
    """The image's own pixels, bool [*S]."""
    return jnp.broadcast_to(example.own, (*rated.relevance.shape, 1))[..., 0]


def top_of(example: Example, rated: Rated) -> Top:
    """The |G| most relevant pixels."""
    own = own_plane(example, rated)
    relevance = jnp.where(own, rated.relevance, -jnp.inf)
    known = rated.known & own
    size = jnp.sum(known)
    last = jnp.sort(relevance.ravel())[::-1][jnp.maximum(size - 1, 0)]
    above, equal = relevance > last, (relevance == last) & own
    left = (size - jnp.sum(above)).astype(jnp.float32)
    share = jnp.sum(equal & known) / jnp.maximum(jnp.sum(equal), 1)
    return Top(jnp.sum(above & known) + left * share, size.astype(jnp.float32))
