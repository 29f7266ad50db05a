"""Images that are too large: tiles give the whole image's segmentation and explanations."""

import logging
import math
import threading
import time

import jax
import numpy as np
import pytest

import jaxseg_xai
from jaxseg_xai.core.errors import ConfigError, DataError, JaxsegError
from jaxseg_xai.core.inputs import Grid
from jaxseg_xai.core.types import Sample, SegmentTarget
from jaxseg_xai.explainers import EXPLAINERS
from jaxseg_xai.models import load_model
from jaxseg_xai.models.summary import untrained
from jaxseg_xai.store import ZarrStore
from jaxseg_xai.sweeps import items
from jaxseg_xai.sweeps.config import Job
from jaxseg_xai.sweeps.run import run_sweep
from jaxseg_xai.sweeps.tiled import effect_of_tiles, segment
from jaxseg_xai.sweeps.tiles import Tiling, make_tiling
from jaxseg_xai.sweeps.work import Work
from tests import tiny

SIZE = (92, 120)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """One that computes the same wherever the image lies."""
    return tiny.write_model(tmp_path_factory.mktemp("model"), upsample="nearest")


@pytest.fixture(scope="module")
def bundle(model):
    return load_model(model)


@pytest.fixture(scope="module")
def image():
    """Several discs, so that there are components, on noise."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    discs = [(12, 14, 5), (40, 60, 7), (80, 108, 6), (70, 30, 4)]
    inside = np.any([(y - a) ** 2 + (x - b) ** 2 < r**2 for a, b, r in discs], axis=0)
    found = rng.integers(0, 60, (*SIZE, 3)) + 180 * inside[..., None]
    return (found / 255).astype(np.float32)


def predictor(bundle):
    segmenter = bundle.segmenter

    @jax.jit
    def predict(images):
        logits = segmenter.logits(bundle.variables, images)
        return segmenter.output.prediction(logits), np.isfinite(0) & (logits.max((1, 2, 3)) < 1e9)

    return predict


def test_tiles_segment_as_the_whole_image(bundle, image):
    tiling = make_tiling(bundle.segmenter, bundle.variables, 48**2 + 1)
    assert tiling.size == (48, 48)
    assert 1 < max(tiling.margin) <= 18  # else the tiles of this test show nothing
    predict = predictor(bundle)
    whole = np.asarray(predict(image[None])[0])[0]
    assert 0 < whole.mean() < 0.5
    calls = []

    def some(tiles):
        calls.append(tiles.shape)
        return jax.device_get(predict(tiles))

    found, finite = segment(image, tiling, some, 4)
    np.testing.assert_array_equal(found, whole)
    assert finite
    assert {shape[1:] for shape in calls} == {(48, 48, 3)}
    assert max(shape[0] for shape in calls) == 4


def test_the_margin_is_what_a_pixel_sees(bundle, image):
    """No pixel farther away changes it; one at the margin does, for some pixel."""
    tiling = make_tiling(bundle.segmenter, bundle.variables, 64**2)
    seen = max(tiling.margin)
    cut, logits = image[:64, :64], jax.jit(lambda x: bundle.segmenter(bundle.variables, x[None])[0])
    base, farthest = logits(cut), 0
    for row in range(28, 32):
        changed = np.abs(logits(np.where(np.arange(64)[:, None, None] == row, 1 - cut, cut)) - base)
        rows = np.flatnonzero(changed.max((1, 2)))
        farthest = max(farthest, row - rows[0], rows[-1] - row)
    assert farthest <= seen < farthest + 4


@pytest.mark.parametrize(
    ("method", "region"),
    [("ate", "component 2"), ("integrated_gradients", (80, 108))],
)
def test_a_tile_explains_as_the_whole_image(bundle, image, method, region):
    settings = {"ate": {"perturbation": "zero", "block_size": 8}, "integrated_gradients": {}}
    arguments = (bundle, image, "bright", method)
    options = {"region": region, **settings[method]}
    whole = jaxseg_xai.explain(*arguments, **options)[0]
    found = jaxseg_xai.explain(*arguments, sizes="tile", max_pixels=48**2, **options)[0]
    assert whole.status_name == found.status_name == "OK"
    assert found.attribution.shape == SIZE
    scale = np.abs(whole.attribution).max()
    assert scale > 0
    np.testing.assert_allclose(found.attribution, whole.attribution, atol=2e-5 * scale)
    np.testing.assert_array_equal(found.region, whole.region)


def target_of(grid, begin, end):
    region = np.zeros(grid.prepared, bool)
    region[tuple(slice(a, b) for a, b in zip(begin, end, strict=True))] = True
    return SegmentTarget(class_index=np.int32(1), region=region, reference=region)


@pytest.mark.parametrize("seed", range(30))
def test_a_tile_holds_what_the_region_sees(seed):
    rng = np.random.default_rng(seed)
    rank, unit, block = int(rng.integers(2, 4)), int(rng.choice([1, 4, 8])), int(rng.choice([1, 6]))
    size = tuple(int(n) * unit for n in rng.integers(40 // unit, 160 // unit, rank))
    margin = tuple(int(n) for n in rng.integers(0, 12, rank))
    tiling = Tiling((64 - 64 % unit,) * rank, margin, unit)
    grid = Grid(size, size, size)
    begin = [int(rng.integers(0, n - 1)) for n in size]
    end = [int(rng.integers(a + 1, min(a + 30, n) + 1)) for a, n in zip(begin, size, strict=True)]
    target = target_of(grid, begin, end)
    tile = tiling.around(target, grid, block_side=block)
    for axis in range(rank):
        first, last = tile.start[axis], tile.start[axis] + tile.prepared[axis]
        assert first % math.lcm(unit, block) == 0
        assert last % unit == 0
        assert first <= max(0, begin[axis] - margin[axis])
        assert last >= min(size[axis], end[axis] + margin[axis])
        assert last - first < 64 + math.lcm(unit, block)
    values = rng.normal(size=tile.prepared)
    back = tile.back(values)
    np.testing.assert_array_equal(back[tile.place], values)
    assert back.shape == size
    assert abs(back).sum() == pytest.approx(abs(values).sum())
    assert tile.back(target.region[tile.place]).sum() == target.region.sum()


def test_small_regions_have_small_tiles():
    grid = Grid((400, 400), (398, 400), (400, 400))
    tiling = Tiling((128, 128), (6, 6), 8)
    for side, expected in ((4, 32), (30, 64), (60, 128)):
        tile = tiling.around(target_of(grid, (200, 200), (200 + side,) * 2), grid)
        assert tile.prepared == (expected, expected)
    # Everything stands for all that there is of the class.
    small = target_of(grid, (200, 200), (210, 210))
    everything = SegmentTarget(
        class_index=np.int32(1), region=grid.valid, reference=small.reference
    )
    assert tiling.around(everything, grid).prepared == (32, 32)
    with pytest.raises(
        ConfigError,
        match=r"what is explained and the pixels that it sees, "
        r"132 x 20 of them.*component.*max_pixels",
    ):
        tiling.around(target_of(grid, (100, 0), (220, 8)), grid)
    # Where a model sees everything, the largest tile, with the region in its middle.
    tile = Tiling((128, 128), None, 8).around(small, grid)
    assert (tile.prepared, tile.start) == ((128, 128), (144, 144))
    at_the_end = tiling.around(target_of(grid, (390, 390), (398, 400)), grid)
    assert (at_the_end.prepared, at_the_end.resized) == ((16, 16), (14, 16))


def test_a_sweep_of_images_that_are_too_large(model, bundle, image, tmp_path, caplog):
    folder = tiny.write_images(tmp_path / "images", ["i0", "i1"], size=SIZE)
    tiny.write_images(folder, ["i2"], size=32)
    explain = (tiny.ATE, {"method": "confidence", "region": "component"})
    config = tiny.sweep_config(
        tmp_path / "s.zarr", model, folder, explain=explain, data={"max_pixels": 48**2}
    )
    with caplog.at_level(logging.WARNING):
        result = run_sweep(config)
    assert result.counts["ate"] == {"OK": 3}
    assert result.counts["confidence"] == {"OK": 3}
    said = [r.message for r in caplog.records if "tiles of at most 48 x 48 pixels" in r.message]
    assert len(said) == 1
    assert said[0].startswith("i0: ")
    store = ZarrStore.open(config.out)
    assert store.attrs["tiles"]["tile"] == [48, 48]
    assert store.attrs["tiles"]["share_of_pixels_changed"] == 0
    assert 0 <= store.attrs["tiles"]["largest_logit_difference"] < 1e-4
    predict = predictor(bundle)
    for row in store.rows("ate"):
        found, picture = store.read(row), store.read_image(row)
        assert found.attribution.shape == (SIZE if row.image_id != "i2" else (32, 32))
        pixels = picture.image.astype(np.float32) / 255
        np.testing.assert_array_equal(picture.prediction, predict(pixels[None])[0][0])


@pytest.mark.slow
def test_other_images_are_cut_where_the_tile_lies(model, tmp_path):
    folder = tiny.write_images(tmp_path / "images", ["i0", "i1"], size=SIZE)
    tiny.write_images(folder, ["i2"], size=32)
    explain = ({"method": "components", "num_others": 1},)
    config = tiny.sweep_config(
        tmp_path / "s.zarr", model, folder, explain=explain, data={"max_pixels": 48**2}
    )
    counts = run_sweep(config).counts
    assert counts["components"] == {"OK": 2, "FAILED": 1}  # no other image is as small


def test_effect_of_tiles_of_a_model_that_sees_everything():
    from flax import nnx

    from jaxseg_xai import as_model

    class Mean(nnx.Module):
        def __call__(self, x):
            return x[..., :2] - x.mean((1, 2), keepdims=True)[..., :2] * 4

    bundle = as_model(Mean(), class_names=("a", "b"), channels=3)
    rng = np.random.default_rng(0)
    image = rng.uniform(size=(96, 96, 3)).astype(np.float32) * np.linspace(0, 1, 96)[:, None, None]
    tiling = make_tiling(bundle.segmenter, bundle.variables, 32**2)
    assert tiling.margin is None
    found = effect_of_tiles(bundle.segmenter, bundle.variables, image, tiling)
    assert found["margin"] is None
    assert found["largest_logit_difference"] > 1e-3


def test_bad_input(bundle, image, model, tmp_path):
    with pytest.raises(JaxsegError, match=r"max_pixels is 1,.*multiples of 2; allow at least 4"):
        jaxseg_xai.explain(bundle, image, "bright", "confidence", max_pixels=1)
    with pytest.raises(JaxsegError, match="max_pixels is 0"):
        jaxseg_xai.explain(bundle, image, "bright", "confidence", max_pixels=0)
    found = untrained("swinunet")
    with pytest.raises(ConfigError, match=r"one size only.*leave sizes out"):
        jaxseg_xai.explain(found, image, "class 1", "confidence", sizes="tile")


class Large:
    """A data set that remembers what is read; its item 2 cannot be."""

    class_names = ()
    ids = tuple("abcdef")

    def __init__(self):
        self.read = []

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        self.read.append(index)
        if index == 2:
            raise DataError("c: cannot be read")
        return Sample(id=self.ids[index], image=np.full((8, 8, 3), index / 10, np.float32))


@pytest.mark.parametrize(("most", "groups"), [(64, [1, 1, 2, 1, 1]), (10**9, [4, 2])])
def test_large_images_are_read_a_few_ahead(bundle, monkeypatch, most, groups):
    """An image of 64 pixels fills the room: no third one is read while two wait."""
    monkeypatch.setattr(items, "_MOST_PIXELS", most)
    source, found, ahead = Large(), [], 0
    jobs = (Job(label="confidence", explainer=EXPLAINERS.get("confidence")()),)
    work = Work(bundle=bundle, source=source, chosen=tuple(range(6)), jobs=jobs, classes=(1,))
    for group in items.read_ahead(work, list(range(6)), 4):
        found.append(group)
        time.sleep(0.05)  # the reader goes on as far as it may
        ahead = max(ahead, len(source.read) - sum(map(len, found)))
    assert [len(group) for group in found] == groups
    assert [position for group in found for position, _ in group] == list(range(6))
    assert str(found[0 if most > 64 else 2][2 if most > 64 else 0][1]) == "c: cannot be read"
    assert ahead <= 2


def test_who_stops_reading_leaves_no_thread_behind(bundle, monkeypatch):
    monkeypatch.setattr(items, "_MOST_PIXELS", 64)
    jobs = (Job(label="confidence", explainer=EXPLAINERS.get("confidence")()),)
    work = Work(bundle=bundle, source=Large(), chosen=tuple(range(6)), jobs=jobs, classes=(1,))
    before = threading.active_count()
    reading = items.read_ahead(work, list(range(6)), 4)
    next(reading)
    reading.close()
    assert threading.active_count() == before
