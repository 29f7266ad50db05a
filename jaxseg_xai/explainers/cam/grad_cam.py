"""Grad-CAM of a segment: where a layer's channels speak for a class."""

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxseg_xai.core.errors import ModelError
from jaxseg_xai.core.fields import setting
from jaxseg_xai.core.segmenter import Segmenter
from jaxseg_xai.explainers.base import Example, Explainer, Meta, Parts, Problem
from jaxseg_xai.outcomes import OUTCOMES, get_outcome
from jaxseg_xai.program.cache import sites_of, traced_for_one
from jaxseg_xai.program.sites import Site, run_shifted, select_sites
from jaxseg_xai.program.trace import Program


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class GradCam(Explainer):
    """Seg-Grad-CAM: the channels of a layer, weighted by the mean gradient of an outcome.

    With F the outcome (by default the logits of class c summed over its predicted pixels), A_k the
    channels of a layer, and alpha_k = mean over the layer's pixels of dF/dA_k, the map is

        max(0, sum over k of alpha_k A_k)

    up-sampled linearly (pixel centres at halves, as OpenCV's and PyTorch's) to the image.
    pytorch-grad-cam's map is this one shifted and scaled to [0, 1].

    Attribution float32 [*S], not negative; its size is that of the layer's activations. Scores:
    `outcome` F(x); `area_target` in pixels; `height`, `width` and `depth` of the layer (depth is 1
    for images).

    A layer is a convolution with its bias, normalisation and activation, see
    `jaxseg_xai.program.sites.find_sites`.

    Attributes:
      layer: its name ("encoder/4/conv2"). Where empty: the one that the model's family names, else
        that of the bottleneck, the last one of the lowest resolution above a single pixel (the
        layer that makes the logits does not count).
      outcome: a differentiable outcome, see `jaxseg_xai.outcomes`.

    References:
      Vinogradova et al., Seg-Grad-CAM, arXiv 2002.11434, eq. 1; Selvaraju et al., Grad-CAM, arXiv
      1610.02391.
    """

    name: ClassVar[str] = "grad_cam"
    meta: ClassVar[Meta] = Meta(
        unit="weighted activation",
        signed=False,
        needs=frozenset({"gradient"}),
        note="Bright: matters for the class. All 0 where the layer's channels speak against it.",
        caption="Outcome {outcome:.0f}. The layer has {height:.0f} x {width:.0f} pixels.",
        scores={
            "outcome": "outcome of the image",
            "area_target": "pixels explained",
            "depth": "pixels of the layer along the first axis of a volume; 1 for images",
            "height": "pixels of the layer",
            "width": "pixels of the layer",
        },
    )
    layer: str = setting("", static=True)
    outcome: str = setting("summed_logits", static=True, choices=OUTCOMES)

    def check_model(self, segmenter: Segmenter, variables: Any, shape: tuple[int, ...]) -> None:
        """See `Explainer.check_model`.

        Raises:
          ConfigError: no layer of this name; the message lists those there are.
          ModelError: the model has no convolution, or none of a whole image: it runs on tiles.
        """
        self.find(segmenter, variables, shape)

    def find(
        self, segmenter: Segmenter, variables: Any, shape: tuple[int, ...]
    ) -> tuple[Program, Site]:
        """The model traced for one image of a shape (*S, C), and the layer in it."""
        program = traced_for_one(segmenter, variables, shape)
        axes = segmenter.input.rank + 2
        layers = [site for site in sites_of(program) if site.kind == "layer"]
        # A layer of several tiles, or of the slices of a volume, is no map of the image.
        whole = [
            site
            for site in layers
            if len(shape := program.shapes[site.value].shape) == axes and shape[0] == 1
        ]
        if not whole:
            tiles = "; give an image of one patch, or use another method" if layers else ""
            raise ModelError(
                f"no layer of the model shows the whole image along {axes - 2} axes; {self.name} "
                f"needs a convolution that does{tiles}"
            )
        name = self.layer or segmenter.sites.cam_layer
        if name:
            return program, select_sites(whole, [name])[0]
        below = whole[:-1] or whole
        # The last one of the smallest: `min` takes the first.
        return program, min(reversed(below), key=lambda site: _area(program, site))

    def explain_one(self, problem: Problem, example: Example) -> Parts:
        """See `Explainer.explain_one`."""
        image, target, segmenter = example.image, example.target, problem.segmenter
        outcome = get_outcome(self.outcome)
        program, site = self.find(segmenter, problem.variables, image.shape)

        def forward(shift: jax.Array) -> tuple[jax.Array, jax.Array]:
            logits, (tensor,) = run_shifted(
                program, problem.variables, image[None], [site], [shift]
            )
            return logits[0], tensor

        layer = program.shapes[site.value]
        unchanged = jnp.zeros(layer.shape, layer.dtype)
        logits, backward, tensor = jax.vjp(forward, unchanged, has_aux=True)
        value, of_logits = jax.value_and_grad(
            lambda logits: outcome.value(segmenter.output, logits, target)
        )(logits)
        (gradient,) = backward(of_logits)
        # Channels last, whatever the model's own order.
        tensor, gradient = (
            jnp.moveaxis(x, site.axis, -1)[0].astype(jnp.float32) for x in (tensor, gradient)
        )
        size = tensor.shape[:-1]
        alpha = jnp.mean(gradient, axis=tuple(range(len(size))))
        # Not a matrix product, whose factors accelerators would round.
        cam = jax.nn.relu(jnp.sum(tensor * alpha, axis=-1))
        depth, height, width = (1, *size)[-3:]
        return Parts(
            attribution=jax.image.resize(cam, image.shape[:-1], "linear"),
            scores={
                "outcome": value,
                "area_target": jnp.sum(target.segment, dtype=jnp.float32),
                "depth": jnp.float32(depth),
                "height": jnp.float32(height),
                "width": jnp.float32(width),
            },
            finite=jnp.all(jnp.isfinite(cam)),
            logits=logits,
        )


def _area(program: Program, site: Site) -> float:
    """Pixels of a layer; infinite where there is one only (a pooled vector)."""
    area = math.prod(program.shapes[site.value].shape[1:]) // site.num_channels
    return area if area > 1 else math.inf
