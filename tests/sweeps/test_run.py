"""Whole sweeps with a tiny random model: what is computed, and what of it is stored."""

import dataclasses
import json
import time

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

import jaxseg_xai
from jaxseg_xai.core.errors import ConfigError, JaxsegError
from jaxseg_xai.core.types import Status
from jaxseg_xai.data.label_values import LabelValues
from jaxseg_xai.data.sources.folder import FolderDataset
from jaxseg_xai.explainers import Batch
from jaxseg_xai.explainers.cam.grad_cam import GradCam
from jaxseg_xai.explainers.gradient.integrated_gradients import IntegratedGradients
from jaxseg_xai.models import load_model
from jaxseg_xai.ops.random import image_id
from jaxseg_xai.reliability.features import read_features
from jaxseg_xai.store import ZarrStore
from jaxseg_xai.store.pools import read_pool
from jaxseg_xai.sweeps.config import RoiConfig, make_job
from jaxseg_xai.sweeps.data import DataConfig
from jaxseg_xai.sweeps.run import run_sweep
from tests import tiny
from tests.conftest import NUM_DEVICES
from tests.sweeps.programs import NAMES, CompileLog

MISURE, ATE = (make_job(explainer) for explainer in (tiny.MISURE, tiny.ATE))


def test_every_image_class_and_method_is_stored(done):
    config, result = done
    each = {"OK": 6, "EMPTY_TARGET": 6}
    assert result.counts == {"misure": each, "ate": each}
    assert result.times.computed == {"misure": 6, "ate": 6}  # none for a class that is not there
    assert result.num_failed == 0
    store = ZarrStore.open(config.out)
    assert store.class_names == tiny.CLASS_NAMES
    assert store.attrs["config"]["data"]["source"] == config.data.source
    entry = store.entry("misure")
    assert (entry.method, entry.settings["num_iterations"]) == ("misure", 3)
    assert (entry.meta["figure"], entry.meta["target"]) == ("regions", "prediction")
    rows = store.rows("ate")
    assert [rows[number].id for number in (0, 3)] == ["i0/1/box", "i1/2/box"]
    assert {row.version for row in rows} == {jaxseg_xai.__version__}
    assert len({row.run for row in store.rows()}) == 1
    assert all(rows[number].settings["block_size"] == 8 for number in range(12))


def test_maps_are_those_of_the_image_they_are_stored_with(done, model):
    config, _ = done
    store = ZarrStore.open(config.out)
    bundle = load_model(model)
    for index, name in enumerate(NAMES):
        pixels, disc = tiny.picture(index)
        image = store.read_image(index)
        np.testing.assert_array_equal(image.image, pixels)
        np.testing.assert_array_equal(image.labels, disc)
        logits = bundle.segmenter(bundle.variables, pixels[None] / np.float32(255))[0]
        np.testing.assert_array_equal(image.prediction, np.argmax(logits, -1))
        misure, ate = (store.read(store.rows(label)[2 * index]) for label in ("misure", "ate"))
        assert misure.row.image_id == ate.row.image_id == name
        # MiSuRe explains the prediction everywhere, the ATE the truth in a box.
        np.testing.assert_array_equal(misure.reference, image.prediction == 1)
        assert misure.region.all()
        np.testing.assert_array_equal(ate.reference, disc == 1)
        assert ate.region.sum() == 64
        assert (ate.attribution[ate.region] == 0).all()
        assert np.ptp(ate.attribution) > 0
        assert (misure.attribution[~misure.maps["sufficient_region"]] == 0).all()
    absent = store.read(store.rows("misure")[1])
    assert absent.row.status is Status.EMPTY_TARGET
    assert not absent.attribution.any()


def test_ate_does_not_depend_on_batch_size_order_or_limit(done, tmp_path):
    config, _ = done
    other = dataclasses.replace(
        config,
        out=tmp_path / "s.zarr",
        explain=(make_job(dataclasses.replace(tiny.ATE, batch_size=7)),),
        classes=("bright",),
        batch_size=8,
        data=dataclasses.replace(config.data, items=("i5", "i2", "i0", "i3"), limit=2),
    )
    run_sweep(other)
    expected, found = ZarrStore.open(config.out), ZarrStore.open(other.out)
    rows = found.rows("ate")
    for row in rows:
        one = found.read(row)
        two = expected.read(expected.rows("ate")[2 * NAMES.index(row.image_id)])
        assert one.row.id == two.row.id
        np.testing.assert_allclose(one.attribution, two.attribution, atol=1e-4)
        assert one.row.scores["num_interventions"] == two.row.scores["num_interventions"]
    # The order is that of `items`, here its first and last quarters' middles.
    assert [row.image_id for row in rows] == ["i2", "i3"]


