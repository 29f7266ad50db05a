"""A convolution of a traced program, which has its textbook form, in the library's faster form."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from jaxseg_xai.core.types import Array
from jaxseg_xai.ops.layers import conv_general_dilated


def convolve(
    params: Mapping[str, Any], operands: Sequence[Array], padding: Sequence[tuple[int, int]]
) -> Array:
    """What `conv_general_dilated` with these parameters computes, with another padding.

    The library's faster form is used where there is one; it has a cheap gradient, gives the same
    values up to rounding, and has reverse mode only.

    Args:
      params: of the equation.
      operands: image and kernel.
      padding: per spatial axis.
    """
    if not _is_plain(params):
        return lax.conv_general_dilated_p.bind(*operands, **{**params, "padding": tuple(padding)})
    image, kernel = map(jnp.asarray, operands)
    return conv_general_dilated(
        image,
        kernel,
        (1, 1),
        padding,
        rhs_dilation=params["rhs_dilation"],
        precision=params["precision"],
    )


def _is_plain(params: Mapping[str, Any]) -> bool:
    """Whether the library has a faster form: two axes, stride one, not grouped."""
    numbers = params["dimension_numbers"]
    return (
        tuple(numbers) == ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))
        and set(params["window_strides"]) == set(params["lhs_dilation"]) == {1}
        and params["feature_group_count"] == params["batch_group_count"] == 1
        and params["preferred_element_type"] is None
    )
