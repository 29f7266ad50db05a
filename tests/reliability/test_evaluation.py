import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from jaxseg_xai.reliability import evaluation
from jaxseg_xai.reliability.features import read_features
from jaxseg_xai.reliability.report import evaluation_figure, evaluation_table
from tests.reliability import made_up

pytestmark = pytest.mark.usefixtures("one_candidate")


def table_of(folder, name="s", **options):
    path = made_up.store(folder / f"{name}.zarr", made_up.dices(80), prefix=name, **options)
    return read_features(path).defined()


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return table_of(tmp_path_factory.mktemp("store"))


def test_area_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    good, score = rng.random(200) > 0.6, np.round(rng.random(200), 1)  # with ties
    value, _ = evaluation.auroc(good, score, [])
    assert value == pytest.approx(roc_auc_score(good, score))


def test_resamples_keep_images_whole():
    ids = np.repeat(["a", "b", "c"], [1, 2, 3])
    good = np.array([True, True, False, True, False, False])
    for rows in evaluation.resamples(good, ids, 20):
        counts = np.bincount(rows, minlength=6)
        assert counts[1] == counts[2]
        assert counts[3] == counts[4] == counts[5]
        assert 0 < good[rows].sum() < len(rows)


def test_informative_features_win(table):
    found = evaluation.compare(table, 0.6, num_resamples=100)
    by_name = {(result.name, result.fitted): result for result in found.results}
    first = found.results[0]
    assert first.name == "misure (all)"
    assert first.auroc.value > 0.85
    assert first.auroc.low < first.auroc.value < first.auroc.high
    assert first.gain.value == 0
    # The noisy copy of the same signal; as entropy its sign is turned.
    alone, doubt = (by_name[f"confidence.{n}", False] for n in ("confidence", "entropy"))
    assert alone.auroc.value == pytest.approx(doubt.auroc.value)
    assert 0.6 < alone.auroc.value < first.auroc.value
    assert alone.gain.value == pytest.approx(alone.auroc.value - first.auroc.value)
    assert ("misure + confidence", True) in by_name
    assert not any("area_target" in name for name, _ in by_name)
    assert first.brier < 0.2
    assert np.isnan(alone.brier)


def test_noise_is_not_found_informative(tmp_path):
    train = table_of(tmp_path, "a", informative=False)
    held_out = table_of(tmp_path, "b", informative=False, seed=1)
    found = evaluation.compare(train, 0.6, held_out=held_out, num_resamples=100)
    for result in found.results:
        assert result.auroc.low < 0.6, result.name


def test_misure_alone(table):
    found = evaluation.compare(table.of_labels(["misure"]), 0.6, num_resamples=50)
    assert [result.name for result in found.results] == ["misure (all)"]


def test_report(table):
    found = evaluation.compare(table, 0.6, num_resamples=50)
    lines = evaluation_table(found).splitlines()
    assert lines[0].startswith("score or features")
    assert len(lines) == len(found.results) + 2
    assert "80 explanations of 80 images" in lines[-1]
    figure = evaluation_figure(found, "title")
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert [label.partition(",")[0] for label in labels] == [
        "misure (all)",
        "confidence (all)",
        "misure + confidence",
    ]


def test_what_is_compared():
    names = ("misure.a", "misure.b", "misure_paper.a", "confidence.entropy")
    assert "confidence.entropy" not in evaluation.feature_sets(names, [])
    found = evaluation.feature_sets(names, ["confidence.entropy", "confidence.none"])
    assert found["misure (all)"] == ("misure.a", "misure.b")
    assert found["misure + confidence"] == ("misure.a", "misure.b", "confidence.entropy")
    assert found["misure + misure_paper + confidence"] == names
    assert len(found) == 3 + 4 + 1
