"""Pools of patches cut out of the images of a data set."""

import collections
import dataclasses

import numpy as np
import pytest

from jaxseg_xai.core.errors import ConfigError, DataError
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.core.types import Sample
from jaxseg_xai.data.pdcr import Patches, write_patches
from jaxseg_xai.data.pool import build_patch_pool, read_patch_pool
from jaxseg_xai.ops.random import image_id

GREY = InputSpec(channels=1)


@dataclasses.dataclass
class Ramps:
    """Images that tell where a pixel comes from: item, row and column, two digits each."""

    sizes: tuple[int, ...] = (20, 24, 32)
    bad: tuple[int, ...] = ()
    channels: tuple[int, ...] = (1,) * 8
    rank: int = 2
    class_names: tuple[str, ...] = ()
    groups: tuple[str, ...] = ("",) * 50
    names: tuple[str, ...] = ()

    @property
    def ids(self):
        return self.names or tuple(f"ramp-{index}" for index in range(len(self.sizes)))

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        if index in self.bad:
            raise DataError(f"{index}: corrupt")
        axes = np.mgrid[(slice(self.sizes[index]),) * self.rank]
        place = sum(axis * 100**power for power, axis in enumerate(axes[::-1]))
        image = (index * 100**self.rank + place).astype(np.float32)[..., None]
        image = np.repeat(image, self.channels[index], -1)
        return Sample(id=self.ids[index], image=image, group=self.groups[index])


def ids_of(*names):
    return {tuple(image_id(name).tolist()) for name in names}


def counts_of(pool):
    """Patches by the id of their image."""
    return collections.Counter(map(tuple, pool.sources.tolist()))


def test_patches_are_cut_from_the_images():
    pool = build_patch_pool(Ramps(), GREY, block_size=5, num_patches=31, seed=0)
    assert pool.patches.shape == (31, 5, 5, 1)
    assert pool.patches.dtype == np.float32
    assert pool.sources.dtype == np.uint32
    assert (pool.num_patches, pool.block_size) == (31, 5)
    assert pool.sources.tolist() == sorted(pool.sources.tolist())
    for patch, source in zip(pool.patches[..., 0], pool.sources, strict=True):
        item, corner = divmod(int(patch[0, 0]), 10000)
        assert image_id(f"ramp-{item}").tolist() == source.tolist()
        y, x = divmod(corner, 100)
        assert max(y, x) + 5 <= Ramps().sizes[item]
        np.testing.assert_array_equal(patch - patch[0, 0], 100 * np.mgrid[:5, :5][0] + np.arange(5))
    assert sorted(counts_of(pool).values()) == [10, 10, 11]
    again = build_patch_pool(Ramps(), GREY, block_size=5, num_patches=31, seed=0)
    np.testing.assert_array_equal(pool.patches, again.patches)
    other = build_patch_pool(Ramps(), GREY, block_size=5, num_patches=31, seed=1)
    assert not np.array_equal(pool.patches, other.patches)


def test_unreadable_items_are_skipped():
    dataset = Ramps(sizes=(20,) * 5, bad=(1, 3))
    pool = build_patch_pool(dataset, GREY, block_size=4, num_patches=20, seed=0)
    assert pool.num_patches == 20
    counts = counts_of(pool)
    assert set(counts) == ids_of("ramp-0", "ramp-2", "ramp-4")
    assert max(counts.values()) - min(counts.values()) <= 1
    few = build_patch_pool(dataset, GREY, block_size=4, num_patches=2, seed=0)
    assert len(counts_of(few)) == 2


def test_an_image_smaller_than_the_block_gives_no_patches_and_stops_nothing():
    pool = build_patch_pool(Ramps(sizes=(20, 4, 20)), GREY, block_size=5, num_patches=10, seed=0)
    assert set(counts_of(pool)) == ids_of("ramp-0", "ramp-2")


def test_max_images():
    dataset = Ramps(sizes=(20,) * 50, channels=(3,) * 50)
    pool = build_patch_pool(
        dataset, InputSpec(), block_size=8, num_patches=40, seed=0, max_images=4
    )
    assert len(counts_of(pool)) == 4
    assert pool.patches.shape == (40, 8, 8, 3)


def test_patches_come_from_groups():
    dataset = Ramps(sizes=(20,) * 4, groups=("p", "p", "q", ""))
    pool = build_patch_pool(dataset, GREY, block_size=4, num_patches=40, seed=0)
    counts = dict(zip(ids_of("p"), [20], strict=True)) | dict.fromkeys(ids_of("q", "ramp-3"), 10)
    assert counts_of(pool) == counts


@pytest.mark.parametrize("seed", range(6))
def test_a_pool_has_patches_of_two_groups_however_few_it_takes(seed):
    """9 of 10 images are of one patient; two of them are what is taken at first."""
    dataset = Ramps(sizes=(20,) * 10, channels=(1,) * 10, groups=(*["p"] * 9, "q"))
    for options in ({"num_patches": 2}, {"num_patches": 9, "max_images": 2}):
        pool = build_patch_pool(dataset, GREY, block_size=4, seed=seed, **options)
        assert set(counts_of(pool)) == ids_of("p", "q")
        pool.check(["p", "q", "ramp-3"])


