"""Pixels on the decision threshold: what may differ between two implementations, and how much.

A hard segmentation decides by probability > 0.5. Logits of two frameworks differ by rounding, so a
pixel whose probability is within `FLIP_MARGIN` of 0.5 may fall on either side. The classes below
look, with a model of their own, at the inputs of one explanation and say which pixels those are and
how far they can move the outcome; nothing beyond that is excused.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from benchmarks.arrays import Inputs
from jaxseg_xai.explainers.ate.ate import Ate
from jaxseg_xai.explainers.misure.paper import MisurePaper
from jaxseg_xai.explainers.misure.search import Misure
from jaxseg_xai.ops.dilation import dilate, ellipse

#: Logits of two frameworks differ by up to 2.3e-5, probabilities by a quarter of that.
FLIP_MARGIN = 6e-6
#: How near to 0.5 a probability must come for its pixel to fall on either side.
FLIP_MARGINS: dict[str, float] = {"float32": FLIP_MARGIN, "tensorfloat32": 1e-2, "bfloat16": 3e-2}

#: Images float32 [N, H, W, C] -> logits float32 [N, H, W, K], K >= 2.
Logits = Callable[[np.ndarray], np.ndarray]


def distance_to_half(logits: np.ndarray, class_index: int) -> np.ndarray:
    """How far the probability of a class against its strongest rival is from 0.5, float64 [...].

    In [0, 0.5]; logits are [..., K], K >= 2.
    """
    logits = np.asarray(logits, np.float64)
    lead = logits[..., class_index] - np.delete(logits, class_index, axis=-1).max(axis=-1)
    return np.abs(np.tanh(lead / 2)) / 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class AteDoubt:
    """The pixels of the interventions on one image that are nearer to 0.5 than `margin`."""

    logits: Logits
    inputs: Inputs
    settings: Ate
    margin: float = FLIP_MARGIN

    @functools.cached_property
    def base(self) -> tuple[float, float, float]:
        """Of the untouched image: outcome and reach in Dice points, nearest distance to 0.5."""
        outcome, reach, nearest = self._outcomes(self.inputs.images)
        return float(outcome[0]), float(reach[0]), nearest

    def block(self, row: int, column: int) -> tuple[float, Callable[[float, float], bool]]:
        """What is in doubt about one block.

        (The smallest distance to 0.5 in any of its interventions and the base; whether doubtful
        pixels can make a value its ATE, as a function of that and a tolerance.)
        """
        settings, (base, base_reach, base_nearest) = self.settings, self.base
        side, images, draws = settings.block_size, self.inputs.images, self.inputs.draws
        if settings.perturbation == "zero":
            screen = np.zeros(0, np.int32)
            patches = np.zeros((1, side, side, images.shape[-1]), images.dtype)
        else:
            assert draws is not None
            number = row * settings.grid(images.shape[1:3])[1] + column
            screen, full = (np.asarray(d)[0, number] for d in (draws.screen, draws.full))
            patches = np.asarray(draws.patches)[np.concatenate([screen, full])]
        outcome, reach, nearest = self._outcomes(self.replace(row, column, patches))
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

    def replace(self, row: int, column: int, patches: np.ndarray) -> np.ndarray:
        """The image with each of the patches [k, b, b, C] in the place of a block."""
        side = self.settings.block_size
        inputs = np.repeat(self.inputs.images, len(patches), axis=0)
        square = inputs[:, row * side : (row + 1) * side, column * side : (column + 1) * side]
        square[...] = patches[:, : square.shape[1], : square.shape[2]]
        return inputs

    def _outcomes(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """Outcomes [N] and how far doubtful pixels move each [N], in Dice points; nearest."""
        targets = self.inputs.targets
        logits, wanted = self.logits(inputs), int(targets.class_index[0])
        region = np.asarray(targets.region[0])
        truth = np.asarray(targets.reference[0])[region]
        segment = (logits.argmax(-1) == wanted)[:, region]
        distance = distance_to_half(logits, wanted)[:, region]
        both, total = (segment & truth).sum(1), segment.sum(1) + truth.sum()
        doubtful = (distance <= self.margin).sum(1)
        # A pixel that flips adds or takes at most 1 of |a and b| and 1 of |a| + |b|.
        reach = 200 * doubtful / np.maximum(total - doubtful, 1)
        return 200 * both / (total + 1e-10), reach, float(distance.min())


@dataclasses.dataclass(frozen=True, kw_only=True)
class MisureDoubt:
    """The pixels of stage 1 of MiSuRe of N images that are nearer to 0.5 than `margin`."""

    logits: Logits
    inputs: Inputs
    settings: Misure | MisurePaper
    margin: float = FLIP_MARGIN

    def segment(self, index: int) -> np.ndarray:
        """Distances to 0.5 [H, W] of the untouched image `index`."""
        return self._distances(index, self.inputs.images[index])

    def dilation(self, index: int, segment: np.ndarray, count: int) -> np.ndarray:
        """Distances to 0.5 [H, W] when image `index` is kept in `segment` dilated `count` times."""
        element, region = ellipse(self.settings.element_size), segment
        for _ in range(count):
            region = np.asarray(dilate(jnp.asarray(region), element))
        return self._distances(index, self.inputs.images[index] * region[..., None])

    def _distances(self, index: int, image: np.ndarray) -> np.ndarray:
        wanted = int(self.inputs.targets.class_index[index])
        return distance_to_half(self.logits(image[None].astype(np.float32))[0], wanted)
