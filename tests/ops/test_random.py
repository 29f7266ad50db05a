"""Ids, keys and draws that no switch of JAX changes."""

import contextlib

import jax
import numpy as np
import pytest

from jaxseg_xai.ops.patches import PatchPool, draw_patches
from jaxseg_xai.ops.random import fold_words, image_id, make_key, one_stream, random_word
from jaxseg_xai.ops.replacements import MADE, made_draws


@contextlib.contextmanager
def _default_generator(name):
    before = jax.config.jax_default_prng_impl
    jax.config.update("jax_default_prng_impl", name)
    try:
        yield
    finally:
        jax.config.update("jax_default_prng_impl", before)


#: Name -> a context in which JAX has other settings.
SWITCHES = {
    "partitionable": lambda: jax.threefry_partitionable(True),
    "not partitionable": lambda: jax.threefry_partitionable(False),
    "64 bits": lambda: jax.enable_x64(True),
    "another generator": lambda: _default_generator("rbg"),
}


def test_ids_are_stable_and_have_64_bits():
    # From `hashlib.blake2b(b"case-1", digest_size=8)`: pools that are stored keep them.
    assert image_id("case-1").tolist() == [0x08BFF71F, 0xD5E859A8]
    ids = np.stack([image_id(f"image-{n}") for n in range(100_000)])
    assert ids.dtype == np.uint32
    assert len(np.unique(ids, axis=0)) == len(ids)


def test_every_word_of_an_id_counts_and_so_does_their_order():
    key = make_key(3)
    words = [np.array(pair, np.uint32) for pair in ([1, 2], [2, 1], [1, 3], [3, 2])]
    found = [int(random_word(fold_words(key, word))) for word in words]
    found += [int(random_word(fold_words(make_key(4), word))) for word in words]
    assert len(set(found)) == 8


@pytest.mark.parametrize("switch", SWITCHES)
def test_no_switch_changes_what_is_drawn(switch):
    sources = sorted(image_id(f"{n // 10}").tolist() for n in range(50))
    pool = PatchPool(
        patches=np.zeros((50, 2, 2, 1), np.float32), sources=np.array(sources, np.uint32)
    )
    images = np.random.default_rng(0).random((2, 6, 8, 1)).astype(np.float32)

    def everything():
        # Traced anew, as in a process that has the setting from its start.
        draw = jax.jit(lambda key: draw_patches(key, image_id("3"), pool, 7, 11))
        make = jax.jit(lambda keys: [made_draws(kind, images, keys, 4, 2, 3) for kind in MADE])
        key = make_key(2**32 - 1)
        keys = jax.vmap(fold_words, (None, 0))(key, np.array([[1, 2], [3, 4]], np.uint32))
        with one_stream():
            normal = jax.random.normal(key, (5,), np.float32)
        return jax.device_get((draw(key), random_word(keys[0]), normal, make(keys)))

    wanted = everything()
    with SWITCHES[switch]():
        found = everything()
    for a, b in zip(jax.tree.leaves(wanted), jax.tree.leaves(found), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
