import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg_xai.core.types import IGNORED
from jaxseg_xai.training.step import segmentation_loss

LABELS = jnp.array([[[0, 1], [1, 0]], [[0, 0], [0, 1]]])


def test_a_sure_and_right_prediction_costs_nothing():
    logits = 50 * jax.nn.one_hot(LABELS, 3)
    assert float(segmentation_loss(logits[..., :2], LABELS)) == pytest.approx(0, abs=1e-5)
    # Of two classes one occurs nowhere: its Dice is 0.
    assert float(segmentation_loss(logits, LABELS)) == pytest.approx(0.5, abs=1e-5)


def test_an_even_prediction():
    """Cross-entropy log 2; soft Dice 2 sum(p y) / (sum p + sum y) with p = 1/2 on 8 pixels."""
    loss = segmentation_loss(jnp.zeros((2, 2, 2, 2)), LABELS)
    assert float(loss) == pytest.approx(math.log(2) + 1 - 2 * (0.5 * 3) / (0.5 * 8 + 3), rel=1e-5)


def test_pixels_of_no_known_class_cost_nothing():
    logits = jnp.linspace(-2, 2, 16).reshape(2, 2, 2, 2)
    half = LABELS.at[1].set(IGNORED)
    alone = segmentation_loss(logits[:1], LABELS[:1])
    np.testing.assert_allclose(segmentation_loss(logits, half), alone, rtol=1e-5)


def test_one_logit_is_two():
    z = jnp.linspace(-2, 2, 8).reshape(2, 2, 2, 1)
    pair = jnp.concatenate([jnp.zeros_like(z), z], -1)
    np.testing.assert_allclose(segmentation_loss(z, LABELS), segmentation_loss(pair, LABELS))


def test_dice_is_that_of_the_whole_batch():
    """An image without the class does not count as one that was missed."""
    logits = 50 * jax.nn.one_hot(LABELS, 2)
    without = LABELS.at[1].set(0)
    loss = segmentation_loss(logits.at[1].set(jnp.array([50.0, 0.0])), without)
    assert float(loss) == pytest.approx(0, abs=1e-5)


def test_wrong_is_worse_than_unsure():
    right = 5 * jax.nn.one_hot(LABELS, 2)
    losses = [segmentation_loss(scale * right, LABELS) for scale in (1.0, 0.0, -1.0)]
    assert losses[0] < losses[1] < losses[2]
