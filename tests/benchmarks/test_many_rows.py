"""What a sweep of very many rows costs, from measured steps."""

import pytest

from benchmarks import many_rows


def test_every_step_is_measured(tmp_path):
    for rows in (20, 60):
        seconds = many_rows.measure(rows, tmp_path)
        assert seconds.keys() == many_rows.STEPS.keys()
        assert min(seconds.values()) > 0


def test_the_limit_and_what_is_worse_than_linear():
    flat = dict.fromkeys(many_rows.STEPS, 0.001)
    # Making the store grows with the rows, a shard too, of which there are more and more.
    measured = {
        100: flat,
        1000: flat | {"create": 0.1, "shard": 0.5},
        10_000: flat | {"create": 1.0, "shard": 5.0},
    }
    found = {one.name: one for one in many_rows.costs(measured, at=100_000, workers=10)}
    assert (found["create"].power, found["create"].power_of_sum) == (1, 1)
    assert found["create"].each == pytest.approx(10)
    assert (found["shard"].power, found["shard"].power_of_sum) == (1, 2)
    assert found["journal"].power == 0
    assert found["journal"].power_of_sum == pytest.approx(1)
    shards = 100_000 / many_rows.MOST_ROWS
    assert found["shard"].times == shards
    text = many_rows.table(list(found.values()), at=100_000, workers=10)
    assert f"The limit is shard, {50 * shards / 3600:.3g} h one after another" in text
    assert "Worse than linear: shard." in text
    assert "100,000 rows by 10 workers: 3" in text  # 312.5 journals of a ms, and the store again
