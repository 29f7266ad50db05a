"""What the two stages of MiSuRe work on and hand over, and how they measure."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from jaxseg_xai.core.output_spec import OutputSpec
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.ops.dice import hard_dice, soft_dice
from jaxseg_xai.ops.padding import own_pixels


class Job(NamedTuple):
    """One image and what is explained in it, after stage 1.

    Attributes:
      image: float32 [*S, C], prepared for the model; 0 is the baseline.
      target: class, region and reference; Y, the segment that is explained, is `target.segment`.
      layers: int32 [*S], the number of the dilation that reached a pixel: 0 on Y, and more than
        `num_dilations` where none did.
      num_dilations: int32 [], how many were needed.
      size: int32 [rank], of the image without its padding; or None.
    """

    image: jax.Array
    target: SegmentTarget
    layers: jax.Array
    num_dilations: jax.Array
    size: jax.Array | None = None

    @property
    def own(self) -> jax.Array:
        """Which pixels are the image's own, bool [*S]."""
        shape = self.layers.shape
        return jnp.ones(shape, bool) if self.size is None else own_pixels(self.size, shape)

    @property
    def sufficient(self) -> jax.Array:
        """M_SR, bool [*S]."""
        return grown_to(self.layers, self.num_dilations)


class MaskedModel(NamedTuple):
    """The model as stage 2 sees it.

    Attributes:
      logits: mask float32 [*S] -> logits [*S, K] of the job's image times the mask.
      output: what logits mean.
    """

    logits: Callable[[jax.Array], jax.Array]
    output: OutputSpec


class Found(NamedTuple):
    """What stage 2 leaves of a job.

    Attributes:
      attribution: float32 [*S] in [0, 1].
      mask: float32 [*S] in [0, 1], what the image is multiplied by to look at the result.
      finite: bool [], whether every loss was.
      scores: name -> float32 [].
      traces: name -> float32 [num_iterations], NaN-padded.
      maps: name -> [*S], beside those that all forms have.
    """

    attribution: jax.Array
    mask: jax.Array
    finite: jax.Array
    scores: dict[str, jax.Array]
    traces: dict[str, jax.Array]
    maps: dict[str, jax.Array]


class Stage2(Protocol):
    """A search for the minimally sufficient region, and the settings of stage 1."""

    @property
    def tau(self) -> float:
        """Hard Dice at which a region is sufficient."""
        ...

    @property
    def max_dilations(self) -> int:
        """Most dilations of stage 1."""
        ...

    @property
    def element_size(self) -> int:
        """Side of the structuring element."""
        ...

    @property
    def num_searches(self) -> int:
        """Searches of every job."""
        ...

    def start(self, job: Job, number: jax.Array) -> Any:
        """The state before the first step of the search of a number, from 0."""
        ...

    def step(self, model: MaskedModel, job: Job, state: Any) -> Any:
        """One forward and backward pass."""
        ...

    def is_done(self, state: Any) -> jax.Array:
        """Whether the search has ended, bool []."""
        ...

    def found(self, job: Job, state: Any) -> Found:
        """What is kept of a search that has ended."""
        ...

    def together(self, model: MaskedModel, job: Job, found: Found) -> Found:
        """What is kept of all searches of a job, leaves [num_searches, ...]."""
        ...

    def measure(
        self, model: MaskedModel, job: Job, mask: jax.Array, logits: jax.Array
    ) -> dict[str, jax.Array]:
        """Scores of its own for the final mask, whose logits are given."""
        ...


def grown_to(layers: jax.Array, num_dilations: jax.Array) -> jax.Array:
    """The region bool [..., *S] after a number [...] of dilations, from layers [..., *S]."""
    number = jnp.asarray(num_dilations)
    return layers <= number.reshape(*number.shape, *[1] * (layers.ndim - number.ndim))


def dice_of(output: OutputSpec, logits: jax.Array, target: SegmentTarget) -> jax.Array:
    """Hard Dice with Y of what logits [*S, K] segment as the class in the region; float32 []."""
    found = output.segment_of(logits, target.class_index) & target.region
    return hard_dice(found, target.segment)


def soft_misses(
    output: OutputSpec, logits: jax.Array, target: SegmentTarget
) -> tuple[jax.Array, jax.Array]:
    """(1 - D_c, 1 - D_0): soft Dice of the class and of all that is not the class, in the region.

    The probability of the rest is 1 - p: that of all other classes together where they exclude each
    other, and the complement of the class where they may overlap.

    Returns:
      Two float32 [] in [0, 1].
    """
    probability, region = output.probability_of(logits, target.class_index), target.region
    miss_c = 1 - soft_dice(probability * region, target.segment)
    miss_0 = 1 - soft_dice((1 - probability) * region, ~target.segment & region)
    return miss_c, miss_0
