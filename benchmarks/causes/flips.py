"""Whether a model has learnt its cause: what an intervention does to the segmentation.

The object counts as segmented where the Dice of the segmentation with it is at least 0.5. An
intervention flips an image whose object is segmented with all cues there, and no longer after it,
or the other way round.
"""

import dataclasses
import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.causes.sets import AS_DRAWN, Drawn, Known
from jaxseg_xai.core.segmenter import Segmenter
from jaxseg_xai.core.types import Array
from jaxseg_xai.models.bundle import Bundle
from jaxseg_xai.ops.dice import hard_dice

#: Share of the images that taking enough cues away must flip, and that anything else may.
AT_LEAST, AT_MOST = 0.95, 0.05
_SEGMENTED = 0.5
_AT_ONCE = 20


@dataclasses.dataclass(frozen=True)
class Flips:
    """What interventions did to a model.

    Attributes:
      segmented: share of the images with all cues in which the object is segmented.
      shares: intervention -> share of the images that it flips.
      must: the interventions that must flip; the others must not.
    """

    segmented: float
    shares: Mapping[str, float]
    must: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the model has learnt this cause, or, of a control, none."""
        kept = [
            share >= AT_LEAST if name in self.must else share <= AT_MOST
            for name, share in self.shares.items()
        ]
        return self.segmented >= AT_LEAST and all(kept)


def flips(bundle: Bundle, known: Known, num: int = 200, split: str = "test") -> Flips:
    """Intervene on the first images of a split."""
    before = _segmented(bundle, known.draw(split, num, **AS_DRAWN))
    shares = {}
    for name, options in known.interventions.items():
        after = _segmented(bundle, known.draw(split, num, **options))
        shares[name] = float(np.mean(before != after))
    return Flips(float(before.mean()), shares, known.must)


def _segmented(bundle: Bundle, drawn: Drawn) -> np.ndarray:
    """Of every image, whether its object is segmented: bool [N]."""
    found = []
    for start in range(0, len(drawn.images), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        dices = _dices(bundle.segmenter, bundle.variables, drawn.images[some], drawn.objects[some])
        found.append(np.asarray(dices) >= _SEGMENTED)
    return np.concatenate(found)


@functools.partial(jax.jit, static_argnums=0)
def _dices(segmenter: Segmenter, variables: Array, images: Array, objects: Array) -> jax.Array:
    segment_of = functools.partial(segmenter.output.segment_of, class_index=1)
    segments = jax.vmap(segment_of)(segmenter.logits(variables, jnp.asarray(images)))
    return jax.vmap(hard_dice)(segments, jnp.asarray(objects))
