import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg_xai.ops.dice import hard_dice, soft_dice


def test_hard_dice_by_hand():
    a = jnp.array([[True, True, False, False]])
    b = jnp.array([[True, False, True, False]])
    empty = jnp.zeros_like(a)
    assert hard_dice(a, b) == 0.5
    assert hard_dice(a, a) == 1
    assert hard_dice(a, empty) == 0
    assert hard_dice(empty, empty) == 0
    many = jax.vmap(hard_dice)(jnp.stack([a, b]), jnp.stack([b, b]))
    assert many.tolist() == [0.5, 1]


@pytest.mark.parametrize("shape", [(8, 8), (4, 5, 6)])
def test_soft_dice_of_hard_masks_is_hard_dice(shape):
    rng = np.random.default_rng(0)
    a, b = rng.random((2, *shape)) < 0.4
    assert soft_dice(a.astype(np.float32), b) == pytest.approx(float(hard_dice(a, b)))
    assert soft_dice(jnp.full((2, 2), 0.5), jnp.ones((2, 2))) == pytest.approx(2 / 3)
    assert soft_dice(jnp.zeros((2, 2)), jnp.zeros((2, 2))) == 0
