"""How sure a model is of a segment: the usual measures, to compare explanations with."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.scipy.special import entr

from jaxseg_xai.core.fields import setting
from jaxseg_xai.core.output_spec import OutputSpec
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.explainers.base import Example, Explainer, Meta, Parts, Problem
from jaxseg_xai.explainers.uncertainty.views import turn, turn_back, views_of
from jaxseg_xai.ops.dice import hard_dice, soft_dice
from jaxseg_xai.ops.dilation import dilate, ellipse


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Confidence(Explainer):
    """Confidence, entropy and test-time augmentation of a predicted segment.

    With p the probabilities of the K classes, Y the pixels explained (the class c that the model
    predicts in the region R), and the band the pixels of the region within `band_width` of Y's
    outline, on either side:

        confidence                   mean of max_k p_k over Y (inside Y that is p_c)
        entropy                      mean over Y of -sum_k p_k log p_k / log K
        confidence_band, entropy_band    the same over the band
        soft_dice_confidence         2 sum_Y p_c / (sum_R p_c + |Y|)
        tta_disagreement             1 - mean over views v of D(Y, Y_v)
        tta_pairwise                 1 - mean over pairs of {Y, Y_1, ...} of their Dice

    Where classes may overlap (sigmoid and threshold models), a pixel has a choice of two: class c,
    with probability p_c, or not. Confidence is then max(p_c, 1 - p_c), and the entropy that of the
    two, divided by log 2.

    Y_v is what the model segments in another view of the image, brought back. The views of an image
    are its flips: 3, or 7 with quarter turns, for square images with `rotate`. Those of a volume
    are the flips of all axes: 7, or 15 with quarter turns in the plane of the last two axes, where
    these are equal. All scores are in [0, 1]. Dropout is not sampled.

    Attribution float32 [*S]: the entropy of every pixel of the region in [0, 1]; 1 where the model
    cannot tell the classes apart. Map `tta_disagreement` [*S] in [0, 1]: the share of the views in
    which the pixel is in the segment and was not, or the other way round. Scores: those above, NaN
    for a band without a pixel, and `area_target` in pixels. Status NON_FINITE also stands for
    logits of a view that are not finite.

    Attributes:
      band_width: in pixels, on either side of the outline.
      rotate: add quarter turns.

    References:
      Softmax confidence: Hendrycks and Gimpel, arXiv 1610.02136. Test-time augmentation: Wang et
      al., arXiv 1807.07356. Soft Dice confidence: Borges et al., arXiv 2402.10665.
    """

    name: ClassVar[str] = "confidence"
    meta: ClassVar[Meta] = Meta(
        figure="uncertainty",
        unit="normalised entropy",
        signed=False,
        high="neither",
        titles={
            "attribution": "Entropy of the classes",
            "tta_disagreement": "Views that disagree",
        },
        note="Bright: the model is not sure of its class there.",
        caption="Confidence {confidence:.2f}, entropy {entropy:.2f}; in the band "
        "{confidence_band:.2f} and {entropy_band:.2f}. Soft Dice confidence "
        "{soft_dice_confidence:.2f}. Disagreement of the views {tta_disagreement:.2f}, in pairs "
        "{tta_pairwise:.2f}.",
        scores={
            "confidence": "mean probability of the most likely class in the segment, in [0, 1]",
            "entropy": "mean normalised entropy in the segment, in [0, 1]",
            "confidence_band": "confidence along the segment's outline, in [0, 1]",
            "entropy_band": "entropy along the segment's outline, in [0, 1]",
            "soft_dice_confidence": "soft Dice of the probability with the segment, in [0, 1]",
            "tta_disagreement": "1 - mean Dice of the segment with those of other views",
            "tta_pairwise": "1 - mean Dice of all pairs of views",
            "area_target": "pixels explained",
        },
        counts_beside=True,
        features=True,
        sureness={
            "confidence": 1,
            "entropy": -1,
            "confidence_band": 1,
            "entropy_band": -1,
            "soft_dice_confidence": 1,
            "tta_disagreement": -1,
            "tta_pairwise": -1,
        },
    )
    band_width: int = setting(2, static=True, at_least=1)
    rotate: bool = setting(True, static=True)

    def explain_one(self, problem: Problem, example: Example) -> Parts:
        """See `Explainer.explain_one`."""
        target, output = example.target, problem.segmenter.output
        segment = target.segment
        views, finite = self._views(problem, example)
        choices = _choices(output, example.logits, target)
        entropy = jnp.sum(entr(choices), axis=-1) / jnp.log(choices.shape[-1])
        # Rounding can leave an even guess a little above 1.
        entropy = jnp.clip(entropy, 0.0, 1.0)
        surest = jnp.max(choices, axis=-1)
        own = output.probability_of(example.logits, target.class_index) * target.region
        element = ellipse(2 * self.band_width + 1, segment.ndim)
        band = dilate(segment, element) & dilate(~segment, element) & target.region
        return Parts(
            attribution=jnp.where(target.region, entropy, 0.0),
            scores={
                "confidence": _mean(surest, segment),
                "entropy": _mean(entropy, segment),
                "confidence_band": _mean(surest, band),
                "entropy_band": _mean(entropy, band),
                "soft_dice_confidence": soft_dice(own, segment),
                "tta_disagreement": _disagreement(jax.vmap(hard_dice, (0, None))(views, segment)),
                "tta_pairwise": _disagreement(
                    _mean_pairwise_dice(jnp.concatenate([segment[None], views]))
                ),
                "area_target": jnp.sum(segment, dtype=jnp.float32),
            },
            maps={"tta_disagreement": jnp.mean(views != segment, axis=0, dtype=jnp.float32)},
            finite=finite,
        )

    def _views(self, problem: Problem, example: Example) -> tuple[jax.Array, jax.Array]:
        """Segments bool [V, *S] of the image's other views, and whether all logits are finite."""
        segmenter, target, image = problem.segmenter, example.target, example.image
        views = views_of(image.shape[:-1], rotate=self.rotate)

        def segment(view: jax.Array) -> tuple[jax.Array, jax.Array]:
            logits = segmenter.logits(problem.variables, view[None])[0]
            found = segmenter.output.segment_of(logits, target.class_index)
            return found, jnp.all(jnp.isfinite(logits))

        # One after the other, so that a batch needs no more memory than without views.
        seen, finite = jax.lax.map(segment, jnp.stack([turn(image, view) for view in views]))
        back = [turn_back(mask, view) for mask, view in zip(seen, views, strict=True)]
        return jnp.stack(back) & target.region, jnp.all(finite)


