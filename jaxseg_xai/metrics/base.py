"""The contract of a metric of explanations, and what it is given.

A metric is one file: a frozen dataclass derived from `Metric`, registered as a pytree, with a name,
a `meta` and `score`; and one line in `metrics/__init__.py`. Batches, memory, devices, keys and
explanations that failed are the runner's.
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

import jax

from jaxseg_xai.core.types import Array
from jaxseg_xai.explainers.base import Example, Problem

Need = Literal["gradient"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetricMeta:
    """What everybody else may know of a metric.

    Attributes:
      range: lowest and highest value of its scores and curves; None where there is no bound.
      better: whether "higher" or "lower" values speak for the explanation.
      headline: name of the score that stands for the metric in a table.
      scores: name -> meaning, of the numbers that it returns.
      curves: name -> meaning, of the curves.
      needs: "gradient" of the model.
      revision: raised when the same settings give other numbers than before.
    """

    range: tuple[float | None, float | None]
    better: Literal["higher", "lower"]
    headline: str
    scores: Mapping[str, str]
    curves: Mapping[str, str] = dataclasses.field(default_factory=dict)
    needs: frozenset[Need] = frozenset()
    revision: int = 1


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Rated:
    """One explanation as a metric sees it.

    Attributes:
      relevance: float32 [*S], the attribution, its sign turned where the method's `meta` says so: a
        high value always means that the pixel speaks for the segment.
      known: bool [*S], the pixels that are known to matter; those of the target's segment where
        nothing else is known.
      maps: name -> [*S], further maps of the explanation.
      scores: name -> float32 [].
    """

    relevance: Array
    known: Array
    maps: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    scores: Mapping[str, Array] = dataclasses.field(default_factory=dict)


class Metric:
    """Base of all metrics: a frozen pytree dataclass of settings (`core.fields.setting`).

    Static settings change the program, numbers are traced.
    """

    name: ClassVar[str]
    meta: ClassVar[MetricMeta]

    def score(self, problem: Problem, example: Example, rated: Rated) -> dict[str, jax.Array]:
        """Judge one explanation; pure, traced, vmapped, and never given a batch.

        Args:
          problem: model and weights.
          example: image, target, key and logits, leaves of one image.
          rated: the explanation.

        Returns:
          The scores float32 [] and curves float32 [T] that `meta` names; NaN where one is not
          defined.
        """
        raise NotImplementedError(f"{type(self).__name__} needs score")
