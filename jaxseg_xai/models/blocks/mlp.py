"""The feed-forward part of a transformer's block."""

import jax
from flax import nnx


class MLP(nnx.Module):
    """Two linear layers, an exact GELU between."""

    def __init__(self, dim: int, hidden: int, rngs: nnx.Rngs) -> None:
        self.fc1 = nnx.Linear(dim, hidden, rngs=rngs)
        self.fc2 = nnx.Linear(hidden, dim, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[*, dim] -> [*, dim]."""
        return self.fc2(jax.nn.gelu(self.fc1(x), approximate=False))