def _choices(output: OutputSpec, logits: jax.Array, target: SegmentTarget) -> jax.Array:
    """Probabilities [*S, choices], which add up to 1: of all classes, or of the class and not."""
    if not output.overlapping:
        return output.probability(logits)
    own = output.probability_of(logits, target.class_index)
    return jnp.stack([1 - own, own], axis=-1)


def _mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of `values` [*S] where `mask` is true; NaN where it is nowhere."""
    count = jnp.sum(mask)
    return jnp.where(count > 0, jnp.sum(values * mask) / jnp.maximum(count, 1), jnp.nan)


def _disagreement(dices: jax.Array) -> jax.Array:
    """1 less their mean; a mean of ones may be above 1 by rounding."""
    return jnp.maximum(0.0, 1 - jnp.mean(dices))


def _mean_pairwise_dice(masks: jax.Array) -> jax.Array:
    """Mean hard Dice of all pairs of `masks`, bool [N, *S]; two empty ones have Dice 0."""
    first, second = jnp.triu_indices(masks.shape[0], k=1)
    flat = masks.reshape(masks.shape[0], -1).astype(jnp.float32)
    both = flat @ flat.T
    areas = jnp.diag(both)
    dices = 2 * both / jnp.maximum(areas[:, None] + areas[None], 1)
    return jnp.mean(dices[first, second])
