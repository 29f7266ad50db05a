"""PyTorch's sampling of images at points: `affine_grid` and `grid_sample`."""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg_xai.core.errors import ModelError


def affine_grid(
    theta: jax.Array, size: Sequence[int], align_corners: bool | None = None
) -> jax.Array:
    """`torch.nn.functional.affine_grid`: theta [B, R, R + 1] -> points [B, *S, R], x first."""
    axes = []
    for n in size[2:]:
        ends = 1.0 if align_corners else 1.0 - 1.0 / n
        axes.append(np.linspace(-ends, ends, n) if n > 1 else np.zeros(1))
    places = np.meshgrid(*axes, indexing="ij")
    points = jnp.asarray(np.stack([*places[::-1], np.ones(tuple(size[2:]))], -1), theta.dtype)
    return jnp.einsum("...j,bij->b...i", points, theta)


def grid_sample(
    input: jax.Array,
    grid: jax.Array,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> jax.Array:
    """`torch.nn.functional.grid_sample`: images [B, C, *S], points [B, *T, R] -> [B, C, *T].

    Raises:
      ModelError: the mode "bicubic".
    """
    if mode not in ("bilinear", "nearest"):
        raise ModelError(f"grid_sample has no form in JAX in the mode {mode!r}; use bilinear")
    space = input.shape[2:]
    # Points have x first, images have it last.
    position = [
        _pixels(grid[..., -1 - i], n, padding_mode, bool(align_corners))
        for i, n in enumerate(space)
    ]
    if mode == "nearest":
        return _read(input, [jnp.round(p) for p in position])
    found, low = 0.0, [jnp.floor(p) for p in position]
    for corner in itertools.product((0, 1), repeat=len(space)):
        at = [p + c for p, c in zip(low, corner, strict=True)]
        share = jnp.ones_like(at[0])
        for p, a in zip(position, at, strict=True):
            share = share * (1 - jnp.abs(p - a))
        found = found + _read(input, at) * share[:, None]
    return jnp.asarray(found, input.dtype)


def _pixels(x: jax.Array, size: int, padding: str, align_corners: bool) -> jax.Array:
    """Points of [-1, 1] in pixels."""
    x = (x + 1) / 2 * (size - 1) if align_corners else ((x + 1) * size - 1) / 2
    if padding == "reflection":
        low, span = (0.0, size - 1.0) if align_corners else (-0.5, float(size))
        turned = jnp.abs(x - low) % (2 * span) if span else jnp.zeros_like(x)
        x = low + jnp.minimum(turned, 2 * span - turned)
    return x if padding == "zeros" else jnp.clip(x, 0, size - 1)


def _read(images: jax.Array, at: Sequence[jax.Array]) -> jax.Array:
    """Pixels of [B, C, *S] at whole numbers [B, *T] of each axis; 0 outside."""
    space = images.shape[2:]
    inside = jnp.ones(at[0].shape, bool)
    index = jnp.zeros(at[0].shape, jnp.int32)
    for a, n in zip(at, space, strict=True):
        inside &= (a >= 0) & (a <= n - 1)
        index = index * n + jnp.clip(a, 0, n - 1).astype(jnp.int32)
    flat = images.reshape(*images.shape[:2], -1)
    found = jnp.take_along_axis(flat, index.reshape(index.shape[0], 1, -1), axis=2)
    found = found.reshape(*images.shape[:2], *index.shape[1:])
    return jnp.where(inside[:, None], found, 0)
