"""What every outcome keeps, in two ranks and for all that a model's output may mean."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg_xai.core.output_spec import OutputSpec
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.outcomes import OUTCOMES, get_outcome

SIZES = {2: (5, 6), 3: (3, 5, 6)}
ACTIVATIONS = ("softmax", "sigmoid", "threshold")
CASES = [(name, rank, how) for name in OUTCOMES.names() for rank in SIZES for how in ACTIVATIONS]


@functools.cache
def logits_of(rank, activation):
    """[*S, 3]; none where a segmentation, or a clipped output, has its edge."""
    values = np.random.default_rng(rank).uniform(0.1, 0.9, (*SIZES[rank], 3))
    if activation == "threshold":
        return jnp.where(abs(values - 0.5) < 0.02, 0.6, values).astype(jnp.float32)
    signs = np.random.default_rng(rank + 1).choice([-2, 2], values.shape)
    return jnp.asarray(signs * values, jnp.float32)


def target_of(rank, class_index=1):
    """Half of the image, and a reference in and beside it."""
    size = SIZES[rank]
    region = np.arange(size[-1]) < size[-1] // 2
    return SegmentTarget(
        class_index=jnp.int32(class_index),
        region=jnp.broadcast_to(region, size),
        reference=jnp.asarray(np.random.default_rng(9).random(size) < 0.5),
    )


@pytest.fixture(params=CASES, ids=lambda case: "-".join(map(str, case)))
def case(request):
    """(outcome, value of logits for the target, logits, target)."""
    name, rank, activation = request.param
    outcome, target = get_outcome(name), target_of(rank)
    output = OutputSpec(class_names=("a", "b", "c"), activation=activation)
    value = functools.partial(outcome.value, output, target=target)
    return outcome, value, logits_of(rank, activation), target


def test_the_gradient_is_that_of_finite_differences_or_there_is_none(case):
    outcome, value, logits, _ = case
    gradient = jax.grad(value)(logits)
    assert bool(jnp.any(gradient != 0)) == outcome.differentiable
    direction = jax.random.normal(jax.random.key(0), logits.shape) / 10
    step = 1e-2  # values are some tens, in float32
    change = (value(logits + step * direction) - value(logits - step * direction)) / (2 * step)
    np.testing.assert_allclose(change, jnp.sum(gradient * direction), rtol=2e-2, atol=1e-2)


def test_what_stands_in_for_it_has_a_gradient(case):
    outcome, *_ = case
    assert get_outcome(outcome.soft).differentiable
    assert get_outcome(outcome.soft).unit == outcome.unit
    assert outcome.words
    assert (get_outcome(outcome.soft) == outcome) == outcome.differentiable


def test_only_logits_in_the_region_count_and_must_be_finite(case):
    _, value, logits, target = case
    broken = jnp.where(target.region[..., None], logits, jnp.nan)
    assert value(broken) == value(logits)
    assert value(jnp.where(target.region[..., None], logits, 7.0)) == value(logits)
    gradient = jax.grad(value)(broken)
    assert np.isfinite(gradient).all()
    assert not gradient[~target.region].any()
    inside = (0,) * target.region.ndim
    for poison in (jnp.nan, jnp.inf):
        assert np.isnan(value(logits.at[(*inside, 2)].set(poison)))


def test_whether_what_is_beside_the_reference_counts_is_declared(case):
    outcome, value, logits, target = case
    beside = target.region & ~target.reference
    other = jnp.where(beside[..., None], -logits, logits)
    assert bool(value(other) != value(logits)) == outcome.counts_beside


def test_float32_whether_alone_or_in_a_batch(case):
    _, value, logits, _ = case
    found = jax.vmap(value)(jnp.stack([logits, logits / 2]))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found[0], value(logits), rtol=1e-5)
    assert found[0].shape == ()


@pytest.mark.parametrize("rank", SIZES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_hard_and_soft_are_those_of_the_segment_and_the_probability(rank, activation):
    output = OutputSpec(class_names=("a", "b", "c"), activation=activation)
    logits = np.asarray(logits_of(rank, activation))
    for class_index in range(3):
        target = target_of(rank, class_index)
        region, truth = np.asarray(target.region), np.asarray(target.segment)
        match activation:
            case "softmax":
                segment = logits.argmax(-1) == class_index
                p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
            case "sigmoid":
                segment, p = logits[..., class_index] > 0, 1 / (1 + np.exp(-logits))
            case _:
                segment, p = logits[..., class_index] > 0.5, logits.clip(0, 1)
        segment, p = segment & region, p[..., class_index] * region
        expected = {
            "dice": 200 * (segment & truth).sum() / (segment.sum() + truth.sum()),
            "soft_dice": 200 * (p * truth).sum() / (p.sum() + truth.sum()),
            "mean_probability": 100 * p[truth].mean(),
            "summed_logits": logits[..., class_index][truth].sum(),
            "true_positives": 100 * segment[truth].mean(),
            "false_positives": 100 * segment[np.asarray(target.region) & ~truth].mean(),
        }
        for name, value in expected.items():
            found = get_outcome(name).value(output, jnp.asarray(logits), target)
            assert found == pytest.approx(value, rel=1e-4), name
