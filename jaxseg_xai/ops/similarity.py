"""Structural similarity of two maps."""

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg_xai.core.types import Array

#: Side of the window; the constants of the paper for values in [0, 1].
_SIDE, _C1, _C2 = 7, 0.01**2, 0.03**2


def ssim(a: jax.Array, b: jax.Array, own: Array | bool = True) -> jax.Array:
    """Mean structural similarity of two maps [*S] with values in [0, 1], float32 [].

    Windows of 7 pixels a side (fewer along a shorter axis), all weighing the same and all inside.

    Args:
      a: float32 [*S].
      b: float32 [*S].
      own: bool [*S], windows with other pixels do not count.

    Returns:
      In [-1, 1]; 1 for equal maps. NaN where no window counts.

    References:
      Wang et al., Image quality assessment, IEEE TIP 13 (2004); windows as scikit-image's default.
    """
    window = tuple(min(_SIDE, size) for size in a.shape)
    number = 1
    for side in window:
        number *= side

    def mean(values: jax.Array) -> jax.Array:
        total = lax.reduce_window(values, 0.0, lax.add, window, (1,) * a.ndim, "VALID")
        return total / number

    # Of a sample, as scikit-image.
    unbiased = number / max(number - 1, 1)
    mean_a, mean_b = mean(a), mean(b)
    spread_a, spread_b, both = (
        unbiased * (mean(x * y) - p * q)
        for x, y, p, q in (
            (a, a, mean_a, mean_a),
            (b, b, mean_b, mean_b),
            (a, b, mean_a, mean_b),
        )
    )
    above = (2 * mean_a * mean_b + _C1) * (2 * both + _C2)
    below = (mean_a**2 + mean_b**2 + _C1) * (spread_a + spread_b + _C2)
    inside = mean(jnp.broadcast_to(own, a.shape).astype(jnp.float32)) > 1 - 0.5 / number
    return jnp.mean(above / below, where=inside)