def test_the_seed_changes_the_patches(done, tmp_path):
    config = dataclasses.replace(
        done[0], out=tmp_path / "s.zarr", explain=(ATE,), classes=("bright",), seed=1
    )
    run_sweep(config)
    ours, theirs = (ZarrStore.open(path) for path in (config.out, done[0].out))
    pairs = zip(
        map(ours.read, ours.rows("ate")),
        (theirs.read(row) for row in theirs.rows("ate") if row.class_index == 1),
        strict=True,
    )
    assert any((a.attribution != b.attribution).any() for a, b in pairs)


def test_one_program_per_explainer_and_shape(done, model, tmp_path):
    folder = tiny.write_images(tmp_path / "images", [f"i{k}" for k in range(5)])
    tiny.write_images(folder, [f"i{k}" for k in range(5, 11)], size=(48, 32))
    config = tiny.sweep_config(tmp_path / "s.zarr", model, folder, explain=(ATE,))
    with CompileLog() as log:
        result = run_sweep(config)
    assert result.counts == {"ate": {"OK": 11}}
    # The programs for 32x32 are those of `done`, in this process.
    assert log.count("_explain_batch") == 1
    assert log.count("predict_batch") == 1
    store = ZarrStore.open(config.out)
    rows = store.rows("ate")
    sizes = {row.image_id: store.read(row).attribution.shape for row in rows}
    assert sizes == {f"i{k}": (32, 32) if k < 5 else (48, 32) for k in range(11)}
    for row in rows:
        stored = store.read_image(row)
        expected = tiny.picture(int(row.image_id[1:]), sizes[row.image_id])[0]
        np.testing.assert_array_equal(stored.image, expected)


def test_one_program_for_all_sizes_where_images_are_resized(done, model, tmp_path):
    folder = tiny.write_images(tmp_path / "images", ["i0", "i1"])
    for k in range(2, 5):
        tiny.write_images(folder, [f"i{k}"], size=(32 + 2 * k, 40 - k))
    data = {"sizes": (32, 32)}
    config = tiny.sweep_config(tmp_path / "s.zarr", model, folder, explain=(ATE,), data=data)
    with CompileLog() as log:
        result = run_sweep(config)
    assert result.counts == {"ate": {"OK": 5}}
    assert log.count("_explain_batch") == 1
    store = ZarrStore.open(config.out)
    assert {row.image_id: store.read(row).attribution.shape for row in store.rows("ate")} == {
        f"i{k}": (32, 32) if k < 2 else (32 + 2 * k, 40 - k) for k in range(5)
    }
    data = dataclasses.replace(config.data, sizes=(48, 48))
    with pytest.raises(ConfigError, match=r"data.sizes was \[32, 32\], is \[48, 48\]"):
        run_sweep(dataclasses.replace(config, data=data))


def test_a_class_or_an_image_named_twice_counts_once(done, tmp_path):
    config = dataclasses.replace(
        done[0],
        out=tmp_path / "s.zarr",
        explain=(MISURE,),
        classes=("bright", "bright"),
        data=dataclasses.replace(done[0].data, items=("i1", "i1")),
    )
    assert run_sweep(config).counts == {"misure": {"OK": 1}}


