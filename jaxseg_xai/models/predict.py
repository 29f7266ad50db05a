"""From a Flax model to a pure `predict(variables, images) -> logits`."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseg_xai.core.errors import DataError

Pad = Literal["refuse", "edge", "reflect", "constant"]
#: What a model computes in. float32 is that of IEEE on every device: by itself JAX would let GPUs
#: and TPUs round the factors of products to 10 or 7 bits. tensorfloat32 is what GPUs would do.
Dtype = Literal["float32", "tensorfloat32", "bfloat16"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlaxPredict:
    """Pure, hashable-by-value adapter of a Flax model; obeys `jaxseg_xai.core.types.Predict`.

    One-logit models become two-class ones with logits (0, z).

    Attributes:
      apply: hashable function (variables, images) -> logits [B, H, W, K], K >= 1.
      stride: the model takes heights and widths that are multiples of this.
      pad: what to do with other sizes: "refuse" (DataError), or pad at the bottom and right as
        `jnp.pad` does in that mode and crop the logits back.
      dtype: what the model computes in; logits are float32 whatever it is.
    """

    apply: Any
    stride: int = 1
    pad: Pad = "refuse"
    dtype: Dtype = "float32"

    def __call__(self, variables: Any, images: jax.Array) -> jax.Array:
        """Images [B, H, W, C] -> float32 logits [B, H, W, K], K >= 2."""
        height, width = images.shape[1:3]
        extra = (-height % self.stride, -width % self.stride)
        if any(extra):
            if self.pad == "refuse":
                raise DataError(
                    f"image size {height}x{width} is not a multiple of the model's stride "
                    f"{self.stride}: set pad to edge, reflect or constant, or resize the images"
                )
            images = jnp.pad(images, ((0, 0), (0, extra[0]), (0, extra[1]), (0, 0)), mode=self.pad)
        if self.dtype == "bfloat16":
            variables, images = jax.tree.map(self._cast, (variables, images))
        with jax.default_matmul_precision(self.dtype):
            logits = self.apply(variables, images).astype(jnp.float32)[:, :height, :width]
        if logits.shape[-1] == 1:
            logits = jnp.concatenate([jnp.zeros_like(logits), logits], axis=-1)
        return logits

    def _cast(self, x: jax.Array) -> jax.Array:
        return x.astype(jnp.bfloat16) if jnp.issubdtype(x.dtype, jnp.floating) else x


@dataclasses.dataclass(frozen=True)
class _ApplyNNX:
    """Hashable by the graph's value: two copies of one architecture share compiled programs."""

    graphdef: Any

    def __call__(self, variables: Any, images: jax.Array) -> jax.Array:
        def run(variables: Any, images: jax.Array) -> jax.Array:
            return nnx.merge(self.graphdef, variables)(images)

        # On a trace level of its own, where models may use `nnx.remat` and `nnx.jit`.
        return jax.jit(run)(variables, images)


@dataclasses.dataclass(frozen=True)
class _ApplyLinen:
    module: Any

    def __call__(self, variables: Any, images: jax.Array) -> jax.Array:
        return self.module.apply(variables, images)


def from_nnx(model: nnx.Module, **options: Any) -> tuple[FlaxPredict, Any]:
    """Adapt an NNX model, in evaluation mode.

    Args:
      model: maps images [B, H, W, C] to logits [B, H, W, K].
      **options: `stride`, `pad`, `dtype` of `FlaxPredict`.

    Returns:
      (predict, variables).
    """
    frozen = nnx.view(model, deterministic=True, use_running_average=True, raise_if_not_found=False)
    graphdef, variables = nnx.split(frozen)
    return FlaxPredict(apply=_ApplyNNX(graphdef), **options), variables


def from_linen(module: Any, **options: Any) -> FlaxPredict:
    """Adapt a Linen module whose `__call__(images)` gives logits in evaluation mode."""
    return FlaxPredict(apply=_ApplyLinen(module), **options)
