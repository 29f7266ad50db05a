"""Random numbers that depend on a seed and on names, and on no switch of JAX.

A key is folded from what a draw belongs to (image, class, block, number of the draw), so that no
result depends on batch sizes, order or the number of devices.
"""

import contextlib
import hashlib
from collections.abc import Iterator

import jax
import numpy as np

#: The generator is named: JAX's default is a setting, and another one draws other numbers.
_GENERATOR = "threefry2x32"


def make_key(seed: int) -> jax.Array:
    """The key of a seed in [0, 2**32)."""
    return jax.random.key(seed, impl=_GENERATOR)


def image_id(name: str) -> np.ndarray:
    """A stable 64-bit number for a sample's id, as uint32 [2]: high and low word.

    (JAX's integers have 32 bits unless asked otherwise, and of 100,000 names two would share a
    32-bit number two times in three.)
    """
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return np.frombuffer(digest, ">u4").astype(np.uint32)


def fold_words(key: jax.Array, words: jax.Array) -> jax.Array:
    """Fold numbers uint32 [n] into a key, one after the other."""
    for word in words:
        key = jax.random.fold_in(key, word)
    return key


def random_word(key: jax.Array) -> jax.Array:
    """32 random bits, uint32 []: of the key itself, which no setting of JAX's samplers changes.

    Of a key that something was folded into: that of a small seed begins with a 0.
    """
    return jax.random.key_data(key)[0]


@contextlib.contextmanager
def one_stream() -> Iterator[None]:
    """Sample with JAX's partitionable stream while tracing, whatever its setting."""
    with jax.threefry_partitionable(True):
        yield
