"""Methods judged by metrics on the rows of stores: tables, what it cost, files."""

import csv
import dataclasses
import math

import numpy as np
import pyarrow.parquet
import pytest

from jaxseg_xai.core.errors import JaxsegError
from jaxseg_xai.judging.result import Published
from tests.judging.made_up import COUNT, Pictures, judged, rows_of, store_of


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return judged(store_of(), tmp_path_factory.mktemp("judged"))


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


def test_a_method_with_hardly_any_values_is_no_measure_of_the_others(found):
    """Nothing can be told from it, so that everything would be as good as the best."""
    cut = {"right": 1.0, "wrong": 0.1, "noise": 0.05}
    scores = [
        row | {"image_id": f"{row['image_id']} {n}", "value": cut[row["label"]] + 1e-4 * n}
        for n in range(8)
        for row in found.scores
        if row["metric"] == "deletion" and row["label"] in cut
        if row["label"] != "noise" or n == 0
    ]
    few = dataclasses.replace(found, scores=scores)
    assert few.best("pixels", "deletion") == ["wrong"]
    (row,) = [line for line in str(few).splitlines() if line.startswith("| noise | 0.05")]
    assert f"] ({COUNT}) |" in row


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
