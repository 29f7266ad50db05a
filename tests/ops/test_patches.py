"""Draws from a pool of patches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg_xai.core.errors import DataError
from jaxseg_xai.ops import patches
from jaxseg_xai.ops.patches import PatchPool
from jaxseg_xai.ops.random import image_id, make_key

draw_patches = jax.jit(patches.draw_patches, static_argnums=(3, 4))

#: Ids of images; every word of the first is also a word of another's.
IDS = np.array([[0, 5], [0, 7], [1, 5]], np.uint32)
STRANGER = np.array([1, 7], np.uint32)


def make_pool(counts=(3, 5, 4), ids=IDS):
    """A pool with `counts[i]` patches of image i."""
    sources = np.repeat(ids[: len(counts)], counts, axis=0)
    return PatchPool(patches=np.zeros((len(sources), 2, 2, 1), np.float32), sources=sources)


@pytest.mark.parametrize("own", [*IDS, STRANGER], ids=str)
def test_never_its_own_patches_and_uniform(own):
    pool = make_pool()
    drawn = draw_patches(make_key(0), own, pool, 20, 100)
    assert drawn.shape == (20, 100)
    assert drawn.dtype == jnp.int32
    allowed = np.flatnonzero((pool.sources != own).any(axis=1))
    assert len(allowed) == {(0, 5): 9, (0, 7): 7, (1, 5): 8, (1, 7): 12}[tuple(own.tolist())]
    counts = np.bincount(np.asarray(drawn).ravel(), minlength=12)
    assert set(np.flatnonzero(counts)) == set(allowed)
    expected = 2000 / len(allowed)
    assert (np.abs(counts[allowed] - expected) < 5 * np.sqrt(expected)).all()


def test_never_a_patch_of_its_group_wherever_it_lies_in_the_pool():
    """The group is a source of the pool, the image another one or none."""
    pool = make_pool()
    for image, group, left in ((STRANGER, IDS[1], [0, 2]), (IDS[0], IDS[2], [1])):
        drawn = np.asarray(draw_patches(make_key(0), image, pool, 20, 100, group))
        found = {tuple(row) for row in pool.sources[drawn.ravel()].tolist()}
        assert found == {tuple(IDS[i].tolist()) for i in left}
    plain = draw_patches(make_key(0), IDS[0], pool, 4, 5)
    same = draw_patches(make_key(0), IDS[0], pool, 4, 5, IDS[0])
    np.testing.assert_array_equal(plain, same)


def test_draws_do_not_depend_on_how_many():
    pool, key = make_pool(), make_key(1)
    many = draw_patches(key, IDS[1], pool, 6, 9)
    np.testing.assert_array_equal(draw_patches(key, IDS[1], pool, 4, 5), many[:4, :5])
    assert len({tuple(row) for row in np.asarray(many).tolist()}) == 6


def test_draws_do_not_depend_on_batch_or_jit():
    pool, key = make_pool(), make_key(1)
    ids = np.concatenate([IDS, image_id("123456789")[None]])
    single = [patches.draw_patches(key, number, pool, 3, 7) for number in ids]
    draw = jax.jit(
        jax.vmap(patches.draw_patches, (None, 0, None, None, None)), static_argnums=(3, 4)
    )
    np.testing.assert_array_equal(draw(key, ids, pool, 3, 7), np.stack(single))
    np.testing.assert_array_equal(draw(key, ids[1:3], pool, 3, 7), np.stack(single[1:3]))


def test_images_and_keys_draw_differently():
    pool = make_pool()
    one = draw_patches(make_key(0), np.array([9, 1], np.uint32), pool, 4, 8)
    for seed, image in ((0, [9, 2]), (0, [8, 1]), (0, [1, 9]), (1, [9, 1])):
        other = draw_patches(make_key(seed), np.array(image, np.uint32), pool, 4, 8)
        assert not np.array_equal(one, other)


def test_check_names_the_image_that_would_get_only_its_own_patches():
    ids = np.stack([image_id("x"), image_id("y")])
    make_pool((3, 5), ids).check(["x", "y", "z"])
    only = make_pool((4,), ids)
    only.check(["y", "z"])
    with pytest.raises(DataError, match="all 4 patches come from x itself"):
        only.check(["y", "x"])
    # What the check is for: the indices stay in the pool nevertheless.
    assert draw_patches(make_key(0), image_id("x"), only, 2, 3).max() < 4


def test_pool_is_a_pytree():
    leaves, treedef = jax.tree.flatten(make_pool((1, 2)))
    assert [leaf.shape for leaf in leaves] == [(3, 2, 2, 1), (3, 2)]
    assert isinstance(jax.tree.unflatten(treedef, leaves), PatchPool)
