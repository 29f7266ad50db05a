"""What a pixel holds when it is taken away, in every metric that takes pixels away."""

from typing import get_args

import jax

from jaxseg_xai.explainers.base import Example
from jaxseg_xai.ops.baselines import OwnBaseline, baseline_images

#: As of the methods, but "others": metrics are given no other images.
Baseline = OwnBaseline
BASELINES = get_args(Baseline)


def blank_image(baseline: Baseline, example: Example) -> jax.Array:
    """The image with all of its pixels taken away, float32 [*S, C].

    Args:
      baseline: "zero" of the prepared image, the image's "mean" colour, or the image itself under a
        "blur".
      example: the image; its padding stays.
    """
    return baseline_images(baseline, example.image, size=example.size)[0]
