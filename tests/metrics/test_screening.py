import numpy as np
import pytest

from jaxseg_xai.core.errors import DataError
from jaxseg_xai.metrics.screening import compare_with_random_screen, recall_of_screen

EXACT = np.array([0.0, -5.0, 0.01, 1.0, 0.0, -0.02, 0.0, 0.0, 0.3, 0.0])
GRADIENT = np.array([0.1, -9.0, 0.0, 2.0, 0.0, 0.05, 0.0, 0.0, -0.2, 0.0])


def test_recall_by_hand():
    found = recall_of_screen(GRADIENT, EXACT, [0, 0.1, 0.29, 0.3, 0.4, 0.5, 1])
    # In this order: blocks 1, 3, 8 (significant), 0 (not), 5 (significant, at the threshold).
    np.testing.assert_allclose(found, [0, 1 / 4, 2 / 4, 3 / 4, 3 / 4, 1, 1])


def test_a_share_counts_whole_blocks_whatever_its_rounding():
    exact = np.arange(1, 101.0)
    assert recall_of_screen(exact, exact, [0.29]) == pytest.approx(0.29)


def test_nothing_significant_is_nan_and_equal_effects_go_in_order():
    assert np.isnan(recall_of_screen(GRADIENT, EXACT * 1e-3, [0.5])).all()
    found = recall_of_screen(np.zeros(4), np.array([1.0, 0, 0, 1]), [0.25, 0.75, 1])
    np.testing.assert_allclose(found, [0.5, 0.5, 1])


def test_both_screens_at_equal_cost():
    effects = np.zeros((10, 3))
    effects[1], effects[3, 1], effects[4, 2] = -5, 0.5, 0.02  # block 4 passes by chance
    found = compare_with_random_screen(
        GRADIENT, effects, EXACT, gradient_cost=12, num_patches=5, threshold=0.02
    )
    assert found.num_significant == 4
    assert found.cost == 10 * 3 + 3 * 5
    assert found.random_recall == 2 / 4
    assert found.random_share == 0.3
    assert found.gradient_share == 0.6  # (45 - 12) // 5 blocks
    assert found.gradient_recall == 1


def test_a_gradient_that_costs_everything_finds_nothing():
    found = compare_with_random_screen(
        GRADIENT, np.zeros((10, 3)), EXACT, gradient_cost=99, num_patches=5
    )
    assert (found.gradient_share, found.gradient_recall, found.random_recall) == (0, 0, 0)
    nothing = compare_with_random_screen(GRADIENT, np.zeros((10, 3)), 0 * EXACT, gradient_cost=1)
    assert np.isnan([nothing.gradient_recall, nothing.random_recall]).all()


@pytest.mark.parametrize(
    ("gradient", "exact", "budgets", "options"),
    [
        (GRADIENT[:3], EXACT, [0.5], {}),
        (GRADIENT[:0], EXACT[:0], [0.5], {}),
        (GRADIENT, np.full(10, np.nan), [0.5], {}),
        (GRADIENT, EXACT, [1.5], {}),
        (GRADIENT, EXACT, [float("nan")], {}),
        (GRADIENT, EXACT, [0.5], {"threshold": 0.0}),
    ],
)
def test_bad_inputs_are_refused(gradient, exact, budgets, options):
    with pytest.raises(DataError):
        recall_of_screen(gradient, exact, budgets, **options)


@pytest.mark.parametrize(
    ("effects", "options"),
    [
        (np.zeros((9, 3)), {}),
        (np.full((10, 3), np.inf), {}),
        (np.zeros((10, 3)), {"num_patches": 0}),
        (np.zeros((10, 3)), {"gradient_cost": -1.0}),
    ],
)
def test_bad_screens_are_refused(effects, options):
    with pytest.raises(DataError):
        compare_with_random_screen(GRADIENT, effects, EXACT, **({"gradient_cost": 1.0} | options))
