"""Shapley values of channels: by definition, in the whole region and in every pixel."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.types import Status
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers import explain
from jaxseg_xai.explainers.perturbation.contrast_shapley import ContrastShapley
from tests.explainers import models
from tests.support import batch_of, problem_of

MESH = device_mesh(jax.devices()[:2])
IMAGES = np.random.default_rng(0).uniform(0.2, 1, (2, 4, 6, 4)).astype(np.float32)
REGION = np.zeros((2, 4, 6), bool)
REGION[:, 1:3, 1:5] = True


def score_of(numpy, x):
    """Channels 0 and 1 count only together, 2 speaks against the class, 3 does nothing."""
    return 4 * x[..., 0] * x[..., 1] - numpy.tanh(x[..., 2]) + 0.5


def model(variables, images):
    return models.two_classes(score_of(jnp, images))


def run(images=IMAGES, region=REGION, **settings):
    problem = problem_of(model, channels=images.shape[-1])
    batch = batch_of(problem, images, region=region, reference=region)
    return explain(ContrastShapley(**settings), problem, batch, mesh=MESH)


def by_definition(value, blank):
    """Mean over all orders of what each channel adds, channels last, in float64."""
    images, blank = (np.asarray(x, np.float64) for x in (IMAGES, blank))
    orders = list(itertools.permutations(range(4)))
    found = np.zeros((*np.shape(value(images)), 4))
    for order in orders:
        seen = np.broadcast_to(blank, images.shape).copy()
        before = value(seen)
        for channel in order:
            seen[..., channel] = images[..., channel]
            after = value(seen)
            found[..., channel] += (after - before) / len(orders)
            before = after
    return found


@pytest.mark.parametrize("baseline", ["zero", "mean"])
def test_values_of_the_region_and_of_every_pixel(baseline):
    found = run(baseline=baseline, outcome="summed_logits")
    blank = IMAGES.mean((1, 2), keepdims=True) if baseline == "mean" else np.zeros_like(IMAGES)
    expected = by_definition(lambda x: np.sum(score_of(np, x) * REGION, axis=(1, 2)), blank)
    np.testing.assert_allclose(found.traces["shapley"], expected, rtol=1e-4, atol=1e-5)
    assert (np.asarray(found.traces["shapley"])[:, 3] == 0).all()
    whole, hidden = (np.asarray(found.scores[n]) for n in ("outcome", "hidden_outcome"))
    np.testing.assert_allclose(np.sum(found.traces["shapley"], axis=1), whole - hidden, rtol=1e-4)
    np.testing.assert_array_equal(found.scores["top_contrast"], expected.argmax(axis=1))
    np.testing.assert_allclose(found.scores["top_value"], expected.max(axis=1), rtol=1e-4)
    pixels = by_definition(lambda x: 1 / (1 + np.exp(-score_of(np, x))), blank)
    for channel in range(4):
        plane = found.maps[f"contrast_{channel}"]
        np.testing.assert_allclose(plane, pixels[..., channel], atol=1e-6)
    np.testing.assert_allclose(found.attribution, pixels.sum(axis=-1), atol=1e-6)


def test_too_many_channels_and_no_region():
    assert ContrastShapley().num_passes((4, 6, 4)) == 16
    with pytest.raises(ConfigError, match=r"9 channels would take 512 forward passes; give"):
        run(np.zeros((2, 4, 6, 9), np.float32))
    empty = run(region=np.zeros_like(REGION))
    assert (np.asarray(empty.status) == Status.EMPTY_REGION).all()
    assert not np.any(empty.attribution)
