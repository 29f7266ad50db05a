import dataclasses

import numpy as np
import pytest

from jaxseg_xai.core.errors import ConfigError, DataError, JaxsegError
from jaxseg_xai.core.types import IGNORED, Status
from jaxseg_xai.reliability.features import read_features
from jaxseg_xai.reliability.table import join
from jaxseg_xai.reliability.truth import true_dice
from jaxseg_xai.store import Entry, MemoryStore, PlanRow, StoredImage, ZarrStore
from tests.reliability import made_up


def test_features_and_true_dice(tmp_path):
    dices = [0.0, 0.3, 1.0]
    table = read_features(made_up.store(tmp_path / "s.zarr", dices))
    np.testing.assert_allclose(table.true_dice, dices, atol=1e-6)
    assert list(table.image_ids) == ["im0", "im1", "im2"]
    assert set(table.class_names) == {"disc"}
    assert table.labels == ("misure", "confidence")
    assert {name.partition(".")[0] for name in table.names} == {"misure", "confidence"}
    assert {"misure.num_dilations", "misure.dice_start"} <= set(table.names)
    assert table.sureness == {"confidence.confidence": 1, "confidence.entropy": -1}
    assert np.isnan(table.columns(["misure.never"])).all()
    assert "misure.never" not in table.defined().names
    assert table.omitted == ()
    assert table.of_labels(["confidence"]).names == (
        "confidence.area_target",
        "confidence.confidence",
        "confidence.entropy",
    )


def test_what_has_no_features_is_said(tmp_path):
    statuses = {0: Status.FAILED, 1: Status.EMPTY_TARGET, 2: Status.NOT_REACHED}
    path = made_up.store(tmp_path / "s.zarr", [0.5] * 6, statuses=statuses, pending=2)
    table = read_features(path, ["misure"])
    assert list(table.image_ids) == ["im2", "im3"]
    assert list(table.statuses) == ["NOT_REACHED", "OK"]
    assert table.counts_omitted() == {"EMPTY_TARGET": 1, "FAILED": 1, "PENDING": 2}


def test_labels_that_are_absent_or_mean_other_classes(tmp_path):
    path = made_up.store(tmp_path / "a.zarr", [0.5, 1.0], truth=False)
    assert np.isnan(read_features(path).true_dice).all()
    other = {"label_names": ("background", "liver")}
    path = made_up.store(tmp_path / "b.zarr", [0.5, 1.0], attrs=other)
    assert np.isnan(read_features(path).true_dice).all()
    assert len(read_features(path).labelled()) == 0


def test_the_true_dice_of_volumes_and_planes():
    """Of classes that overlap, each by its own plane."""
    rng = np.random.default_rng(0)
    labels, prediction = rng.random((2, 3, 4, 5, 2)) > 0.5
    store = MemoryStore(
        entries=[Entry(label="m", method="m")],
        plan={"m": [PlanRow(image_index=0, image_id="v", class_index=c) for c in range(2)]},
        attrs={"class_names": ["whole", "core"], "label_names": ["whole", "core"]},
        rank=3,
    )
    picture = np.zeros((3, 4, 5, 1), np.uint8)
    image = StoredImage(id="v", image=picture, labels=labels, prediction=prediction)
    store.write_image(0, image)
    both, sizes = labels & prediction, labels.sum((0, 1, 2)) + prediction.sum((0, 1, 2))
    expected = 2 * both.sum((0, 1, 2)) / sizes
    np.testing.assert_allclose(true_dice(store, store.rows("m")), expected, rtol=1e-6)
    # A label map beside planes is read by the class's number.
    numbers = rng.integers(0, 2, (3, 4, 5))
    store.write_image(0, dataclasses.replace(image, labels=numbers))
    both = (numbers == 1) & prediction[..., 1]
    expected = 2 * both.sum() / ((numbers == 1).sum() + prediction[..., 1].sum())
    np.testing.assert_allclose(true_dice(store, store.rows("m"))[1], expected, rtol=1e-6)
    # Pixels of no known class count on neither side.
    numbers[0] = IGNORED
    store.write_image(0, dataclasses.replace(image, labels=numbers))
    both, sizes = both[1:], (numbers[1:] == 1).sum() + prediction[1:, ..., 1].sum()
    found = true_dice(store, store.rows("m"))[1]
    np.testing.assert_allclose(found, 2 * both.sum() / sizes, rtol=1e-6)


