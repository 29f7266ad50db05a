import dataclasses
import json

import numpy as np
import pytest

from jaxseg_xai.core.errors import DataError, ModelError
from jaxseg_xai.reliability import classifier
from jaxseg_xai.reliability.features import read_features
from jaxseg_xai.reliability.model_file import ReliabilityClassifier
from tests.reliability import made_up


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = made_up.store(tmp_path_factory.mktemp("store") / "s.zarr", made_up.dices(80))
    return read_features(path).defined()


@pytest.fixture(scope="module")
def fitted(table):
    pipeline = classifier.fit(table.values, table.true_dice >= 0.6, table.image_ids)
    return pipeline, ReliabilityClassifier.of(pipeline, table, 0.6)


def test_the_file_gives_the_pipelines_probabilities(table, fitted, tmp_path):
    pipeline, found = fitted
    found.save(tmp_path / "new" / "c.json")
    loaded = ReliabilityClassifier.load(tmp_path / "new" / "c.json")
    assert loaded == found
    holes = table.values.copy()
    holes[::3, 0] = np.nan
    holes[1] = 1e6  # cut off
    expected = pipeline.predict_proba(holes)[:, 1]
    found = loaded.probability(dataclasses.replace(table, values=holes))
    np.testing.assert_allclose(found, expected)
    good = table.true_dice >= 0.6
    assert expected[good].mean() > expected[~good].mean()


def test_squares_are_found_where_they_help():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(200, 1))
    good = np.abs(values[:, 0]) < 0.7
    ids = np.arange(200).astype(str)
    probability = classifier.held_out_probability(values, good, ids)
    assert ((probability > 0.5) == good).mean() > 0.85


def test_no_image_is_on_both_sides():
    ids = np.repeat(np.arange(30), 3).astype(str)
    good = np.random.default_rng(0).random(90) > 0.5
    for kept, left in classifier.folds(good, ids):
        assert not set(ids[kept]) & set(ids[left])


def test_too_few_images_on_a_side():
    ids = np.arange(30).astype(str)
    good = ids.astype(int) >= 9
    with pytest.raises(DataError, match=r"s.zarr: 9 images have a true Dice below 0.8, 10 are ne"):
        classifier.check_sides(good, ids, 0.8, "s.zarr")
    with pytest.raises(DataError, match=r"0 images have a true Dice at least 0\.8"):
        classifier.check_sides(np.zeros(30, bool), ids, 0.8, "s.zarr")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"settings": {"misure": {"tau": 0.8}}}, r"misure.tau 0.9 and 0.8"),
        ({"labels": ("misure",)}, r"label confidence present and absent"),
        ({"attrs": {"model": "other"}}, r"model unet and other"),
    ],
)
def test_explanations_of_another_kind_are_refused(fitted, tmp_path, options, words):
    other = read_features(made_up.store(tmp_path / "s.zarr", [0.5, 0.6], **options))
    with pytest.raises(DataError, match=words):
        fitted[1].probability(other)


def test_a_feature_that_is_missing(fitted, table):
    fewer = dataclasses.replace(table, names=table.names[1:], values=table.values[:, 1:])
    with pytest.raises(DataError, match=r"no feature misure\.\w+"):
        fitted[1].probability(fewer)


def test_a_store_that_lacks_a_score(fitted, tmp_path):
    """As those that MiSuRe wrote before it measured where its dilations start."""
    path = made_up.store(tmp_path / "s.zarr", [0.5, 0.6], without=("dice_start",))
    with pytest.raises(DataError, match=r"no feature misure\.dice_start"):
        fitted[1].probability(read_features(path))


def test_which_images_were_seen(fitted, table):
    assert fitted[1].has_seen(table).all()
    names = table.image_ids.copy()
    names[0] = "another"
    assert fitted[1].has_seen(dataclasses.replace(table, image_ids=names)).tolist() == [
        False,
        *[True] * (len(names) - 1),
    ]
    assert max(fitted[1].seen) >= 2**63  # 64 bits, not 32


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "version 2, this is version 3; fit it again"),
        ({"format": "x"}, "not a classifier"),
        ({"means": [1.0]}, "damaged classifier .1 means of"),
        ({"intercept": "a"}, "damaged classifier .intercept is 'a'"),
        ({"intercept": float("nan")}, "damaged classifier"),
        ({"coefficients": []}, "degree and coefficients do not fit"),
        ({"surprise": 1}, "unknown key surprise"),
    ],
)
def test_damaged_files(fitted, tmp_path, change, words):
    path = tmp_path / "c.json"
    fitted[1].save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelError, match=words):
        ReliabilityClassifier.load(path)


def test_files_that_are_none(tmp_path):
    with pytest.raises(ModelError, match="No such file"):
        ReliabilityClassifier.load(tmp_path / "no.json")
    (tmp_path / "a").write_text("{")
    with pytest.raises(ModelError, match="damaged"):
        ReliabilityClassifier.load(tmp_path / "a")
    (tmp_path / "b").write_text("[]")
    with pytest.raises(ModelError, match="not a classifier"):
        ReliabilityClassifier.load(tmp_path / "b")
    (tmp_path / "c").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ModelError, match="damaged"):
        ReliabilityClassifier.load(tmp_path / "c")
