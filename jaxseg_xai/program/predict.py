"""What a model predicts for many images, spread over the devices."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxseg_xai.core.segmenter import Segmenter
from jaxseg_xai.devices.mesh import shard_examples
from jaxseg_xai.program.memory import images_that_fit


@functools.partial(jax.jit, static_argnames=("segmenter", "mesh"))
def predict_batch(
    segmenter: Segmenter, variables: Any, images: jax.Array, mesh: Mesh
) -> tuple[jax.Array, jax.Array]:
    """Segmentations of images [B, *S, C], prepared for the model; B a multiple of the mesh's size.

    A device looks at as many images at a time as it has room for.

    Returns:
      (label maps int32 [B, *S], or planes bool [B, *S, K] of classes that may overlap; whether the
      logits are finite: bool [B]).
    """
    at_a_time = images_that_fit(mesh.devices.flat[0], segmenter, variables, images.shape[1:])

    def part(variables: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        def one(image: jax.Array) -> tuple[jax.Array, jax.Array]:
            logits = segmenter.logits(variables, image[None])[0]
            return segmenter.output.prediction(logits), jnp.all(jnp.isfinite(logits))

        return jax.lax.map(one, images, batch_size=at_a_time)

    return shard_examples(part, mesh)(variables, images)


def lower_prediction(variables: Any, images: Any, *, segmenter: Segmenter, mesh: Mesh) -> Any:
    """`predict_batch` lowered by JAX, to be compiled apart."""
    return predict_batch.lower(segmenter, variables, images, mesh)
