import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxseg_xai.explainers.ate import statistics
from jaxseg_xai.explainers.ate.statistics import Estimate, Sample


@pytest.fixture
def effects():
    rng = np.random.default_rng(0)
    return rng.normal([[0.0], [0.3], [2.0]], [[1.0], [0.5], [0.1]], (3, 12)).astype(np.float32)


def test_mean_and_standard_error_of_what_was_sampled(effects):
    count = np.array([12, 5, 2])
    found = statistics.estimate(Sample(effects, jnp.asarray(count)))
    for i, made in enumerate(count):
        assert found.mean[i] == pytest.approx(effects[i, :made].mean(), abs=1e-6)
        wanted = stats.sem(effects[i, :made])
        assert found.standard_error[i] == pytest.approx(wanted, rel=1e-5)


def test_p_values_and_intervals_are_those_of_scipy(effects):
    count = jnp.full(3, 12)
    found = statistics.estimate(Sample(effects, count))
    wanted = stats.ttest_1samp(effects, 0.0, axis=1)
    np.testing.assert_allclose(statistics.p_values(found, count), wanted.pvalue, rtol=2e-3)
    interval = wanted.confidence_interval(0.9)
    width = statistics.half_width(found, count, 0.9, 12)
    np.testing.assert_allclose(found.mean - width, interval.low, rtol=1e-4, atol=1e-5)


def test_few_interventions_say_nothing():
    found = statistics.estimate(Sample(jnp.array([[5.0], [0.0]]), jnp.array([1, 0])))
    count = jnp.array([1, 0])
    assert statistics.p_values(found, count).tolist() == [1, 1]
    assert not np.isnan(found.standard_error).any()
    wide = statistics.half_width(Estimate(jnp.ones(1), jnp.ones(1)), jnp.array([1]), 0.95, 5)
    assert np.isinf(wide).all()


def test_interventions_that_agree_are_certain():
    found = statistics.estimate(Sample(jnp.array([[3.0] * 4, [0.0] * 4]), jnp.array([4, 4])))
    assert statistics.p_values(found, jnp.array([4, 4])).tolist() == [0, 1]
    assert statistics.half_width(found, jnp.array([4, 4]), 0.95, 4).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("mean", "width", "wanted"),
    [(0.0, 0.01, True), (0.0, 0.03, False), (0.5, 0.4, True), (-0.5, 0.49, False)],
)
def test_settled_inside_or_on_one_side(mean, width, wanted):
    found = Estimate(jnp.array([mean] * 2), jnp.ones(2))
    few_and_enough = jnp.array([9, 10])
    settled = statistics.settled(found, few_and_enough, jnp.full(2, width), 0.02)
    assert settled.tolist() == [False, wanted]


def test_the_correction_is_that_of_scipy():
    rng = np.random.default_rng(1)
    p = np.concatenate([rng.uniform(0, 1, 40), rng.uniform(0, 0.004, 10)]).astype(np.float32)
    tested = rng.random(50) < 0.8
    found = statistics.benjamini_hochberg(jnp.asarray(p), jnp.asarray(tested), 0.05)
    wanted = np.zeros(50, bool)
    wanted[tested] = stats.false_discovery_control(p[tested]) <= 0.05
    assert wanted.any()
    np.testing.assert_array_equal(found, wanted)


def test_nothing_is_significant_among_nothing():
    found = statistics.benjamini_hochberg(jnp.ones(3), jnp.zeros(3, bool), 0.05)
    assert not found.any()


def test_false_discoveries_stay_below_the_rate():
    rng = np.random.default_rng(2)
    wrong = 0
    for _ in range(50):
        null = rng.normal(0, 1, (60, 10)).astype(np.float32)
        count = jnp.full(60, 10)
        p = statistics.p_values(statistics.estimate(Sample(null, count)), count)
        wrong += bool(statistics.benjamini_hochberg(p, jnp.ones(60, bool), 0.05).any())
    assert wrong <= 8  # 2.5 expected; more than 8 of 50 has a probability below 0.2 %
