"""Contrast-level Shapley values: what each channel of the image adds to the segmentation."""

import dataclasses
from typing import Any, ClassVar, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.fields import setting
from jaxseg_xai.core.segmenter import Segmenter
from jaxseg_xai.explainers.base import Example, Explainer, Meta, Parts, Problem
from jaxseg_xai.explainers.perturbation.shapley import shapley_values, shapley_weights
from jaxseg_xai.ops.baselines import OwnBaseline, baseline_images
from jaxseg_xai.outcomes import OUTCOMES, get_outcome

#: Contrasts of which all coalitions are evaluated at most.
MOST_CONTRASTS = 8


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class ContrastShapley(Explainer):
    """Exact Shapley values of the image's channels: the contrasts of an MRI, the bands of a camera.

    With v(S) the outcome where the channels in S are shown and the others hold the baseline, of C
    channels, channel c gets

        phi_c = sum over S without c of |S|! (C - |S| - 1)! / C! (v(S + c) - v(S)),

    from the outcomes of all 2^C coalitions, C <= 8: no sampling, no standard error. They add up to
    v(all) - v(none).

    Trace `shapley`, float32 [C]: phi_c in units of the outcome, positive where the channel helps.
    Maps `contrast_0`, `contrast_1`, ..., float32 [*S] in [-1, 1]: the Shapley values of the same
    game with the class's probability in the pixel as v. Attribution float32 [*S] in [-1, 1], their
    sum: by how much the image makes the class more probable in the pixel than the baseline does. It
    lies where the class is segmented, not where in the image that comes from; metrics of input
    pixels leave it alone. Scores: `outcome` v(all); `hidden_outcome` v(none); `top_contrast`, the
    channel of the highest value, counted from 0, and `top_value`, that value.

    A coalition changes the whole image: windows would save nothing.

    Attributes:
      outcome: v, see `jaxseg_xai.outcomes`.
      baseline: what a hidden channel holds: "zero" of the prepared (normalised) image, its "mean",
        or itself under a "blur".

    References:
      Shapley, A value for n-person games, 1953, with the contrasts of an image as players and
      Dice as the worth.
    """

    name: ClassVar[str] = "contrast_shapley"
    meta: ClassVar[Meta] = Meta(
        target="reference",
        unit="probability",
        signed=True,
        high="neither",
        note="Red: the image's channels together make the class more probable here; blue: less. "
        "The maps of the contrasts say how much of it each adds.",
        caption="Outcome {outcome:.1f}, without any channel {hidden_outcome:.1f}; channel "
        "{top_contrast:.0f} adds most, {top_value:.1f}.",
        scores={
            "outcome": "outcome of the image",
            "hidden_outcome": "outcome where all channels are hidden",
            "top_contrast": "the channel that adds most, counted from 0",
            "top_value": "its Shapley value",
        },
    )
    outcome: str = setting("dice", static=True, choices=OUTCOMES)
    baseline: OwnBaseline = setting("mean", static=True, choices=get_args(OwnBaseline))

    def num_passes(self, shape: tuple[int, ...]) -> int:
        """See `Explainer.num_passes`."""
        return 2 ** shape[-1]

    def check_model(self, segmenter: Segmenter, variables: Any, shape: tuple[int, ...]) -> None:
        """See `Explainer.check_model`.

        Raises:
          ConfigError: more channels than all coalitions can be evaluated of.
        """
        del segmenter, variables
        if shape[-1] > MOST_CONTRASTS:
            raise ConfigError(
                f"{self.name} of {shape[-1]} channels would take {2 ** shape[-1]} forward passes; "
                f"give images of at most {MOST_CONTRASTS} channels"
            )

    def explain_one(self, problem: Problem, example: Example) -> Parts:
        """See `Explainer.explain_one`."""
        segmenter, image, target = problem.segmenter, example.image, example.target
        outcome, count = get_outcome(self.outcome), image.shape[-1]
        blank = baseline_images(self.baseline, image, size=example.size)[0]
        shown = np.arange(2**count)[:, None] >> np.arange(count) & 1 == 1

        def probability(logits: jax.Array) -> jax.Array:
            return segmenter.output.probability_of(logits, target.class_index)

        def add(maps: jax.Array, given: tuple[jax.Array, jax.Array]) -> tuple:
            seen, weights = given
            logits = segmenter.logits(problem.variables, jnp.where(seen, image, blank)[None])[0]
            each = weights.reshape(-1, *[1] * (image.ndim - 1))
            found = outcome.value(segmenter.output, logits, target)
            return maps + each * probability(logits), found

        weights = jnp.asarray(shapley_weights(count))
        nothing = jnp.zeros((count, *image.shape[:-1]))
        maps, outcomes = lax.scan(add, nothing, (jnp.asarray(shown), weights.T))
        values = shapley_values(outcomes)
        return Parts(
            attribution=jnp.sum(maps, axis=0),
            scores={
                "outcome": outcomes[-1],
                "hidden_outcome": outcomes[0],
                "top_contrast": jnp.argmax(values).astype(jnp.float32),
                "top_value": jnp.max(values),
            },
            maps={f"contrast_{channel}": plane for channel, plane in enumerate(maps)},
            traces={"shapley": values},
            finite=jnp.all(jnp.isfinite(outcomes)),
        )
