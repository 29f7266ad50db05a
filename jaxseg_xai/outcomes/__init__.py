"""What an explanation explains: one number of a model's output in a region.

An outcome is a frozen dataclass without data, registered by one line here. `value` takes the
logits of one image and its target; everything that perturbs, differentiates or replaces measures
what it did by it.
"""

from typing import ClassVar, Protocol

import jax

from jaxseg_xai.core.output_spec import OutputSpec
from jaxseg_xai.core.registry import Registry
from jaxseg_xai.core.types import SegmentTarget


class Outcome(Protocol):
    """One number of the logits of one image.

    Attributes:
      unit: of the value, "points".
      words: what a caption calls it, "Dice".
      differentiable: whether its gradient says anything.
      soft: name of the outcome that stands in for it where a gradient is needed; itself where it is
        differentiable.
      counts_beside: whether pixels of the region beside the reference count, as with Dice all that
        is segmented does. It says nothing of false positives alone.
    """

    unit: ClassVar[str]
    words: ClassVar[str]
    differentiable: ClassVar[bool]
    soft: ClassVar[str]
    counts_beside: ClassVar[bool]

    def value(self, output: OutputSpec, logits: jax.Array, target: SegmentTarget) -> jax.Array:
        """The outcome, float32 [].

        Args:
          output: what the logits mean.
          logits: float32 [*S, K] of one image.
          target: class, region and reference, leaves [*S].

        Returns:
          The value; NaN where a logit in the region is not finite. Logits outside of the region do
          not count, in the value or in its gradient.
        """
        ...


OUTCOMES = Registry(
    "jaxseg_xai.outcomes",
    "outcome",
    {
        "dice": "jaxseg_xai.outcomes.dice:Dice",
        "soft_dice": "jaxseg_xai.outcomes.soft_dice:SoftDice",
        "mean_probability": "jaxseg_xai.outcomes.mean_probability:MeanProbability",
        "summed_logits": "jaxseg_xai.outcomes.summed_logits:SummedLogits",
        "true_positives": "jaxseg_xai.outcomes.true_positives:TruePositives",
        "false_positives": "jaxseg_xai.outcomes.false_positives:FalsePositives",
    },
    base=("value", "unit", "words", "differentiable", "soft", "counts_beside"),
)


def get_outcome(name: str) -> Outcome:
    """The outcome of a name; `ConfigError` where there is none."""
    return OUTCOMES.get(name)()
