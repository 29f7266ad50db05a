import numpy as np
import pytest

from jaxseg_xai.core.errors import ConfigError, DataError, JaxsegError
from jaxseg_xai.core.types import Status
from jaxseg_xai.reliability.features import join, read_features
from tests.reliability import made_up


def test_features_and_true_dice(tmp_path):
    dices = [0.0, 0.3, 1.0]
    table = read_features(made_up.store(tmp_path / "s.zarr", dices))
    np.testing.assert_allclose(table.true_dice, dices, atol=1e-6)
    assert list(table.image_ids) == ["im0", "im1", "im2"]
    assert set(table.class_names) == {"disc"}
    assert table.sources == ("misure", "confidence")
    assert {name.partition(".")[0] for name in table.names} == {"misure", "confidence"}
    start, area = table.columns(["misure.dice_start", "misure.dice_trace_area"]).T
    np.testing.assert_allclose(area, (start + 0.5) / 2 + 0.75, rtol=1e-6)
    assert np.isnan(table.columns(["misure.never"])).all()
    assert "misure.never" not in table.defined().names
    assert table.omitted == ()
    assert table.of_sources(["confidence"]).names == (
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
    path = made_up.store(tmp_path / "a.zarr", [0.5, 1.0], labels=False)
    assert np.isnan(read_features(path).true_dice).all()
    other = {"label_names": ("background", "liver")}
    path = made_up.store(tmp_path / "b.zarr", [0.5, 1.0], attrs=other)
    assert np.isnan(read_features(path).true_dice).all()
    assert len(read_features(path).labelled()) == 0


def test_sources(tmp_path):
    path = made_up.store(tmp_path / "s.zarr", [0.5], explainers=("confidence",))
    assert read_features(path).sources == ("confidence",)
    with pytest.raises(DataError, match=r"no misure results, only confidence; sweep with --expl"):
        read_features(path, ["misure", "confidence"])
    other = made_up.store(tmp_path / "o.zarr", [0.5], explainers=("ate",))
    with pytest.raises(DataError, match=r"no misure results, only ate; .* --explainers misure$"):
        read_features(other)
    paper = made_up.store(tmp_path / "p.zarr", [0.5], explainers=("misure_paper", "confidence"))
    table = read_features(paper)
    assert table.sources == ("misure_paper", "confidence")
    assert "misure_paper.dice_start" in table.names
    with pytest.raises(ConfigError, match="no features of ate; there are misure, misure_paper"):
        read_features(path, ["ate"])
    with pytest.raises(JaxsegError, match="does not exist"):
        read_features(tmp_path / "no.zarr")


def test_sweeps_of_one_origin_are_joined(tmp_path):
    paths = []
    for lanes, name in enumerate("ab"):
        # How many images are worked on at a time does not matter.
        parameters = {"misure": made_up.PARAMETERS["misure"] | {"lanes": lanes}}
        options = {"prefix": name, "pending": 1, "parameters": parameters}
        paths.append(made_up.store(tmp_path / f"{name}.zarr", [0.5, 1.0], **options))
    joined = join([read_features(path) for path in paths], paths)
    assert list(joined.image_ids) == ["a0", "b0"]
    assert len(joined.omitted) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"parameters": {"misure": {"tau": 0.8}}}, "misure.tau 0.9 and 0.8"),
        ({"attrs": {"model": "other"}}, "model unet and other"),
        ({"config": {"dtype": "bfloat16"}}, "dtype float32 and bfloat16"),
        ({"config": {"pad": "edge"}}, "pad refuse and edge"),
        ({"explainers": ("misure",)}, "confidence.band_width 2 and None"),
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
