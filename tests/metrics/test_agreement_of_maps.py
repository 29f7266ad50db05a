import numpy as np
import pytest
from scipy import stats

from jaxseg_xai.core.errors import DataError
from jaxseg_xai.metrics.agreement import Shares, compare_maps, shares

A = np.array([[-3.0, -0.5, 0.0], [0.01, 0.4, 2.0]])
B = np.array([[-1.0, 0.5, 0.0], [0.0, 0.3, 0.015]])


def test_shares_and_signs_by_hand():
    found = compare_maps(A, B, threshold=0.02)
    assert found.shares_a == Shares(positive=2 / 6, negative=2 / 6, zero=2 / 6)
    assert found.shares_b == Shares(positive=2 / 6, negative=1 / 6, zero=3 / 6)
    assert found.same_sign == pytest.approx(4 / 6)
    assert found.same_sign_nonzero == pytest.approx(2 / 4)
    assert found.num_effects == 6
    assert shares(A) == found.shares_a


def test_correlations_are_those_of_scipy_ties_included():
    found = compare_maps(A, B)
    assert found.pearson == pytest.approx(stats.pearsonr(A.ravel(), B.ravel()).statistic)
    assert found.spearman == pytest.approx(stats.spearmanr(A.ravel(), B.ravel()).statistic)


def test_a_map_agrees_with_itself_and_with_what_orders_it_the_same_way():
    found = compare_maps(A, A**3)
    assert found.spearman == pytest.approx(1)
    assert found.pearson < 1
    mirrored = compare_maps(A, -A)
    assert (mirrored.pearson, mirrored.spearman) == (pytest.approx(-1), pytest.approx(-1))
    assert mirrored.same_sign_nonzero == 0


def test_only_the_chosen_blocks_count():
    where = np.array([[True, True, False], [False, False, False]])
    found = compare_maps(A, B, where=where)
    assert found.num_effects == 2
    assert found.same_sign == 0.5


def test_what_is_not_defined_is_nan():
    found = compare_maps(A, np.zeros_like(A))
    assert np.isnan(found.pearson)
    assert np.isnan(found.spearman)
    nothing = compare_maps(np.zeros(3), np.zeros(3))
    assert np.isnan(nothing.same_sign_nonzero)
    assert nothing.same_sign == 1


def test_exact_zeros_are_zero_at_any_threshold():
    assert compare_maps(A, A, threshold=0).shares_a.zero == pytest.approx(1 / 6)


@pytest.mark.parametrize(
    ("a", "b", "options"),
    [
        (A, B[:1], {}),
        (A, B, {"where": np.ones(6, bool)}),
        (A, np.where(B == 0, np.nan, B), {}),
        (A[0, :1], B[0, :1], {}),
        (A, B, {"threshold": -1.0}),
    ],
)
def test_bad_maps_are_refused(a, b, options):
    with pytest.raises(DataError):
        compare_maps(a, b, **options)