def test_a_batch_that_is_not_full_loads_all_devices(done, monkeypatch, tmp_path):
    """6 of 8 places are taken; the maps stay with their images."""
    shares = []

    def batch(**fields):
        shares.append(fields["valid"].reshape(NUM_DEVICES, -1).sum(axis=1))
        return Batch(**fields)

    monkeypatch.setattr("jaxseg_xai.sweeps.batches.Batch", batch)
    config = dataclasses.replace(
        done[0], out=tmp_path / "s.zarr", batch_size=8, explain=(MISURE,), store_labels=True
    )
    run_sweep(config)
    assert [share.tolist() for share in shares] == [[2, 2, 1, 1]]
    ours, theirs = (tiny.arrays(path) for path in (config.out, done[0].out))
    for name in ours:  # programs for other batches round differently
        if name.endswith(tiny.RUN):
            continue
        if ours[name].dtype.kind == "f":
            np.testing.assert_allclose(ours[name], theirs[name], atol=1e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def test_labels_of_other_classes_are_not_compared_with_the_prediction(model, tmp_path):
    config = tiny.sweep_config(tmp_path / "s.zarr", model, "triangle", data={"limit": 1})
    with pytest.raises(ConfigError, match="images are labelled background, triangle, but"):
        run_sweep(config)
    assert not config.out.exists()


def test_the_pool_may_be_another_data_set_read_in_the_same_window(model, tmp_path):
    """What is put into the blocks has the scale of the images."""
    images = tiny.write_images(tmp_path / "one", ["i0"])
    others = tiny.write_images(tmp_path / "others", ["i1", "i2"], labels=False)
    config = tiny.sweep_config(
        tmp_path / "s.zarr",
        model,
        images,
        explain=(ATE,),
        data={"window": (0.0, 510.0)},
        roi=RoiConfig(side=8, reference="prediction"),
    )
    pool = config.data.open_pool(str(others))
    with_window = tiny.picture(1)[0] / np.float32(510)
    np.testing.assert_allclose(pool[0].image, with_window, atol=1e-6)


def test_a_pool_that_cannot_be_made_leaves_no_store(model, tmp_path):
    images = tiny.write_images(tmp_path / "images", ["i0"])
    config = tiny.sweep_config(tmp_path / "s.zarr", model, images)
    with pytest.raises(JaxsegError, match=r"at least two are needed.*others_source"):
        run_sweep(config)
    assert not config.out.exists()


def test_images_of_one_patient_give_each_other_no_patches(model, tmp_path):
    images = tiny.write_images(tmp_path / "images", ["i0", "i1", "i2"])
    config = tiny.sweep_config(tmp_path / "s.zarr", model, images, explain=(ATE,))
    for group, message in (
        ("i", r"all 3 images that can give patches belong to i, .*others_source"),
        ("p+", r"data.group 'p\+' is found in no name \(i0, i1, i2, ...\)"),
        ("(i", r"group '\(i' is no regular expression"),
    ):
        data = dataclasses.replace(config.data, group=group)
        with pytest.raises(JaxsegError, match=message):
            run_sweep(dataclasses.replace(config, data=data))
        assert not config.out.exists()
    # What is drawn from holds one group only: it is known late who belongs to it.
    others = tiny.write_images(tmp_path / "others", ["i0", "i1"], labels=False)
    data = dataclasses.replace(config.data, group="(i)[01]")
    result = run_sweep(dataclasses.replace(config, data=data, others_source=str(others)))
    assert result.counts == {"ate": {"OK": 1, "FAILED": 2}}
    assert result.reasons[0].startswith("i0: patch pool smaller than needed: all 40 patches come")
    pool = read_pool(config.out, 8)
    assert {tuple(row) for row in pool.sources.tolist()} == {tuple(image_id("i").tolist())}


def test_one_image_is_read_at_a_time(done, monkeypatch, tmp_path):
    """A data set that keeps its last volume would hand out another item's pixels."""
    busy, together = [], []
    read = FolderDataset.__getitem__

    def wrapped(self, index):
        together.extend(busy)
        busy.append(index)
        time.sleep(0.005)
        sample = read(self, index)
        busy.remove(index)
        return sample

    monkeypatch.setattr(FolderDataset, "__getitem__", wrapped)
    config = dataclasses.replace(done[0], out=tmp_path / "s.zarr", explain=(MISURE,))
    run_sweep(config)
    assert not together


def test_the_store_says_how_it_was_made(done):
    attributes = json.loads((done[0].out / "zarr.json").read_text())["attributes"]
    assert attributes["seed"] == 0
    assert set(attributes["versions"]) == {"jaxseg_xai", "jax", "flax", "python"}
    assert attributes["config"]["weights_checksum"] > 0


def test_logits_that_are_not_finite_have_that_status(tmp_path, images):
    model = tiny.write_model(tmp_path / "model")
    arrays = safetensors.numpy.load_file(model / "weights.safetensors")
    for name in ("encoder/0/conv1/kernel", "head/kernel"):  # finite, but not their product
        arrays[name] = np.full_like(arrays[name], 3e38)
    safetensors.numpy.save_file(arrays, model / "weights.safetensors")
    result = run_sweep(tiny.sweep_config(tmp_path / "s.zarr", model, images))
    assert {status for counts in result.counts.values() for status in counts} == {"NON_FINITE"}


def test_what_cannot_be_explained_still_shows_the_prediction(tmp_path, model, images):
    config = tiny.sweep_config(tmp_path / "s.zarr", model, images, classes=("never",))
    run_sweep(config)
    store = ZarrStore.open(config.out)
    for stored in map(store.read, store.rows()):
        assert stored.row.status == Status.EMPTY_TARGET
        image = store.read_image(stored.row)
        np.testing.assert_array_equal(stored.maps["prediction"], image.prediction)
        assert stored.maps["prediction"].any()


def test_what_reliability_reads_of_a_sweep(done):
    config, _ = done
    table = read_features(config.out)
    assert table.labels == ("misure",)
    assert {"misure.num_dilations", "misure.area_minimal", "misure.dice_start"} <= {*table.names}
    assert len(table) == 6
    assert table.counts_omitted() == {"EMPTY_TARGET": 6}
    image = ZarrStore.open(config.out).read_image(0)
    truth, segment = image.labels == 1, image.prediction == 1
    dice = 2 * (truth & segment).sum() / (truth.sum() + segment.sum())
    assert table.true_dice[0] == pytest.approx(dice, abs=1e-6)
    assert table.origin.weights_checksum != 0


@pytest.mark.parametrize("asked", [True, False])
def test_label_maps_that_no_explainer_needs_are_kept_where_asked(asked, model, images, tmp_path):
    options = {"explain": ("confidence",), "store_labels": asked}
    config = tiny.sweep_config(tmp_path / "s.zarr", model, images, **options)
    assert run_sweep(config).counts == {"confidence": {"OK": 6}}
    table = read_features(config.out, ["confidence"])
    assert np.isfinite(table.true_dice).all() == asked
    assert np.isfinite(table.columns(["confidence.tta_pairwise"])).all()


def test_labels_are_looked_at_only_by_what_needs_them(model, tmp_path, caplog):
    """One bad label map of three fails the rows that read it, and nothing else."""
    images = tiny.write_images(tmp_path / "images", NAMES[:3])
    bad = images / "labels" / f"{NAMES[1]}.png"
    bad.write_bytes(b"no PNG")
    explain = (tiny.ATE, GradCam())
    config = tiny.sweep_config(
        tmp_path / "s.zarr", model, images, explain=explain, store_labels=True
    )
    result = run_sweep(config)
    assert result.counts == {"ate": {"OK": 2, "FAILED": 1}, "grad_cam": {"OK": 3}}
    (reason,) = result.reasons
    assert f"{bad}: corrupt" in reason
    assert "1 images are stored without their label maps" in caplog.text
    assert [ZarrStore.open(config.out).read_image(k).labels is None for k in range(3)] == [
        False,
        True,
        False,
    ]
    # Its pixels give patches to the others.
    pool = read_pool(config.out, 8)
    assert len(np.unique(pool.sources, axis=0)) == 3
    run_sweep(dataclasses.replace(config, out=tmp_path / "o.zarr", store_labels=False))


def test_masks_of_black_and_white(model, images, done, tmp_path):
    """labels.map = {255 = 1} gives the same store as label maps of 0 and 1."""
    other = tiny.write_images(tmp_path / "images", NAMES)
    for path in (other / "labels").iterdir():
        white = 255 * np.asarray(Image.open(path))
        Image.fromarray(white).save(path)
    config = dataclasses.replace(done[0], out=tmp_path / "s.zarr", explain=(ATE,))
    config = dataclasses.replace(config, data=DataConfig(source=str(other)))
    assert run_sweep(config).counts["ate"]["FAILED"] == 12
    config = dataclasses.replace(config, labels=LabelValues(map={255: 1}), overwrite=True)
    assert run_sweep(config).counts == {"ate": {"OK": 6, "EMPTY_TARGET": 6}}
    ours, theirs = ZarrStore.open(config.out), ZarrStore.open(done[0].out)
    for row, other in zip(ours.rows("ate"), theirs.rows("ate"), strict=True):
        np.testing.assert_array_equal(ours.read(row).attribution, theirs.read(other).attribution)
    with pytest.raises(ConfigError, match=r"labels.map.255 was 1, is absent"):
        run_sweep(dataclasses.replace(config, labels=LabelValues(), overwrite=False))


def test_maps_by_gradients_and_a_layer_that_is_not_there(model, images, tmp_path):
    explain = (IntegratedGradients(num_nodes=2), GradCam())
    config = tiny.sweep_config(tmp_path / "s.zarr", model, images, explain=explain)
    result = run_sweep(config)
    assert result.counts == {"integrated_gradients": {"OK": 6}, "grad_cam": {"OK": 6}}
    store = ZarrStore.open(config.out)
    assert store.read(store.rows("integrated_gradients")[0]).attribution.any()
    assert store.entry("grad_cam").settings["layer"] == ""
    elsewhere = dataclasses.replace(
        config, explain=(make_job(GradCam(layer="conv9")),), out=tmp_path / "other.zarr"
    )
    with pytest.raises(ConfigError, match=r"no layer conv9; the model has encoder/0/conv1"):
        run_sweep(elsewhere)
    assert not elsewhere.out.exists()