def test_which_labels_have_features(tmp_path):
    path = made_up.store(tmp_path / "s.zarr", [0.5], labels=("confidence",))
    assert read_features(path).labels == ("confidence",)
    with pytest.raises(DataError, match=r"no misure results, only confidence; sweep with --expl"):
        read_features(path, ["misure", "confidence"])
    other = made_up.store(tmp_path / "o.zarr", [0.5], labels=("ate",))
    with pytest.raises(DataError, match=r"no result describes a whole .* only ate; .* misure, "):
        read_features(other)
    with pytest.raises(ConfigError, match=r"no features of ate; nor of any other"):
        read_features(other, ["ate"])
    mixed = made_up.store(tmp_path / "p.zarr", [0.5], labels=("confidence", "ate", "misure_paper"))
    table = read_features(mixed)
    # The measures of confidence come last: what else there is is compared with them.
    assert table.labels == ("misure_paper", "confidence")
    assert "misure_paper.dice_start" in table.names
    with pytest.raises(ConfigError, match="no features of ate; there are misure_paper, confidence"):
        read_features(mixed, ["ate"])
    with pytest.raises(JaxsegError, match="does not exist"):
        read_features(tmp_path / "no.zarr")


def test_labels_are_not_methods(tmp_path):
    """One method twice, and one that is installed no longer: the store says what it needs."""
    methods = {"coarse": "misure", "fine": "misure", "theirs": "gone"}
    options = {"meta": made_up.META | {"gone": {"features": True, "figure": "heat"}}}
    options["settings"] = {"gone": {"depth": 3}}
    path = made_up.store(
        tmp_path / "s.zarr", [0.5], labels=tuple(methods), methods=methods, **options
    )
    table = read_features(path)
    assert table.labels == ("coarse", "fine", "theirs")
    assert {"coarse.dice_start", "fine.dice_start", "theirs.dice_start"} <= set(table.names)
    assert table.origin.settings["theirs"] == {"method": "gone", "revision": 1, "depth": 3}


def test_a_store_that_does_not_say_what_its_methods_are(tmp_path):
    path = made_up.store(tmp_path / "s.zarr", [0.5], labels=("ate", "misure"), meta={})
    assert read_features(path).labels == ("misure",)


def test_entries_without_a_common_region(tmp_path):
    path = tmp_path / "s.zarr"
    regions = {"misure": "image", "confidence": "box"}
    ZarrStore.create_or_resume(
        path,
        entries=[Entry(label=name, method=name) for name in regions],
        plan={
            name: [PlanRow(image_index=0, image_id="a", class_index=1, region_name=region)]
            for name, region in regions.items()
        },
        config={},
    )
    with pytest.raises(DataError, match="misure and confidence never explain the same class"):
        read_features(path)


def test_sweeps_of_one_origin_are_joined(tmp_path):
    paths = []
    for lanes, name in enumerate("ab"):
        # How many images are worked on at a time does not matter.
        settings = {"misure": made_up.SETTINGS["misure"] | {"lanes": lanes}}
        options = {"prefix": name, "pending": 1, "settings": settings}
        paths.append(made_up.store(tmp_path / f"{name}.zarr", [0.5, 1.0], **options))
    joined = join([read_features(path) for path in paths], paths)
    assert list(joined.image_ids) == ["a0", "b0"]
    assert len(joined.omitted) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"settings": {"misure": {"tau": 0.8}}}, "misure.tau 0.9 and 0.8"),
        (
            {"meta": made_up.META | {"misure": {"features": True, "revision": 2}}},
            "revision 1 and 2",
        ),
        ({"attrs": {"model": "other"}}, "model unet and other"),
        ({"config": {"dtype": "bfloat16"}}, "dtype float32 and bfloat16"),
        ({"config": {"pad": "edge"}}, "pad refuse and edge"),
        ({"labels": ("misure",)}, "label confidence present and absent"),
    ],
)
def test_sweeps_of_different_origin_are_not(tmp_path, options, words):
    paths = [
        made_up.store(tmp_path / "a.zarr", [0.5]),
        made_up.store(tmp_path / "b.zarr", [0.5], **options),
    ]
    tables = [read_features(path) for path in paths]
    with pytest.raises(DataError, match=words):
        join(tables, paths)
