"""Four tokens as one, and one as several: how nets of tokens change their resolution."""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseg_xai.models.norms import layer_norm


class PatchMerge(nnx.Module):
    """Four neighbours become one token of twice the channels."""

    def __init__(self, dim: int, rngs: nnx.Rngs) -> None:
        self.norm = layer_norm(4 * dim, rngs)
        self.reduction = nnx.Linear(4 * dim, 2 * dim, use_bias=False, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, dim] -> [B, H / 2, W / 2, 2 dim]."""
        quarters = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(jnp.concatenate(quarters, axis=-1)))


class PatchExpand(nnx.Module):
    """One token becomes factor x factor, each of fewer channels."""

    def __init__(self, dim: int, n_out: int, factor: int, rngs: nnx.Rngs) -> None:
        self.factor = factor
        self.expand = nnx.Linear(dim, n_out * factor**2, use_bias=False, rngs=rngs)
        self.norm = layer_norm(n_out, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, dim] -> [B, factor H, factor W, n_out]."""
        b, h, w, _ = x.shape
        x = self.expand(x).reshape(b, h, w, self.factor, self.factor, -1).swapaxes(2, 3)
        return self.norm(x.reshape(b, h * self.factor, w * self.factor, -1))
