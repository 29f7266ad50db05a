"""Convolution, batch normalisation, activation: what most networks are made of."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
from flax import nnx

from jaxseg_xai.models.norms import norm_layer
from jaxseg_xai.ops import layers


def conv(
    n_in: int,
    n_out: int,
    size: int,
    rngs: nnx.Rngs,
    *,
    stride: int = 1,
    dilation: int = 1,
    **options: Any,
) -> nnx.Conv:
    """A convolution of images, `size` x `size`, padded so that stride 1 keeps their size.

    Args:
      n_in: channels of the input.
      n_out: channels of the output.
      size: of the kernel.
      rngs: of the initial weights.
      stride: of both axes.
      dilation: of both axes.
      **options: further ones of `nnx.Conv`.
    """
    usual = {
        "padding": (size - 1) // 2 * dilation,
        "conv_general_dilated": layers.conv_general_dilated,
    }
    return nnx.Conv(
        n_in,
        n_out,
        (size, size),
        strides=stride,
        kernel_dilation=dilation,
        rngs=rngs,
        **(usual | options),
    )


class ConvTranspose(nnx.ConvTranspose):
    """`nnx.ConvTranspose` of the library's convolutions, where `padding` is "VALID" or pairs."""

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """[B, *S, n_in] -> [B, *S', n_out]."""
        named = isinstance(self.padding, int | str) and self.padding != "VALID"
        dilated = self.kernel_dilation not in (None, 1, (1,) * len(self.kernel_size))
        one = inputs.ndim == len(self.kernel_size) + 1
        if named or dilated or one or self.mask is not None:
            return super().__call__(inputs)
        rank, strides, padding = inputs.ndim - 2, self.strides, cast(Any, self.padding)
        if not isinstance(strides, Sequence):
            strides = (strides or 1,) * rank
        if padding == "VALID":
            sides = zip(self.kernel_size, strides, strict=True)
            padding = [(k - 1, max(k, stride) - 1) for k, stride in sides]
        bias = None if self.bias is None else self.bias[...]
        given = inputs, self.kernel[...], bias
        inputs, kernel, bias = self.promote_dtype(given, dtype=self.dtype)
        space = "DHW"[3 - rank :]
        y = layers.conv_general_dilated(
            inputs,
            kernel,
            (1,) * rank,
            padding,
            lhs_dilation=strides,
            dimension_numbers=(f"N{space}C", f"{space}IO", f"N{space}C"),
            precision=self.precision,
        )
        return y if bias is None else y + bias


def identity(x: jax.Array) -> jax.Array:
    """What it is given."""
    return x


class ConvNorm(nnx.Module):
    """Convolution without a bias, batch normalisation, activation."""

    def __init__(
        self,
        n_in: int,
        n_out: int,
        size: int,
        rngs: nnx.Rngs,
        *,
        epsilon: float = 1e-5,
        activation: Callable[[jax.Array], jax.Array] = nnx.relu,
        **options: Any,
    ) -> None:
        self.conv = conv(n_in, n_out, size, rngs, **({"use_bias": False} | options))
        self.norm = norm_layer("batch", n_out, rngs, epsilon=epsilon)
        self.activation = activation

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, n_in] -> [B, H', W', n_out]."""
        return self.activation(self.norm(self.conv(x)))


def shortcut(
    n_in: int, n_out: int, rngs: nnx.Rngs, *, stride: int = 1
) -> Callable[[jax.Array], jax.Array]:
    """Past a residual block: the input as it is, or a 1x1 convolution where its shape changes."""
    if stride == 1 and n_in == n_out:
        return identity
    return ConvNorm(n_in, n_out, 1, rngs, stride=stride, activation=identity)


def conv_norm_names(theirs: str, ours: str) -> dict[str, str]:
    """Modules of a `ConvNorm` that is a `torch.nn.Sequential` in PyTorch -> ours."""
    return {f"{theirs}.0": f"{ours}/conv", f"{theirs}.1": f"{ours}/norm"}
