"""Pixels on the decision threshold: what may differ between two implementations, and how much.

A hard segmentation decides by probability > 0.5. Logits of two frameworks differ by rounding, so a
pixel whose probability is within `FLIP_MARGIN` of 0.5 may fall on either side. The classes below
look, with a model of their own, at the inputs of one explanation and say which pixels those are and
how far they can move the outcome; nothing beyond that is excused.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np

from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.explainers import Ate, Misure, MisurePaper
from jaxseg_xai.explainers.ate.ate import Draws
from jaxseg_xai.models.bundle import Bundle
from jaxseg_xai.ops.dilation import dilate, ellipse

#: Logits of two frameworks differ by up to 2.3e-5, probabilities by a quarter of that.
FLIP_MARGIN = 6e-6

#: Images float32 [N, H, W, C] -> logits float32 [N, H, W, K], K >= 2.
Logits = Callable[[np.ndarray], np.ndarray]


def bundle_logits(bundle: Bundle) -> Logits:
    """The logits of a model folder, by JAX."""
    run = jax.jit(bundle.predict)
    return lambda images: np.asarray(run(bundle.variables, images))


def distance_to_half(logits: np.ndarray, class_index: int) -> np.ndarray:
    """How far the probability of a class, against its strongest rival, is from 0.5.

    Args:
      logits: [..., K], K >= 2.
      class_index: the class.

    Returns:
      float64 [...], in [0, 0.5].
    """
    logits = np.asarray(logits, np.float64)
    lead = logits[..., class_index] - np.delete(logits, class_index, axis=-1).max(axis=-1)
    return np.abs(np.tanh(lead / 2)) / 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class AteDoubt:
    """The doubtful pixels of the interventions on one image.

    Attributes:
      logits: the model.
      image: float32 [H, W, C].
      target: of this image, without a batch axis.
      draws: of this image, with a batch axis of one.
      settings: of the method.
      margin: a probability this close to 0.5 is in doubt.
    """

    logits: Logits
    image: np.ndarray
    target: SegmentTarget
    draws: Draws
    settings: Ate
    margin: float = FLIP_MARGIN

    @functools.cached_property
    def base(self) -> tuple[float, float, float]:
        """Of the untouched image: outcome and reach in Dice points, nearest distance to 0.5."""
        outcome, reach, nearest = self._outcomes(self.image[None])
        return float(outcome[0]), float(reach[0]), nearest

    def block(self, row: int, column: int) -> tuple[float, Callable[[float, float], bool]]:
        """What is in doubt about one block.

        Returns:
          nearest: the smallest distance to 0.5 in any of its interventions and the base.
          possible(ate, tolerance): whether the doubtful pixels can make this its ATE.
        """
        settings, (base, base_reach, base_nearest) = self.settings, self.base
        number = row * settings.grid(*self.image.shape[:2])[1] + column
        screen, full = (np.asarray(d)[0, number] for d in (self.draws.screen, self.draws.full))
        patches = np.asarray(self.draws.patches)[np.concatenate([screen, full])]
        if settings.perturbation == "zero":
            screen, patches = screen[:0], np.zeros((1, *patches.shape[1:]), patches.dtype)
        outcome, reach, nearest = self._outcomes(self._replace(row, column, patches))
        effect, reach = outcome - base, reach + base_reach
        tried, tried_reach = np.abs(effect[: len(screen)]), reach[: len(screen)]
        ate, ate_reach = effect[len(screen) :].mean(), reach[len(screen) :].mean()
        threshold = settings.threshold
        may_stop = len(screen) > 0 and bool((tried - tried_reach < threshold).all())
        may_pass = len(screen) == 0 or bool((tried + tried_reach >= threshold).any())

        def possible(value: float, tolerance: float) -> bool:
            if value == 0:
                return may_stop or abs(ate) - ate_reach < threshold
            return may_pass and abs(value - ate) <= ate_reach + tolerance

        return min(nearest, base_nearest), possible

    def _replace(self, row: int, column: int, patches: np.ndarray) -> np.ndarray:
        side = self.settings.block_size
        inputs = np.repeat(self.image[None], len(patches), axis=0)
        square = inputs[:, row * side : (row + 1) * side, column * side : (column + 1) * side]
        square[...] = patches[:, : square.shape[1], : square.shape[2]]
        return inputs

    def _outcomes(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """Outcomes [N] and how far doubtful pixels move each [N], in Dice points; nearest."""
        logits, wanted = self.logits(inputs), int(self.target.class_index)
        region = np.asarray(self.target.region)
        truth = np.asarray(self.target.reference)[region]
        segment = (logits.argmax(-1) == wanted)[:, region]
        distance = distance_to_half(logits, wanted)[:, region]
        both, total = (segment & truth).sum(1), segment.sum(1) + truth.sum()
        doubtful = (distance <= self.margin).sum(1)
        # A pixel that flips adds or takes at most 1 of |a and b| and 1 of |a| + |b|.
        reach = 200 * doubtful / np.maximum(total - doubtful, 1)
        return 200 * both / (total + 1e-10), reach, float(distance.min())


@dataclasses.dataclass(frozen=True, kw_only=True)
class MisureDoubt:
    """The doubtful pixels of stage 1 of MiSuRe.

    Attributes:
      logits: the model.
      images: float32 [N, H, W, C].
      class_indices: int [N].
      settings: of the method.
      margin: a probability this close to 0.5 is in doubt.
    """

    logits: Logits
    images: np.ndarray
    class_indices: np.ndarray
    settings: Misure | MisurePaper
    margin: float = FLIP_MARGIN

    def segment(self, index: int) -> np.ndarray:
        """Distances to 0.5 [H, W] of the untouched image `index`."""
        return distance_to_half(self.logits(self.images[index][None])[0], self._wanted(index))

    def dilation(self, index: int, segment: np.ndarray, count: int) -> np.ndarray:
        """Distances to 0.5 [H, W] when image `index` is kept in `segment` dilated `count` times."""
        element, region = ellipse(self.settings.element_size), segment
        for _ in range(count):
            region = np.asarray(dilate(jax.numpy.asarray(region), element))
        kept = self.images[index] * region[..., None]
        return distance_to_half(self.logits(kept[None].astype(np.float32))[0], self._wanted(index))

    def _wanted(self, index: int) -> int:
        return int(self.class_indices[index])
