"""What cannot be spared: by halving the same as one part after the other, in fewer tries."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg_xai.explainers.perturbation.elimination import eliminate, most_tries

NUM, LISTS = 13, 40
RNG = np.random.default_rng(0)
ORDERS = np.stack([RNG.permutation(NUM) for _ in range(LISTS)])
#: Of each list four groups; it holds as long as one of each is whole.
GROUPS = RNG.random((LISTS, 2, 2, NUM)) < RNG.uniform(0, 0.4, (LISTS, 1, 1, 1))
COUNTS = RNG.integers(0, NUM + 1, LISTS)


def score(spared, groups=GROUPS):
    """How many of two pairs have a group of which nothing is spared: [L]."""
    whole = ~jnp.any(groups & spared[:, None, None], axis=-1)
    return jnp.sum(jnp.any(whole, axis=-1), axis=-1).astype(jnp.float32)


def halved(values_of=lambda spared, asked: score(spared)):
    start = score(np.zeros((LISTS, NUM), bool))
    run = jax.jit(lambda: eliminate(values_of, lambda v: v == 2, ORDERS, COUNTS, start))
    return jax.device_get(run())


def test_it_spares_the_same_as_one_after_the_other():
    spared = np.zeros((LISTS, NUM), bool)
    for place in range(NUM):
        tried = spared.copy()
        tried[np.arange(LISTS), ORDERS[:, place]] |= place < COUNTS
        spared = np.where((np.asarray(score(tried)) == 2)[:, None], tried, spared)
    found = halved()
    np.testing.assert_array_equal(found.spared, spared)
    assert found.sound
    assert (found.values == 2)[spared.any(axis=1)].all()
    # Some are left and some are spared of most lists, or nothing was compared.
    assert (spared.any(axis=1) & (spared.sum(axis=1) < COUNTS)).sum() > LISTS / 2


def test_the_tries_are_few_where_little_matters_and_never_more_than_said():
    number = 64

    def tries(matter):
        calls = []

        def lost(spared, asked):
            calls.append(asked)
            return jnp.any(spared & matter, axis=1).astype(jnp.float32)

        order, count = jnp.arange(number)[None], jnp.array([number])
        with jax.disable_jit():
            made = eliminate(lost, lambda values: values == 0, order, count, jnp.zeros(1))
        np.testing.assert_array_equal(made.spared[0], ~matter)
        return len(calls)

    last = np.arange(number) >= number - 2
    assert 2 < tries(last) <= 10
    assert number < tries(np.ones(number, bool)) <= most_tries(number)


def test_a_value_that_is_not_finite_is_told():
    assert not halved(lambda spared, asked: jnp.where(asked, jnp.nan, 0.0)).sound
    # Of lists that are not asked for it means nothing.
    assert halved(lambda spared, asked: jnp.where(asked, score(spared), jnp.nan)).sound
