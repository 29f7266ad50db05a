"""A convolution of a traced program, which has its textbook form, in the library's faster form."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from jaxseg_xai.core.types import Array
from jaxseg_xai.ops.layers import conv_general_dilated

#: [B, *S, C] with [*k, C, O], as `lax` writes it, of images and of volumes.
_NUMBERS = (
    ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)),
    ((0, 4, 1, 2, 3), (4, 3, 0, 1, 2), (0, 4, 1, 2, 3)),
)


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
    if not _is_ours(params):
        return lax.conv_general_dilated_p.bind(*operands, **{**params, "padding": tuple(padding)})
    image, kernel = map(jnp.asarray, operands)
    return conv_general_dilated(
        image,
        kernel,
        params["window_strides"],
        padding,
        params["lhs_dilation"],
        params["rhs_dilation"],
        dimension_numbers=params["dimension_numbers"],
        feature_group_count=params["feature_group_count"],
        precision=params["precision"],
        preferred_element_type=params["preferred_element_type"],
    )


def _is_ours(params: Mapping[str, Any]) -> bool:
    """Whether the library's form may take it: axes in the order that it knows."""
    numbers = tuple(params["dimension_numbers"])
    return numbers in _NUMBERS and params["batch_group_count"] == 1
