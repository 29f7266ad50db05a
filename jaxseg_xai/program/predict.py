"""What a model predicts for many images, spread over the devices."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxseg_xai.devices.mesh import shard_examples
from jaxseg_xai.program.memory import images_that_fit


@functools.partial(jax.jit, static_argnames=("predict", "mesh"))
def predict_labels(
    predict: Any, variables: Any, images: jax.Array, mesh: Mesh
) -> tuple[jax.Array, jax.Array]:
    """Label maps int32 [B, H, W] of images [B, H, W, C]; B a multiple of the mesh's size.

    A device looks at as many images at a time as it has room for.

    Returns:
      (labels, whether the logits are finite: bool [B]).
    """
    at_a_time = images_that_fit(mesh.devices.flat[0], predict, variables, images.shape[1:])

    def part(variables: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        def labels(image: jax.Array) -> tuple[jax.Array, jax.Array]:
            logits = predict(variables, image[None])[0]
            return jnp.argmax(logits, axis=-1).astype(jnp.int32), jnp.all(jnp.isfinite(logits))

        return jax.lax.map(labels, images, batch_size=at_a_time)

    return shard_examples(part, mesh)(variables, images)
