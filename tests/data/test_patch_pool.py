"""Patch pools and draws from them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg_xai import data
from jaxseg_xai.core.errors import ConfigError, DataError
from jaxseg_xai.core.types import Sample
from jaxseg_xai.data import PatchPool, TriangleDataset, build_patch_pool, image_id

draw_patches = jax.jit(data.draw_patches, static_argnums=(3, 4))


@dataclasses.dataclass
class Ramps:
    """Images that tell where a pixel comes from: item * 10000 + row * 100 + column."""

    sizes: tuple[int, ...] = (20, 24, 32)
    bad: tuple[int, ...] = ()
    channels: tuple[int, ...] = (1, 1, 1, 1, 1, 1, 1, 1)
    class_names: tuple[str, ...] = ()

    @property
    def ids(self):
        return tuple(f"ramp-{index}" for index in range(len(self.sizes)))

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        if index in self.bad:
            raise DataError(f"{index}: corrupt")
        y, x = np.mgrid[: self.sizes[index], : self.sizes[index]]
        image = (index * 10000 + y * 100 + x).astype(np.float32)[..., None]
        return Sample(id=self.ids[index], image=np.repeat(image, self.channels[index], -1))


def make_pool(counts):
    """A pool with `counts[i]` patches of image number 10 * i."""
    sources = np.repeat(10 * np.arange(len(counts), dtype=np.uint32), counts)
    return PatchPool(patches=np.zeros((len(sources), 2, 2, 1), np.float32), sources=sources)


def test_image_id_is_stable():
    assert image_id("123456789") == 0xCBF43926  # the check value of CRC-32
    assert 0 <= image_id("") < 2**32


def test_patches_are_cut_from_the_images():
    pool = build_patch_pool(Ramps(), block_size=5, num_patches=31, seed=0)
    assert pool.patches.shape == (31, 5, 5, 1)
    assert pool.patches.dtype == np.float32
    assert pool.sources.dtype == np.uint32
    assert (pool.num_patches, pool.block_size) == (31, 5)
    assert (np.diff(pool.sources.astype(np.int64)) >= 0).all()
    for patch, source in zip(pool.patches[..., 0], pool.sources, strict=True):
        item, corner = divmod(int(patch[0, 0]), 10000)
        assert image_id(f"ramp-{item}") == source
        y, x = divmod(corner, 100)
        assert max(y, x) + 5 <= Ramps().sizes[item]
        np.testing.assert_array_equal(patch - patch[0, 0], 100 * np.mgrid[:5, :5][0] + np.arange(5))
    _, counts = np.unique(pool.sources, return_counts=True)
    assert sorted(counts) == [10, 10, 11]
    again = build_patch_pool(Ramps(), block_size=5, num_patches=31, seed=0)
    np.testing.assert_array_equal(pool.patches, again.patches)
    other = build_patch_pool(Ramps(), block_size=5, num_patches=31, seed=1)
    assert not np.array_equal(pool.patches, other.patches)


def test_unreadable_items_are_skipped():
    dataset = Ramps(sizes=(20,) * 5, bad=(1, 3))
    pool = build_patch_pool(dataset, block_size=4, num_patches=20, seed=0)
    assert pool.num_patches == 20
    names, counts = np.unique(pool.sources, return_counts=True)
    assert set(names.tolist()) == {image_id(f"ramp-{index}") for index in (0, 2, 4)}
    assert counts.max() - counts.min() <= 1
    few = build_patch_pool(dataset, block_size=4, num_patches=2, seed=0)
    assert len(set(few.sources.tolist())) == 2


def test_an_image_smaller_than_the_block_gives_no_patches_and_stops_nothing():
    pool = build_patch_pool(Ramps(sizes=(20, 4, 20)), block_size=5, num_patches=10, seed=0)
    assert set(pool.sources.tolist()) == {image_id("ramp-0"), image_id("ramp-2")}


def test_max_images():
    dataset = TriangleDataset(size=32, num=50)
    pool = build_patch_pool(dataset, block_size=8, num_patches=40, seed=0, max_images=4)
    assert len(np.unique(pool.sources)) == 4
    assert pool.patches.shape == (40, 8, 8, 3)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Ramps(sizes=(20,)), "at least two are needed"),
        (Ramps(sizes=()), "0 of 0 images can give"),
        (Ramps(sizes=(20, 20, 20), bad=(0, 2)), "1 of 3 images can give"),
        (Ramps(sizes=(20, 4)), r"ramp-1 is 4x4, smaller than the block \(5\)"),
        (Ramps(sizes=(20, 20), channels=(1, 3)), "differ in their number of channels"),
    ],
)
def test_data_that_make_no_pool(dataset, message):
    with pytest.raises(DataError, match=message):
        build_patch_pool(dataset, block_size=5, num_patches=10, seed=0)


def test_bad_numbers():
    with pytest.raises(ConfigError, match="block_size=0"):
        build_patch_pool(Ramps(), block_size=0, num_patches=10, seed=0)


@pytest.mark.parametrize("own", [0, 10, 20, 30])
def test_never_its_own_patches_and_uniform(own):
    pool = make_pool([3, 5, 4])
    drawn = draw_patches(jax.random.key(0), own, pool, 20, 100)
    assert drawn.shape == (20, 100)
    assert drawn.dtype == jnp.int32
    allowed = np.flatnonzero(pool.sources != own)
    counts = np.bincount(np.asarray(drawn).ravel(), minlength=12)
    assert set(np.flatnonzero(counts)) == set(allowed)
    expected = 2000 / len(allowed)
    assert (np.abs(counts[allowed] - expected) < 5 * np.sqrt(expected)).all()


def test_draws_do_not_depend_on_how_many():
    pool, key = make_pool([3, 5, 4]), jax.random.key(1)
    many = draw_patches(key, 10, pool, 6, 9)
    np.testing.assert_array_equal(draw_patches(key, 10, pool, 4, 5), many[:4, :5])
    assert len({tuple(row) for row in np.asarray(many).tolist()}) == 6


def test_draws_do_not_depend_on_batch_or_jit():
    pool, key = make_pool([3, 5, 4]), jax.random.key(1)
    ids = np.array([0, 10, 20, image_id("123456789")], np.uint32)
    single = [draw_patches(key, number, pool, 3, 7) for number in ids]
    draw = jax.jit(jax.vmap(data.draw_patches, (None, 0, None, None, None)), static_argnums=(3, 4))
    np.testing.assert_array_equal(draw(key, ids, pool, 3, 7), np.stack(single))
    np.testing.assert_array_equal(draw(key, ids[1:3], pool, 3, 7), np.stack(single[1:3]))
    # A Python int above 2**31 may stand for the image where it is not an argument of the jit.
    number = int(ids[3])
    assert number > 2**31
    closed = jax.jit(lambda key: data.draw_patches(key, number, pool, 3, 7))
    np.testing.assert_array_equal(closed(key), single[3])


def test_images_and_keys_draw_differently():
    pool = make_pool([3, 5, 4])
    one = draw_patches(jax.random.key(0), 1, pool, 4, 8)
    assert not np.array_equal(one, draw_patches(jax.random.key(0), 2, pool, 4, 8))
    assert not np.array_equal(one, draw_patches(jax.random.key(1), 1, pool, 4, 8))


def test_check():
    pool = make_pool([3, 5])
    pool.check([0, 10, 77])
    pool.check([0, 10], min_patches=3)
    with pytest.raises(DataError, match="patch pool smaller than needed: 3 of 8"):
        pool.check([0, 10], min_patches=4)
    with pytest.raises(DataError, match="images other than 0"):
        make_pool([4]).check([image_id("x"), 0])
    # What the check is for: the indices stay in the pool nevertheless.
    assert draw_patches(jax.random.key(0), 0, make_pool([4]), 2, 3).max() < 4


def test_pool_is_a_pytree():
    leaves, treedef = jax.tree.flatten(make_pool([1, 2]))
    assert [leaf.shape for leaf in leaves] == [(3, 2, 2, 1), (3,)]
    assert isinstance(jax.tree.unflatten(treedef, leaves), PatchPool)