def test_patches_of_volumes_are_cubes():
    dataset = Ramps(sizes=(9, 8), rank=3)
    spec = InputSpec(rank=3, channels=1)
    pool = build_patch_pool(dataset, spec, block_size=3, num_patches=6, seed=0)
    assert pool.patches.shape == (6, 3, 3, 3, 1)
    assert pool.block_size == 3
    ramp = sum(axis * 100**power for power, axis in enumerate(np.mgrid[:3, :3, :3][::-1]))
    corners = pool.patches[:, :1, :1, :1]
    np.testing.assert_array_equal(
        pool.patches - corners, np.broadcast_to(ramp[..., None], (6, 3, 3, 3, 1))
    )
    for corner in corners.ravel().astype(int):
        size = dataset.sizes[corner // 100**3]
        assert max(corner // 100**power % 100 for power in range(3)) + 3 <= size


def test_patches_are_cut_out_of_prepared_images_beside_the_padding():
    spec = InputSpec(channels=1, multiple_of=16, pad="constant", mean=(5.0,), std=(2.0,))
    pool = build_patch_pool(Ramps(), spec, block_size=19, num_patches=30, seed=0)
    for patch, source in zip(pool.patches[..., 0], pool.sources, strict=True):
        raw = patch * 2 + 5
        item = round(raw[0, 0]) // 10000
        assert source.tolist() == image_id(f"ramp-{item}").tolist()
        expected = raw[0, 0] + 100 * np.mgrid[:19, :19][0] + np.arange(19)
        np.testing.assert_allclose(raw, expected, atol=1e-2)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Ramps(sizes=(20,)), "at least two are needed"),
        (Ramps(sizes=()), "0 of 0 images can give"),
        (Ramps(sizes=(20, 20, 20), bad=(0, 2)), "1 of 3 images can give"),
        (Ramps(sizes=(20, 4)), r"ramp-1 is 4x4, smaller than the block \(5\)"),
        (Ramps(sizes=(20, 20), channels=(1, 3)), "ramp-1: 3 channels, the model takes 1"),
        (Ramps(groups=("p",) * 3), "all 3 images that can give patches belong to p, and slices of"),
        (Ramps(sizes=(20, 20), rank=3), r"ramp-.: \(20, 20, 20, 1\) is no image"),
    ],
)
def test_data_that_make_no_pool(dataset, message):
    with pytest.raises(DataError, match=message):
        build_patch_pool(dataset, GREY, block_size=5, num_patches=10, seed=0)


def test_bad_numbers():
    with pytest.raises(ConfigError, match="block_size=0"):
        build_patch_pool(Ramps(), GREY, block_size=0, num_patches=10, seed=0)


def test_a_folder_of_patches_is_a_pool_in_the_models_units(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype(np.uint8)
    names = ("a_0_0", "a_0_1", "b_1_x_3_10", "b_1_x_3_9")
    write_patches(tmp_path, Patches(pixels, names))
    # Whatever the model takes as an image, a patch is smaller.
    spec = InputSpec(fixed_size=(64, 64), multiple_of=16, mean=(0.5,) * 3, std=(0.25,) * 3)
    pool = read_patch_pool(tmp_path, spec, block_size=8)
    assert counts_of(pool) == dict.fromkeys(ids_of("a", "b_1_x"), 2)
    assert pool.sources.tolist() == sorted(pool.sources.tolist())
    expected = (pixels / np.float32(255) - 0.5) / 0.25
    own = (pool.sources == image_id("a")).all(axis=1)
    np.testing.assert_allclose(pool.patches[own], expected[:2], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(pool.patches[~own], expected[2:], rtol=1e-5, atol=1e-5)
    whose = Ramps(sizes=(8, 8), groups=("patient", "patient"), names=("a", "c"))
    grouped = read_patch_pool(tmp_path, spec, block_size=8, source=whose)
    assert counts_of(grouped) == dict.fromkeys(ids_of("patient", "b_1_x"), 2)
    with pytest.raises(DataError, match="all 2 patches come from a itself"):
        read_patch_pool(write_only_a(tmp_path / "a", pixels), spec, block_size=8).check(["a"])


def write_only_a(folder, pixels):
    write_patches(folder, Patches(pixels[:2], ("a_0_0", "a_0_1")))
    return folder


def test_patches_that_a_model_cannot_take(tmp_path):
    write_only_a(tmp_path, np.zeros((2, 8, 8, 3), np.uint8))
    with pytest.raises(DataError, match="patches of side 8 for blocks of 16; set block_size = 8"):
        read_patch_pool(tmp_path, InputSpec(), block_size=16)
    with pytest.raises(DataError, match=r"a_0_0\.png: 3 channels, the model takes 1"):
        read_patch_pool(tmp_path, GREY, block_size=8)
    with pytest.raises(DataError, match="normalises each image by its own mean"):
        read_patch_pool(tmp_path, InputSpec(normalize=("zscore",) * 3), block_size=8)
