"""VarGrad: how much the gradient of an outcome varies over noisy copies of the image."""

import dataclasses
from typing import ClassVar

import jax

from jaxseg_xai.explainers.base import Meta
from jaxseg_xai.explainers.gradient.smooth_grad import SmoothGrad


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class VarGrad(SmoothGrad):
    """Variance of the gradient of an outcome over copies of the image with normal noise.

    With the gradients g_i, summed over channels, whose mean is `SmoothGrad`,

        a = mean over i of (g_i - mean g)^2.

    High: small changes of the image decide what the pixel does. It has no sign, and of a linear
    model it is 0.

    Attribution float32 [*S], not negative, in squared units of the outcome per unit of the input.
    Scores and settings are `SmoothGrad`'s.

    References:
      Adebayo et al., arXiv 1810.03292, appendix A (with the biased variance, as in Captum).
    """

    name: ClassVar[str] = "vargrad"
    meta: ClassVar[Meta] = dataclasses.replace(
        SmoothGrad.meta,
        unit="({outcome} per unit of the input)²",
        signed=False,
        note="Bright: what the pixel does for the class depends on the noise.",
    )

    def combine(self, mean: jax.Array, variance: jax.Array) -> jax.Array:
        """The variance."""
        del mean
        return variance
