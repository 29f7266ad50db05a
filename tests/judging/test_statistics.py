"""Intervals, paired tests and their correction, against numbers worked out by hand."""

import numpy as np
import pytest

from jaxseg_xai.judging.statistics import difference, estimate, holm

OPTIONS = {"num_resamples": 4000, "seed": 0}


def test_the_interval_of_a_mean():
    values = np.random.default_rng(1).normal(5, 2, 400)
    found = estimate(values, **OPTIONS)
    assert found.mean == values.mean()
    # The normal interval of so many images is nearly the bootstrap's.
    half = 1.96 * values.std() / np.sqrt(len(values))
    ends = np.array([found.low, found.high]) - found.mean
    np.testing.assert_allclose(ends, [-half, half], atol=0.03)
    assert estimate(values, **OPTIONS) == found
    assert estimate(values, num_resamples=4000, seed=1) != found


@pytest.mark.parametrize(
    ("values", "count", "interval"),
    [([], 0, (np.nan, np.nan)), ([2.0], 1, (np.nan, np.nan)), ([3.0, 3.0, np.nan], 2, (3.0, 3.0))],
)
def test_few_images(values, count, interval):
    found = estimate(np.array(values), **OPTIONS)
    assert found.num_images == count
    np.testing.assert_equal((found.low, found.high), interval)


def test_the_paired_test():
    # All six differences of one sign: 2 / 2^6.
    a = np.array([1.0, 2, 3, 4, 5, 6])
    found = difference(a, a - np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), **OPTIONS)
    assert found.p_value == pytest.approx(2 / 64)
    assert found.mean.mean == pytest.approx(0.35)
    assert 0.1 <= found.mean.low < 0.35 < found.mean.high <= 0.6
    # Images that one of them lacks are left out.
    a[0] = np.nan
    assert difference(a, np.zeros(6), **OPTIONS).p_value == pytest.approx(2 / 32)
    assert difference(a, a, **OPTIONS).p_value == 1
    assert np.isnan(difference(a[:2], a[:2], **OPTIONS).p_value)


def test_holm():
    # 0.01 * 4, 0.02 * 3, 0.03 * 2 (no less than the one before), 0.9 * 1.
    found = holm([0.9, 0.03, np.nan, 0.01, 0.02])
    np.testing.assert_allclose(found, [0.9, 0.06, np.nan, 0.04, 0.06])
    assert holm([0.6, 0.7]).tolist() == [1, 1]
    assert holm([]).size == 0
