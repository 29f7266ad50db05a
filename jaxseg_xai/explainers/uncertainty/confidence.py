"""How sure a model is of a segment: the usual measures, to compare explanations with."""

import dataclasses
import itertools
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.types import Explanation, Predict, SegmentTarget, Status
from jaxseg_xai.explainers.base import Batch, explain_each
from jaxseg_xai.ops.dice import hard_dice, soft_dice
from jaxseg_xai.ops.dilation import dilate, ellipse
from jaxseg_xai.program.memory import images_that_fit


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Confidence:
    """Softmax confidence, entropy and test-time augmentation of a predicted segment.

    With p the softmax of the logits, Y the predicted pixels of class c in the region, and the band
    the pixels of the region within `band_width` of Y's outline, on either side:

        confidence                   mean of max_k p_k over Y (inside Y that is p_c)
        entropy                      mean over Y of -sum_k p_k log p_k / log K
        confidence_band, entropy_band    the same over the band
        soft_dice_confidence         2 sum_Y p_c / (sum_R p_c + |Y|)
        tta_disagreement             1 - mean over views v of D(Y, Y_v)
        tta_pairwise                 1 - mean over pairs of {Y, Y_1, ...} of their Dice

    Y_v is what the model segments in the image flipped or turned, brought back: 3 views (both
    flips, half a turn), 7 for square images with `rotate`. All are in [0, 1]. Dropout is not
    sampled: the models here have none.

    The attribution is the normalised entropy of every pixel in [0, 1]: 1 where the model cannot
    tell the classes apart.

    Attributes:
      band_width: in pixels, on either side of the outline.
      rotate: turn square images by 90 degrees too.

    References:
      Softmax confidence: Hendrycks and Gimpel, arXiv 1610.02136. Test-time augmentation: Wang et
      al., arXiv 1807.07356. Soft Dice confidence: Borges et al., arXiv 2402.10665.
    """

    name: ClassVar[str] = "confidence"
    whole_image: ClassVar[bool] = True
    band_width: int = dataclasses.field(default=2, metadata={"static": True})
    rotate: bool = dataclasses.field(default=True, metadata={"static": True})

    @property
    def needs_pool(self) -> bool:
        """No: nothing is replaced."""
        return False

    def validate(self) -> None:
        """Raise `ConfigError` naming the first value out of its range."""
        if self.band_width < 1:
            raise ConfigError(f"confidence.band_width is {self.band_width}; it must be at least 1")

    def explain_batch(
        self, predict: Predict, variables: Any, batch: Batch, mesh: Mesh
    ) -> Explanation:
        """`explain` for every example of a batch, the examples split over the mesh.

        A device looks at as many images at a time as it has room for.
        """
        device, shape = mesh.devices.flat[0], batch.images.shape[1:]
        at_a_time = images_that_fit(device, predict, variables, shape)

        def one(shared: tuple, image: jax.Array, target: SegmentTarget) -> Explanation:
            explainer, variables = shared
            return explainer.explain(predict, variables, image, target)

        return explain_each(one, (self, variables), batch, mesh, at_a_time)

    def explain(
        self, predict: Predict, variables: Any, image: jax.Array, target: SegmentTarget
    ) -> Explanation:
        """All measures for one image and class; `vmap` it over images and targets.

        Args:
          predict: the model.
          variables: its weights.
          image: float32 [H, W, C].
          target: class c and region R; its `reference` is not used.

        Returns:
          Attribution [H, W] in [0, 1], 0 outside the region; maps `prediction` and
          `tta_disagreement` [H, W] in [0, 1] (the share of the views in which the pixel is in the
          segment and was not, or the other way round); the scores above, NaN for a band without a
          pixel, and `area_target` in pixels. Status EMPTY_TARGET, EMPTY_REGION or NON_FINITE (of
          the image, or the logits of any view) come with maps of zeros and scores of NaN.
        """
        chex.assert_rank(image, 3)
        chex.assert_shape(target.region, image.shape[:2])
        logits = predict(variables, image[None])[0]
        finite = jnp.all(jnp.isfinite(image)) & jnp.all(jnp.isfinite(logits))
        logits = jnp.where(finite, logits, 0.0)
        labels = jnp.argmax(logits, axis=-1)
        segment = (labels == target.class_index) & target.region & finite

        views, views_finite = self._views(predict, variables, image, target)
        finite &= views_finite
        status = jnp.where(jnp.any(segment), Status.OK, Status.EMPTY_TARGET)
        status = jnp.where(jnp.any(target.region), status, Status.EMPTY_REGION)
        status = jnp.where(finite, status, Status.NON_FINITE)
        usable = status == Status.OK

        logarithms = jax.nn.log_softmax(logits)
        probabilities = jnp.exp(logarithms)
        entropy = -jnp.sum(probabilities * logarithms, axis=-1) / jnp.log(logits.shape[-1])
        # Rounding can leave an even guess a little above 1.
        entropy = jnp.clip(entropy, 0.0, 1.0)
        surest = jnp.max(probabilities, axis=-1)
        own = jnp.take(probabilities, target.class_index, axis=-1) * target.region
        band = self._band(segment) & target.region
        masks = jnp.concatenate([segment[None], views])
        scores = {
            "confidence": _mean(surest, segment),
            "entropy": _mean(entropy, segment),
            "confidence_band": _mean(surest, band),
            "entropy_band": _mean(entropy, band),
            "soft_dice_confidence": soft_dice(own, segment),
            "tta_disagreement": 1 - jnp.mean(hard_dice(views, segment)),
            "tta_pairwise": 1 - _mean_pairwise_dice(masks),
            "area_target": jnp.sum(segment, dtype=jnp.float32),
        }
        disagreement = jnp.mean(views != segment, axis=0, dtype=jnp.float32)
        return Explanation(
            attribution=jnp.where(usable & target.region, entropy, 0.0),
            status=status.astype(jnp.int32),
            scores=jax.tree.map(lambda score: jnp.where(usable, score, jnp.nan), scores),
            maps={
                "prediction": labels.astype(jnp.int32),
                "tta_disagreement": jnp.where(usable, disagreement, 0.0),
            },
        )

    def _views(
        self, predict: Predict, variables: Any, image: jax.Array, target: SegmentTarget
    ) -> tuple[jax.Array, jax.Array]:
        """Segments bool [V, H, W] of the image's other views, and whether all logits are finite."""
        turned = self.rotate and image.shape[0] == image.shape[1]
        quarters = (0, 1, 2, 3) if turned else (0, 2)
        views = list(itertools.product(quarters, (False, True)))[1:]  # the first is the image

        def segment(view: jax.Array) -> tuple[jax.Array, jax.Array]:
            logits = predict(variables, view[None])[0]
            found = jnp.argmax(logits, axis=-1) == target.class_index
            return found, jnp.all(jnp.isfinite(logits))

        # One after the other, so that a batch needs no more memory than without views.
        seen, finite = jax.lax.map(segment, jnp.stack([_turn(image, *view) for view in views]))
        back = [_turn_back(mask, *view) for mask, view in zip(seen, views, strict=True)]
        return jnp.stack(back) & target.region, jnp.all(finite)

    def _band(self, segment: jax.Array) -> jax.Array:
        element = ellipse(2 * self.band_width + 1)
        return dilate(segment, element) & dilate(~segment, element)


def _turn(image: jax.Array, quarters: int, flip: bool) -> jax.Array:
    """An image [H, W, ...] turned by quarters, then flipped left to right."""
    turned = jnp.rot90(image, quarters)
    return turned[:, ::-1] if flip else turned


def _turn_back(image: jax.Array, quarters: int, flip: bool) -> jax.Array:
    return jnp.rot90(image[:, ::-1] if flip else image, -quarters)


def _mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of `values` [H, W] where `mask` is true; NaN where it is nowhere."""
    count = jnp.sum(mask)
    return jnp.where(count > 0, jnp.sum(values * mask) / jnp.maximum(count, 1), jnp.nan)


def _mean_pairwise_dice(masks: jax.Array) -> jax.Array:
    """Mean hard Dice of all pairs of `masks`, bool [N, H, W]; two empty ones have Dice 0."""
    first, second = jnp.triu_indices(masks.shape[0], k=1)
    flat = masks.reshape(masks.shape[0], -1).astype(jnp.float32)
    both = flat @ flat.T
    areas = jnp.diag(both)
    dices = 2 * both / jnp.maximum(areas[:, None] + areas[None], 1)
    return jnp.mean(dices[first, second])
