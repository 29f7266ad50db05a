"""What class activation maps have in common: the layer that they look at, and what they report."""

import dataclasses
import math
from typing import Any

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


def meta_of_map(note: str, *, gradient: bool = True) -> Meta:
    """The `Meta` of a class activation map that is not negative.

    Args:
      note: how to read it.
      gradient: whether the method needs one.
    """
    return Meta(
        revision=2,  # SegFormer's usual layer was another
        unit="weighted activation",
        signed=False,
        needs=frozenset({"gradient"} if gradient else ()),
        note=note,
        caption="Outcome {outcome:.0f}. The layer has {height:.0f} x {width:.0f} pixels.",
        scores={
            "outcome": "outcome of the image",
            "area_target": "pixels explained",
            "depth": "pixels of the layer along the first axis of a volume; 1 for images",
            "height": "pixels of the layer",
            "width": "pixels of the layer",
        },
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActivationMap(Explainer):
    """A map made of the channels A_k of a layer, of the layer's size, up-sampled to the image.

    Linearly, with pixel centres at halves, as OpenCV's and PyTorch's. pytorch-grad-cam's maps are
    these shifted and scaled to [0, 1].

    Attribution float32 [*S], not negative. Scores: `outcome` F(x); `area_target` in pixels;
    `height`, `width` and `depth` of the layer (depth is 1 for images).

    A layer is a convolution with its bias, normalisation and activation, see
    `jaxseg_xai.program.sites.find_sites`.

    Attributes:
      layer: its name ("encoder/4/conv2"). Where empty: the one that the model's family names, else
        that of the bottleneck, the last one of the lowest resolution above a single pixel (the
        layer that makes the logits does not count).
      outcome: what is explained, see `jaxseg_xai.outcomes`.
    """

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

    def parts(self, example: Example, cam: jax.Array, value: jax.Array, logits: jax.Array) -> Parts:
        """What is found.

        Args:
          example: what was explained.
          cam: float32, of the layer's size.
          value: outcome of the image.
          logits: of the image.
        """
        depth, height, width = (1, *cam.shape)[-3:]
        return Parts(
            attribution=jax.image.resize(cam, example.image.shape[:-1], "linear"),
            scores={
                "outcome": value,
                "area_target": jnp.sum(example.target.segment, dtype=jnp.float32),
                "depth": jnp.float32(depth),
                "height": jnp.float32(height),
                "width": jnp.float32(width),
            },
            finite=jnp.all(jnp.isfinite(cam)),
            logits=logits,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class GradientMap(ActivationMap):
    """One that weighs the channels by the gradient of the outcome; see `combine`."""

    def combine(self, channels: jax.Array, gradient: jax.Array) -> jax.Array:
        """The map, float32 of the layer's size.

        Args:
          channels: A, float32 [*layer, K].
          gradient: G = dF/dA, float32 [*layer, K].
        """
        raise NotImplementedError(f"{type(self).__name__} needs combine")

    def num_passes(self, shape: tuple[int, ...]) -> int:
        """See `Explainer.num_passes`."""
        del shape
        return 3

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
        cam = self.combine(channels_last(tensor, site), channels_last(gradient, site))
        return self.parts(example, cam, value, logits)


def channels_last(tensor: jax.Array, site: Site) -> jax.Array:
    """A layer's tensor of one image as float32 [*layer, K], whatever the model's own order."""
    return jnp.moveaxis(tensor, site.axis, -1)[0].astype(jnp.float32)


def weighted(channels: jax.Array, weights: jax.Array) -> jax.Array:
    """max(0, sum over k of w_k A_k); weights are [K] or [*layer, K]."""
    # Not a matrix product, whose factors accelerators would round.
    return jax.nn.relu(jnp.sum(channels * weights, axis=-1))


def _area(program: Program, site: Site) -> float:
    """Pixels of a layer; infinite where there is one only (a pooled vector)."""
    area = math.prod(program.shapes[site.value].shape[1:]) // site.num_channels
    return area if area > 1 else math.inf
