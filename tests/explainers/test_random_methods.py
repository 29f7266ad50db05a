"""RISE, SmoothGrad and VarGrad on models whose maps are known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers import explain
from jaxseg_xai.explainers.gradient.smooth_grad import SmoothGrad
from jaxseg_xai.explainers.gradient.vargrad import VarGrad
from jaxseg_xai.explainers.perturbation.rise import Rise
from tests.explainers import models
from tests.support import batch_of, problem_of

SIDE = 16
IMAGES = np.random.default_rng(0).random((2, SIDE, SIDE, 1)).astype(np.float32)


def run(method, model, images=IMAGES, seed=0):
    problem = problem_of(model, seed=seed)
    return explain(method, problem, batch_of(problem, images), mesh=MESH)


MESH = device_mesh(jax.devices()[:2])


def cued(variables, images):
    """Class 1 on the left half, and only if the pixel (5, 13) is bright."""
    cue = images[:, 5, 13, 0] > 0.25
    left = jnp.arange(SIDE) < SIDE // 2
    return models.two_classes(jnp.where(cue[:, None, None] & left, 1.0, -1.0) * jnp.ones((SIDE, 1)))


def test_smooth_grad_of_a_linear_model_is_its_gradient():
    found = run(SmoothGrad(num_samples=4), models.bright_pixels)
    np.testing.assert_allclose(found.attribution, 20 * (IMAGES[..., 0] > 0.5), rtol=1e-5)
    # The noise has mean 0: the outcome moves by its sum over the explained pixels alone.
    area = np.asarray(found.scores["area_target"])
    moved = np.abs(np.asarray(found.scores["mean_outcome"] - found.scores["outcome"]))
    assert (moved > 0).all()
    assert (moved < 5 * 20 * 0.15 * np.sqrt(area / 4)).all()


def test_smooth_grad_averages_a_curved_outcome():
    """Of x^3 the gradient is 3 x^2, and 3 (x^2 + s^2) with noise of deviation s."""

    def cubic(variables, images):
        return models.two_classes(images[..., 0] ** 3 + 0.001)

    image = np.full((2, SIDE, SIDE, 1), 0.5, np.float32)
    image[:, 0, 0], image[:, 0, 1] = 0, 1
    plain = run(SmoothGrad(num_samples=1, noise=0.0), cubic, image).attribution
    np.testing.assert_allclose(plain[:, 1:], 0.75, rtol=1e-5)
    smooth = run(SmoothGrad(num_samples=200, noise=0.2), cubic, image).attribution
    np.testing.assert_allclose(smooth[:, 1:].mean(), 0.75 + 3 * 0.2**2, rtol=0.01)
    # The variance of 3 (x + e)^2 is 9 (4 x^2 s^2 + 2 s^4).
    variance = run(VarGrad(num_samples=200, noise=0.2), cubic, image).attribution
    expected = 9 * (4 * 0.5**2 * 0.2**2 + 2 * 0.2**4)
    np.testing.assert_allclose(variance[:, 1:].mean(), expected, rtol=0.05)


@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
def test_rise_finds_what_the_segmentation_hangs_on(interpolation):
    images = np.full((2, SIDE, SIDE, 1), 0.5, np.float32)
    method = Rise(num_masks=1200, grid=4, interpolation=interpolation)
    found = run(method, cued, images)
    for attribution in np.asarray(found.attribution):
        y, x = np.unravel_index(attribution.argmax(), attribution.shape)
        assert abs(y - 5) <= 2
        assert abs(x - 13) <= 2
        # The segment itself does not matter.
        assert attribution[5, 13] > 1.3 * attribution[:, :8].max()
    if interpolation == "nearest":
        # Shown or not: the Dice is 100 where the cue is shown, and nothing else counts.
        np.testing.assert_allclose(found.attribution[:, 5, 13], 100, rtol=1e-5)
        np.testing.assert_allclose(found.scores["mean_outcome"], 50, atol=6)


def test_rise_does_not_depend_on_how_many_masks_are_looked_at_together():
    method = Rise(num_masks=50, grid=4, batch_size=50)
    expected = run(method, cued, IMAGES)
    found = run(dataclasses.replace(method, batch_size=7), cued, IMAGES)
    np.testing.assert_allclose(found.attribution, expected.attribution, rtol=1e-5, atol=1e-4)
    published = run(dataclasses.replace(method, divisor="expected"), cued, IMAGES)
    # On average both divide by the same; where no mask shows a pixel the published form has 0.
    assert 0.5 < np.sum(published.attribution) / np.sum(expected.attribution) < 2
