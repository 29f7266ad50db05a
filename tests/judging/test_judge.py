"""Methods judged by metrics on the rows of stores: what is computed, kept, told apart and left out.

The model is one of single pixels, and the maps are made up, so that it is known who is best.
"""

import csv
import dataclasses
import json
import math

import numpy as np
import pyarrow.parquet
import pytest

import jaxseg_xai
from jaxseg_xai.core.errors import ConfigError, JaxsegError
from jaxseg_xai.core.types import Explanation, Sample, SegmentTarget, Status
from jaxseg_xai.explainers import EXPLAINERS
from jaxseg_xai.judging import judge, judge_stores
from jaxseg_xai.judging.entries import make_metrics
from jaxseg_xai.judging.result import Published
from jaxseg_xai.judging.scored import ScoreFile
from jaxseg_xai.metrics import METRICS
from jaxseg_xai.store import Entry, MemoryStore, PlanRow
from tests.facade.pixels import model_of_pixels

COUNT, SIDE = 6, 16
METRIC_SETTINGS = [{"metric": "deletion", "num_steps": 4, "block_size": 4}, "energy_inside"]
CLASS = 1


class Pictures:
    """A bright square in each, anywhere."""

    class_names = ("dark", "bright")
    ids = tuple(f"p{i}" for i in range(COUNT))

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        image = 0.3 * rng.random((SIDE, SIDE, 1), np.float32)
        y, x = rng.integers(0, SIDE - 6, 2)
        image[y : y + 5, x : x + 6] += 0.65
        return Sample(id=self.ids[index], image=image)


def maps(image):
    """Label -> a map: the best, its opposite, noise, and nothing at all."""
    noise = np.random.default_rng(int(1e6 * image[0, 0, 0])).random((SIDE, SIDE), np.float32)
    return {
        "right": image[..., 0],
        "wrong": 1 - image[..., 0],
        "noise": noise,
        "flat": np.zeros((SIDE, SIDE), np.float32),
        "unsure": noise,
    }


def store_of(*, run="run", model="pixels", labels=()):
    """A store with those maps of every picture."""
    source = Pictures()
    metas = {name: EXPLAINERS.get("input_x_gradient").meta for name in maps(source[0].image)}
    metas["unsure"] = EXPLAINERS.get("confidence").meta
    metas = {name: metas[name] for name in labels or metas}
    rows = [PlanRow(image_index=i, image_id=n, class_index=CLASS) for i, n in enumerate(source.ids)]
    store = MemoryStore.create_or_resume(
        entries=[
            Entry(label=n, method="made-up", meta=dataclasses.asdict(m) | {"needs": []})
            for n, m in metas.items()
        ],
        plan=dict.fromkeys(metas, rows),
        config={"model": "models/gone", "data": {"source": "gone"}, "batch_size": 4},
        attrs={"model": model, "class_names": ["dark", "bright"]},
        run=run,
    )
    store.set_attribute("times", {"right": {"explanations": 6, "seconds": 3.0}})
    for i in range(COUNT):
        image = source[i].image
        target = SegmentTarget(
            class_index=np.int32(CLASS),
            region=np.ones((SIDE, SIDE), bool),
            reference=image[..., 0] > 0.5,
        )
        for label in metas:
            found = Explanation(attribution=maps(image)[label], status=np.int32(Status.OK))
            store.write(label, i, found, target)
    if "right" in metas:
        store.fail("right", COUNT - 1, "it broke")
    store.flush()
    return store


def judged(store, folder, metrics=METRIC_SETTINGS, **options):
    given = {"model": model_of_pixels(), "data": Pictures(), "progress": False}
    return jaxseg_xai.judge(store, out=folder, metrics=metrics, **given | options)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return judged(store_of(), tmp_path_factory.mktemp("judged"))


def rows_of(table, **wanted):
    return [row for row in table if all(row[name] == value for name, value in wanted.items())]


def test_means_over_images(found):
    (row,) = rows_of(found.table, label="right", metric="energy_inside", score="energy_inside")
    expected = []
    for i in range(COUNT - 1):  # the last one failed
        image = Pictures()[i].image[..., 0]
        expected.append(image[image > 0.5].sum() / image.sum())
    assert row["mean"] == pytest.approx(np.mean(expected), rel=1e-6)
    assert min(expected) <= row["low"] < row["mean"] < row["high"] <= max(expected)
    assert (row["num_images"], row["num_undefined"], row["status"]) == (COUNT - 1, 0, "ok")
    (row,) = rows_of(found.table, label="noise", metric="deletion", score="auc")
    assert row["num_images"] == COUNT
    assert row["better"] == "lower"


