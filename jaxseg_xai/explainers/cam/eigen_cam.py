"""Eigen-CAM: what a layer holds most of, whatever the class."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg_xai.core.fields import setting
from jaxseg_xai.explainers.base import Example, Meta, Parts, Problem
from jaxseg_xai.explainers.cam.base import ActivationMap, channels_last, meta_of_map
from jaxseg_xai.outcomes import get_outcome
from jaxseg_xai.program.sites import run_shifted


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class EigenCam(ActivationMap):
    """Eigen-CAM: the first principal component of a layer's activations; knows no class.

    With A [P, K] the activations of a layer's P pixels and v the first right singular vector of A,
    the map is max(0, A v). v has the sign for which the sum of (A v)^3 is not negative.

    The map is the same for every class, region and weight of what comes after the layer: a control
    for methods that claim to explain a class.

    Attributes:
      layer: see `ActivationMap`.
      outcome: only reported.
      centred: subtract the mean over the pixels from A first, as pytorch-grad-cam does.

    References:
      Muhammad and Yeasin, Eigen-CAM, arXiv 2008.00299.
    """

    name: ClassVar[str] = "eigen_cam"
    meta: ClassVar[Meta] = meta_of_map(
        "Bright: what the layer holds most of; the same for every class.", gradient=False
    )
    centred: bool = setting(False, static=True)

    def explain_one(self, problem: Problem, example: Example) -> Parts:
        """See `Explainer.explain_one`."""
        segmenter, image = problem.segmenter, example.image
        program, site = self.find(segmenter, problem.variables, image.shape)
        unchanged = jnp.zeros((), program.shapes[site.value].dtype)
        logits, (tensor,) = run_shifted(
            program, problem.variables, image[None], [site], [unchanged]
        )
        channels = channels_last(tensor, site)
        activations = channels.reshape(-1, channels.shape[-1])
        if self.centred:
            activations -= jnp.mean(activations, axis=0)
        cam = _first_component(activations).reshape(channels.shape[:-1])
        cam = jax.nn.relu(jnp.where(jnp.sum(cam**3) < 0, -cam, cam))
        value = get_outcome(self.outcome).value(segmenter.output, logits[0], example.target)
        return self.parts(example, cam, value, logits[0])


def _first_component(matrix: jax.Array) -> jax.Array:
    """A v for the first right singular vector v of A [P, K], from the smaller Gram matrix."""
    with jax.default_matmul_precision("float32"):
        if matrix.shape[0] < matrix.shape[1]:
            values, vectors = jnp.linalg.eigh(matrix @ matrix.T)
            return vectors[:, -1] * jnp.sqrt(jnp.maximum(values[-1], 0.0))
        _, vectors = jnp.linalg.eigh(matrix.T @ matrix)
        return lax.dot(matrix, vectors[:, -1])
