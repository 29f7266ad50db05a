"""Images of many sizes padded to a few common ones: which, how many programs, what it changes."""

import dataclasses
import json
import math

import jax
import numpy as np
import pytest

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.inputs import prepare
from jaxseg_xai.data.sources.folder import FolderDataset
from jaxseg_xai.explainers.cam.grad_cam import GradCam
from jaxseg_xai.models import load_model
from jaxseg_xai.store import ZarrStore
from jaxseg_xai.sweeps.run import run_sweep
from jaxseg_xai.sweeps.sizes import common_sizes, effect_of_padding
from tests import tiny
from tests.sweeps.programs import CompileLog


def padding(sizes, shapes):
    """Padded pixels per pixel of the images; every image has a size that holds it."""
    own = sum(map(math.prod, sizes))
    held = [
        min(math.prod(b) for b in shapes if all(x <= y for x, y in zip(a, b, strict=True)))
        for a in sizes
    ]
    return sum(held) / own - 1


@pytest.mark.parametrize("square", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_few_sizes_hold_all(square, seed):
    rng = np.random.default_rng(seed)
    sides = rng.choice(np.arange(96, 385), (50, 2), replace=False)
    sizes = [(int(a), int(a if square else b)) for a, b in sides]
    shapes = common_sizes(sizes, 16)
    assert 1 < len(shapes) <= 4
    assert all(n % 16 == 0 for size in shapes for n in size)
    assert padding(sizes, shapes) < (0.5 if square else 0.75)
    assert shapes == common_sizes(sizes[::-1], 16)


def test_no_more_sizes_than_pay():
    assert common_sizes([(64, 64)], 8) == ((64, 64),)
    eight = [(64 + 7 * i, 64) for i in range(8)]
    assert len(common_sizes(eight, 8)) == 2
    assert common_sizes(eight, 8, 8) == ((120, 64),)
    assert common_sizes([(40, 40), (80, 80)], 8) == ((40, 40), (80, 80))
    # A batch of either takes as long as one of both.
    assert common_sizes([(40, 40), (80, 80)], 8, 8) == ((80, 80),)
    assert common_sizes([(5, 60, 60), (7, 62, 60)], 4, 2) == ((8, 64, 60),)


#: Heights of the images of a sweep; all are 32 wide.
HEIGHTS = (32, 36, 40, 44, 64, 68)


@pytest.fixture(scope="module")
def swept(model, tmp_path_factory):
    """A finished sweep of six sizes, and how many programs it compiled."""
    folder = tmp_path_factory.mktemp("sizes")
    for k, height in enumerate(HEIGHTS):
        tiny.write_images(folder / "images", [f"i{k}"], size=(height, 32))
    explain = (tiny.MISURE, tiny.ATE, GradCam())
    data = {"sizes": "bucket"}
    config = tiny.sweep_config(
        folder / "s.zarr", model, folder / "images", explain=explain, data=data
    )
    with CompileLog() as log:
        result = run_sweep(config)
    return config, result, log


def test_few_programs_for_many_sizes(swept):
    config, result, log = swept
    assert result.counts == {name: {"OK": 6} for name in ("misure", "ate", "grad_cam")}
    shapes = result.sizes["padded_to"]
    assert 1 <= len(shapes) <= 2
    assert log.count("_explain_batch") == 3 * len(shapes)
    assert log.count("predict_batch") == len(shapes)
    store = ZarrStore.open(config.out)
    for row in store.rows():
        size = (HEIGHTS[row.image_index], 32)
        assert store.read(row).attribution.shape == size
        assert store.read_image(row).prediction.shape == size
    for row in store.rows("misure"):
        found = store.read(row)
        assert found.region.all()  # all pixels are the image's own
    assert config.data.sizes == store.attrs["config"]["data"]["sizes"] == "bucket"
    assert store.attrs["config"]["input"]["pad_to"] == shapes


def test_what_padding_changes_is_measured_and_stored(swept):
    config, result, _ = swept
    bundle, source = load_model(config.model), FolderDataset(config.data.source)
    shapes = tuple(map(tuple, result.sizes["padded_to"]))
    padded = bundle.segmenter.replace(pad_to=shapes)
    largest, changed, pixels = 0.0, 0, 0
    for index in range(len(HEIGHTS)):
        logits = []
        for segmenter in (bundle.segmenter, padded):
            image = prepare(source[index], segmenter.input).image
            found = segmenter.logits(bundle.variables, image[None])[0]
            logits.append(np.asarray(found)[: HEIGHTS[index], :32])
        largest = max(largest, float(abs(logits[0] - logits[1]).max()))
        classes = [np.argmax(found, axis=-1) for found in logits]
        changed, pixels = changed + (classes[0] != classes[1]).sum(), pixels + classes[0].size
    stored = ZarrStore.open(config.out).attrs["sizes"]
    assert stored == result.sizes
    assert stored["images"] == [f"i{k}" for k in range(len(HEIGHTS))]
    assert stored["largest_logit_difference"] == pytest.approx(largest, rel=1e-3)
    assert stored["largest_logit_difference"] > 0
    assert stored["share_of_pixels_changed"] == pytest.approx(changed / pixels, abs=1e-3)
    same = effect_of_padding(padded, bundle.variables, source, [HEIGHTS.index(64)])
    assert same["images"] == ["i4"]


def test_a_sweep_goes_on_with_its_common_sizes(swept):
    config, result, _ = swept
    again = dataclasses.replace(config, retry_failed=True)
    root = config.out / "zarr.json"
    before = json.loads(root.read_text())["attributes"]["sizes"]
    assert run_sweep(again).times.computed == {"misure": 0, "ate": 0, "grad_cam": 0}
    assert json.loads(root.read_text())["attributes"]["sizes"] == before == result.sizes
    data = dataclasses.replace(config.data, sizes="native")
    with pytest.raises(ConfigError, match=r"data.sizes was bucket, is native; input.pad_to was"):
        run_sweep(dataclasses.replace(config, data=data))


@pytest.mark.slow
def test_fifty_sizes_need_four_programs_a_method(model, tmp_path):
    """Sides from 96 to 384; no method of those that explain segments compiles more."""
    rng = np.random.default_rng(0)
    sizes = rng.choice(np.arange(96, 385), (50, 2), replace=False)
    for k, size in enumerate(sizes):
        tiny.write_images(tmp_path / "images", [f"i{k}"], size=tuple(map(int, size)))
    explain = (tiny.MISURE, tiny.ATE, GradCam(), "confidence")
    config = tiny.sweep_config(
        tmp_path / "s.zarr", model, tmp_path / "images", explain=explain, data={"sizes": "bucket"}
    )
    jax.clear_caches()
    with CompileLog() as log:
        result = run_sweep(config)
    assert all(counts == {"OK": 50} for counts in result.counts.values())
    assert log.count("_explain_batch") <= 4 * len(explain)
    assert log.count("predict_batch") <= 4
