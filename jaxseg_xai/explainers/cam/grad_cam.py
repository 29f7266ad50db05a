"""Grad-CAM of a segment: where a layer's channels speak for a class."""

import dataclasses
import functools
import math
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxseg_xai.core.errors import ModelError
from jaxseg_xai.core.types import Explanation, Predict, SegmentTarget
from jaxseg_xai.explainers.base import Batch, explain_each
from jaxseg_xai.explainers.gradient.segment_logits import (
    explanation_of,
    predicted_segment,
    status_of,
    summed_logits,
)
from jaxseg_xai.program.memory import gradients_that_fit
from jaxseg_xai.program.sites import Site, find_sites, run_shifted, select_sites
from jaxseg_xai.program.trace import Program, trace


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class GradCam:
    """Seg-Grad-CAM of a predicted segment's summed logits, at a layer.

    With F the logits of class c summed over its predicted pixels (`segment_logits`), A_k [h, w] the
    channels of a layer, and alpha_k = mean over its pixels of dF/dA_k, the map is

        max(0, sum over k of alpha_k A_k)

    up-sampled bilinearly (pixel centres at halves, as OpenCV's and PyTorch's) to the image. It is
    not negative, and as large as the layer makes it: pytorch-grad-cam's is this one shifted and
    scaled to [0, 1].

    A layer is a convolution with its bias, normalisation and activation, see `find_sites`.

    Attributes:
      layer: its name ("encoder/4/conv2"); that of the bottleneck where empty: the last one of the
        lowest resolution above a single pixel, but for the layer that makes the logits.

    References:
      Vinogradova et al., Seg-Grad-CAM, arXiv 2002.11434, eq. 1; Selvaraju et al., Grad-CAM, arXiv
      1610.02391.
    """

    name: ClassVar[str] = "grad_cam"
    whole_image: ClassVar[bool] = True
    layer: str = dataclasses.field(default="", metadata={"static": True})

    @property
    def needs_pool(self) -> bool:
        """No: nothing is replaced."""
        return False

    def validate(self) -> None:
        """Nothing to check before the model is there."""

    def explain_batch(
        self, predict: Predict, variables: Any, batch: Batch, mesh: Mesh
    ) -> Explanation:
        """`explain` for every example of a batch, the examples split over the mesh.

        A device looks at as many images at a time as it has room for.
        """
        device, shape = mesh.devices.flat[0], batch.images.shape[1:]
        at_a_time = gradients_that_fit(device, predict, variables, shape)
        program, site = self.find(predict, variables, shape, batch.images.dtype)
        stride = getattr(predict, "stride", 1)
        one = functools.partial(_explain, program, site, stride)
        return explain_each(one, variables, batch, mesh, at_a_time)

    def explain(
        self, predict: Predict, variables: Any, image: jax.Array, target: SegmentTarget
    ) -> Explanation:
        """Map of one image and class; `vmap` it over images and targets.

        Args:
          predict: the model.
          variables: its weights.
          image: float32 [H, W, C].
          target: class c and region; its `reference` is not used.

        Returns:
          Attribution [H, W], not negative; map `prediction`. Scores: `outcome` F(x); `area_target`
          in pixels; `height` and `width` of the layer. Status EMPTY_TARGET (the class is not
          predicted in the region), EMPTY_REGION or NON_FINITE (of the image, its logits or the map)
          come with a map of zeros and scores of NaN.

        Raises:
          ConfigError: no layer of this name; the message lists those there are.
          ModelError: the model has no layer with a height and a width.
        """
        program, site = self.find(predict, variables, image.shape, image.dtype)
        return _explain(program, site, getattr(predict, "stride", 1), variables, image, target)

    def find(
        self, predict: Predict, variables: Any, shape: tuple[int, ...], dtype: Any
    ) -> tuple[Program, Site]:
        """The model traced for one image of a shape [H, W, C], and the layer in it."""
        leaves = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), variables)
        program = trace(predict, leaves, (1, *shape), dtype)
        layers = [
            site
            for site in find_sites(program)
            if site.kind == "layer" and len(program.shapes[site.value].shape) == 4
        ]
        if not layers:
            raise ModelError(
                "no layer of the model has a height and a width; Grad-CAM needs a convolution"
            )
        if self.layer:
            return program, select_sites(layers, [self.layer])[0]
        below = layers[:-1] or layers
        # The last one of the smallest: `min` takes the first.
        return program, min(reversed(below), key=lambda site: _area(program, site))


def _area(program: Program, site: Site) -> float:
    """Pixels of a layer; infinite where there is one only (a pooled vector)."""
    shape = program.shapes[site.value].shape
    area = shape[1] * shape[2] * shape[3] // shape[site.axis]
    return area if area > 1 else math.inf


def _explain(
    program: Program,
    site: Site,
    stride: int,
    variables: Any,
    image: jax.Array,
    target: SegmentTarget,
) -> Explanation:
    """`GradCam.explain` at a layer of a traced model that pads images to multiples of `stride`."""
    chex.assert_rank(image, 3)
    height, width = image.shape[:2]
    chex.assert_shape(target.region, (height, width))

    def forward(shift: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits, (tensor,) = run_shifted(program, variables, image[None], [site], [shift])
        return logits[0], tensor

    unchanged = jnp.zeros(program.shapes[site.value].shape, program.shapes[site.value].dtype)
    logits, backward, tensor = jax.vjp(forward, unchanged, has_aux=True)
    segment = predicted_segment(logits, target)
    (gradient,) = backward(jax.grad(summed_logits)(logits, target, segment))
    # [h, w, channels], whatever the model's own order.
    tensor, gradient = (
        jnp.moveaxis(x, site.axis, -1)[0].astype(jnp.float32) for x in (tensor, gradient)
    )
    # Not a matrix product, whose factors accelerators would round.
    cam = jax.nn.relu(jnp.sum(tensor * jnp.mean(gradient, axis=(0, 1)), axis=-1))
    padded = [side + -side % stride for side in (height, width)]
    attribution = jax.image.resize(cam, padded, "bilinear")[:height, :width]
    finite = jnp.all(jnp.isfinite(cam))
    scores = {
        "outcome": summed_logits(logits, target, segment),
        "area_target": jnp.sum(segment, dtype=jnp.float32),
        "height": jnp.float32(cam.shape[0]),
        "width": jnp.float32(cam.shape[1]),
    }
    status = status_of(image, logits, target, segment, finite)
    return explanation_of(attribution, status, logits, scores)