def test_what_cannot_be_judged_is_a_status(found):
    # A map of zeros has no positive relevance: no energy, for every image.
    (row,) = rows_of(found.table, label="flat", metric="energy_inside", score="energy_inside")
    assert (row["status"], row["num_undefined"]) == ("not defined", COUNT)
    assert math.isnan(row["mean"])
    # Its blocks are deleted in their order, which is a result.
    (row,) = rows_of(found.table, label="flat", metric="deletion", score="auc")
    assert row["status"] == "ok"
    assert {row["status"] for row in rows_of(found.table, label="unsure")} == {"not judged"}
    (note,) = found.notes
    assert note.startswith("pixels: unsure is not judged by deletion, energy_inside: its maps say")


def test_methods_are_told_apart_image_by_image(found):
    (pair,) = rows_of(found.pairs, metric="deletion", label_a="wrong", label_b="noise")
    assert pair["num_images"] == COUNT
    assert pair["difference"] > 0
    # 6 pairs of 4 methods; with all images of one sign 2 / 2^6 before the correction.
    assert pair["p_value"] == pytest.approx(2 / 64)
    assert pair["p_holm"] == pytest.approx(6 * 2 / 64)
    (pair,) = rows_of(found.pairs, metric="deletion", label_a="right", label_b="wrong")
    assert pair["num_images"] == COUNT - 1
    # So few images tell nothing apart after the correction.
    assert found.best("pixels", "deletion")[0] == "right"
    assert set(found.best("pixels", "deletion")) == {"right", "wrong", "noise", "flat"}


def test_with_more_images_the_best_stands_out(found):
    scores = [
        row | {"image_id": f"{row['image_id']} {n}", "value": row["value"] + 1e-4 * n}
        for n in range(8)
        for row in found.scores
    ]
    more = dataclasses.replace(found, scores=scores)
    assert more.best("pixels", "deletion") == ["right"]
    assert more.best("pixels", "energy_inside") == ["right"]
    page = str(more)
    assert "| right | **" in page
    assert "| wrong | **" not in page


def test_classes_of_an_image_are_averaged_first(found):
    doubled = [row | {"class_name": "other", "value": 0.0} for row in found.scores]
    both = dataclasses.replace(found, scores=[*found.scores, *doubled])
    one, half = (
        rows_of(x.table, label="noise", metric="deletion", score="auc")[0] for x in (found, both)
    )
    assert half["mean"] == pytest.approx(one["mean"] / 2)
    assert half["num_images"] == one["num_images"]


def test_what_it_cost(found):
    (right,) = rows_of(found.methods, label="right")
    assert right["seconds"] == 0.5
    assert right["statuses"] == "5 OK, 1 FAILED"
    (noise,) = rows_of(found.methods, label="noise")
    assert math.isnan(noise["seconds"])
    assert math.isnan(noise["evaluations"])  # nobody knows the method


def test_files(found, tmp_path):
    page = found.save(tmp_path / "new", parquet=True)
    text = page.read_text()
    assert "| method | deletion ↓ | energy_inside ↑ |" in text
    assert "| flat |" in text
    assert "| unsure | not judged | not judged |" in text
    assert found.notes[0] in text
    for name in ("table", "methods", "pairs", "scores"):
        with (page.parent / f"{name}.csv").open() as file:
            rows = list(csv.DictReader(file))
        parquet = pyarrow.parquet.read_table(page.parent / f"{name}.parquet").to_pylist()
        assert len(rows) == len(parquet) == len(getattr(found, name))
        assert list(rows[0]) == list(parquet[0]) == list(getattr(found, name)[0])
    (undefined,) = rows_of(parquet, label="flat", image_id="p0", score="energy_inside")
    assert undefined["value"] is None
    with pytest.raises(JaxsegError, match="cannot be written"):
        found.save(page)


