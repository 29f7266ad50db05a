"""What metrics need beside the map: the known cause, and the method to explain again."""

import dataclasses

import numpy as np
import pytest

import jaxseg_xai
from jaxseg_xai.judging.entries import make_metrics
from tests.facade.pixels import model_of_pixels
from tests.judging.made_up import COUNT, SIDE, Pictures, judged, maps, rows_of, store_of


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