def test_figures_that_were_published_stand_beside_ours(found):
    published = Published(
        model="pixels", label="right", metric="deletion", value=0.25, source="a paper, table 1"
    )
    both = dataclasses.replace(found, published=(published,))
    (row,) = rows_of(both.table, label="right", metric="deletion", score="auc")
    assert row["published"] == 0.25
    (other,) = rows_of(both.table, label="right", metric="deletion", score="auc_soft")
    assert math.isnan(other["published"])
    line = f"| pixels, right, deletion auc | 0.25 | {row['mean']:.3g} | a paper, table 1 |"
    assert line in str(both)


# Continued


@pytest.fixture
def scored(monkeypatch):
    """Which metrics are asked, in order."""
    asked = []

    def score_all(metrics, *arguments, **options):
        asked.append(sorted(metrics))
        return real(metrics, *arguments, **options)

    from jaxseg_xai.judging import scoring

    real = scoring.score_all
    monkeypatch.setattr(scoring, "score_all", score_all)
    return asked


def test_a_judgement_that_was_killed_goes_on(tmp_path, scored, monkeypatch):
    store = store_of(labels=("right", "noise"))
    real, calls = ScoreFile.add, []

    def killed(self, *arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(self, *arguments)

    monkeypatch.setattr(ScoreFile, "add", killed)
    with pytest.raises(KeyboardInterrupt):
        judged(store, tmp_path)
    monkeypatch.setattr(ScoreFile, "add", real)
    # Cut off within a line, too.
    file = tmp_path / judge.SCORES
    kept = file.read_text()
    file.write_text(kept[:-30])
    scored.clear()
    found = judged(store, tmp_path)
    # There are 2 batches of 2 methods. The first was there, but for a line that was cut off, which
    # went with the second.
    assert scored == 3 * [["deletion", "energy_inside"]]
    assert len(file.read_text().splitlines()) == 2 * (COUNT - 1 + COUNT) + 1
    whole = judged(store, tmp_path / "whole")
    assert [row | {"seconds": 0} for row in found.scores] == [
        row | {"seconds": 0} for row in whole.scores
    ]
    scored.clear()
    again = judged(store, tmp_path)
    assert not scored
    assert str(again) == str(found)


def test_only_what_is_new_is_scored(tmp_path, scored):
    store = store_of(labels=("right", "noise"))
    judged(store, tmp_path, ["energy_inside"])
    scored.clear()
    judged(store, tmp_path)
    assert scored == 4 * [["deletion"]]
    scored.clear()
    judged(store, tmp_path, {"metric": "deletion", "num_steps": 2, "block_size": 4})
    assert scored == 4 * [["deletion"]]  # other settings
    # Explanations that were made anew.
    store = store_of(run="later", labels=("right", "noise"))
    scored.clear()
    judged(store, tmp_path, ["energy_inside"])
    assert scored


def test_curves_are_kept_per_image(tmp_path):
    judged(store_of(labels=("right",)), tmp_path, METRIC_SETTINGS[:1])
    lines = [json.loads(line) for line in (tmp_path / judge.SCORES).read_text().splitlines()]
    assert len(lines) == COUNT - 1
    curve = lines[0]["curves"]["curve"]
    assert (len(curve), curve[0]) == (5, 1.0)


# Bad input


def test_bad_input(tmp_path):
    store = store_of(labels=("right",))
    with pytest.raises(ConfigError, match="unknown metric 'delete'; there is"):
        judged(store, tmp_path, ["delete"])
    with pytest.raises(ConfigError, match=r"deletion.num_steps is 0; it must be at least 1"):
        judged(store, tmp_path, METRICS.get("deletion")(num_steps=0))
    with pytest.raises(ConfigError, match="two metrics are labelled 'deletion'"):
        judged(store, tmp_path, ["deletion", "deletion"])
    with pytest.raises(ConfigError, match=r"\[\[metrics\]\] table has no metric"):
        judged(store, tmp_path, [{"num_steps": 3}])
    with pytest.raises(ConfigError, match=r"fine: unknown key steps"):
        judged(store, tmp_path, [{"metric": "deletion", "label": "fine", "steps": 3}])
    with pytest.raises(ConfigError, match="metrics holds 3"):
        judged(store, tmp_path, [3])
    with pytest.raises(ConfigError, match="no store to judge"):
        judged([], tmp_path)
    with pytest.raises(ConfigError, match="two stores are called pixels"):
        judged([store, store_of(labels=("right",))], tmp_path)
    with pytest.raises(ConfigError, match="data= goes with model="):
        judged(store, tmp_path, model=None)
    with pytest.raises(ConfigError, match="num_resamples is 0"):
        judged(store, tmp_path, num_resamples=0)


def test_a_store_whose_model_or_images_are_gone(tmp_path):
    with pytest.raises(JaxsegError, match="models/gone") as error:
        judge_stores([store_of(labels=("right",))], tmp_path)
    assert "\n" not in str(error.value)
    other = Pictures()
    other.ids = ("other", *Pictures.ids[1:])
    found = judged(store_of(labels=("noise",)), tmp_path, ["energy_inside"], data=other)
    assert found.notes == ("pixels: p0: the data set does not have this image any more",)
    assert found.table[0]["num_images"] == COUNT - 1


def test_methods_that_explain_different_things_are_named(tmp_path):
    store = store_of(labels=("right", "noise"))
    store.attrs["config"]["explain"] = {"right": {"target": "truth"}}
    found = judged(store, tmp_path, ["energy_inside"])
    assert "(right: truth, image; noise: prediction, image)" in found.notes[0]


def test_the_rest_goes_on_without_a_model(tmp_path, monkeypatch):
    real = judge.open_explained

    def one_is_gone(name, *arguments, **options):
        if name == "lost":
            raise ConfigError("no model lost; name a folder")
        return real(name, *arguments, **options)

    monkeypatch.setattr(judge, "open_explained", one_is_gone)
    stores = [store_of(model="lost", labels=("right",)), store_of(labels=("right",))]
    found = judged(stores, tmp_path, ["energy_inside"])
    assert found.notes == ("lost is left out: no model lost; name a folder",)
    assert found.models == ["pixels"]
    with pytest.raises(ConfigError, match="no store can be judged; lost is left out"):
        judge_stores([stores[0], store_of(labels=("right",))], tmp_path)


def test_another_model_than_the_one_explained(tmp_path):
    store = store_of(labels=("right",))
    store.attrs = store.attrs | {"config": store.attrs["config"] | {"class_names": ["a", "b"]}}
    with pytest.raises(ConfigError, match=r"differs from the one that was explained \(class_names"):
        judged(store, tmp_path)


# What a metric needs beside the map


class Caused(Pictures):
    """The cause lies in the first two rows, whatever the class's pixels are."""

    def __getitem__(self, index):
        cause = np.zeros((SIDE, SIDE), bool)
        cause[:2] = True
        return dataclasses.replace(super().__getitem__(index), cause=cause)


def test_a_known_cause_is_the_known_region(tmp_path):
    found = judged(store_of(labels=("noise",)), tmp_path, ["energy_inside"], data=Caused())
    (row,) = rows_of(found.table, score="share_known")
    assert row["mean"] == pytest.approx(2 / SIDE)
    (row,) = rows_of(found.table, score="energy_inside")
    images = [Pictures()[i].image for i in range(COUNT)]
    noise = [maps(image)["noise"] for image in images]
    assert row["mean"] == pytest.approx(np.mean([one[:2].sum() / one.sum() for one in noise]))


def test_metrics_that_explain_again(tmp_path):
    """Off unless they are named; the method, its patches and other images are the sweep's."""
    names = [entry.label for entry in make_metrics()]
    assert "deletion" in names
    assert "rounding_stability" not in names
    store = tmp_path / "s.zarr"
    given = {"model": model_of_pixels(), "data": Pictures(), "progress": False}
    method = {"method": "expected_gradients", "num_samples": 2, "num_others": 2}
    jaxseg_xai.sweep(explain=method, classes="bright", out=store, **given)
    metric = {"metric": "rounding_stability", "num_again": 1}
    found = judged(store, tmp_path, [metric])
    (row,) = rows_of(found.table, score="rank_correlation")
    assert row["mean"] > 0.99
    assert row["num_images"] == COUNT
    assert "| method | rounding_stability ↑, 1 explanations |" in str(found)
    # A method that is not installed cannot explain again.
    found = judged(store_of(labels=("noise",)), tmp_path, [metric])
    (note,) = found.notes
    assert "give the method that made the maps" in note
