"""The contract of a metric of explanations, and what it is given.

A metric is one file: a frozen dataclass derived from `Metric`, registered as a pytree, with a name,
a `meta` and `score`; and one line in `metrics/__init__.py`. Batches, memory, devices, keys and
explanations that failed are the runner's, and so is explaining again what `changed` makes of a
batch.
"""

import dataclasses
from collections.abc import Callable, Hashable, Mapping
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from jaxseg_xai.core.types import Array, Explanation, Status
from jaxseg_xai.explainers.base import Batch, Example, Problem
from jaxseg_xai.ops.random import fold_words

Need = Literal["gradient", "explain"]
#: Folded into the keys, so that no metric draws the same numbers as the method that it judges.
_OF_METRICS = 0x6D657472


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetricMeta:
    """What everybody else may know of a metric.

    Attributes:
      range: lowest and highest value of its scores and curves; None where there is no bound.
      better: whether "higher" or "lower" values speak for the explanation.
      headline: name of the score that stands for the metric in a table.
      scores: name -> meaning, of the numbers that it returns.
      curves: name -> meaning, of the curves.
      needs: "gradient" of the model; "explain": the method, to explain again, which costs as many
        explanations as `Metric.num_explanations` says.
      signed: whether it matters to the metric if relevance is positive or negative.
      revision: raised when the same settings give other numbers than before.
    """

    range: tuple[float | None, float | None]
    better: Literal["higher", "lower"]
    headline: str
    scores: Mapping[str, str]
    curves: Mapping[str, str] = dataclasses.field(default_factory=dict)
    needs: frozenset[Need] = frozenset()
    signed: bool = True
    revision: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rated:
    """One explanation as metrics see it.

    Attributes:
      relevance: float32 [*S], the attribution, its sign turned where the method's `meta` says so: a
        high value always means that the pixel speaks for the segment.
      known: bool [*S], the pixels that are known to matter; those of the target's segment where
        nothing else is known.
      maps: name -> [*S], further maps of the explanation.
      scores: name -> float32 [].
      again: float32 [n, *S], the relevance in the explanations of what `Metric.changed` makes, n of
        them; () of metrics that do not explain again.
      shared: what metrics of one program have computed already, see `once`.
    """

    relevance: Array
    known: Array
    maps: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    scores: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    again: Array = ()
    shared: dict[Hashable, Any] = dataclasses.field(default_factory=dict)

    def once(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """What `compute` gives, or gave another metric of the program by the same key.

        Args:
          key: names what is computed and all settings that it depends on.
          compute: of this example and explanation alone.
        """
        if key not in self.shared:
            self.shared[key] = compute()
        return self.shared[key]


class Metric:
    """Base of all metrics: a frozen pytree dataclass of settings (`core.fields.setting`).

    Static settings change the program, numbers are traced.
    """

    name: ClassVar[str]
    meta: ClassVar[MetricMeta]

    @property
    def num_explanations(self) -> int:
        """How many further explanations it needs of an image, with these settings."""
        return 0

    @property
    def num_passes(self) -> int:
        """Forward passes that it needs of an image beside that of the image itself.

        Those that it has in common with other metrics of one `score_all` are needed once.
        """
        return 0

    def changed(self, problem: Problem, batch: Batch, number: jax.Array) -> tuple[Problem, Batch]:
        """What is explained again; pure and traced, of metrics that need "explain".

        Args:
          problem: the model that was explained.
          batch: what was explained.
          number: int32 [] in [0, num_explanations).

        Returns:
          The same shapes, with other weights or other images.
        """
        raise NotImplementedError(f"{type(self).__name__} needs changed")

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


def keys_of(problem: Problem, batch: Batch) -> jax.Array:
    """Keys [B], from which `Metric.changed` draws: they depend on the image's id and the class."""

    def key_of(image_id: jax.Array, class_index: jax.Array) -> jax.Array:
        return key_of_metrics(jax.random.fold_in(fold_words(problem.key, image_id), class_index))

    ids, classes = batch.image_ids, batch.targets.class_index
    return jax.vmap(key_of)(jnp.asarray(ids), jnp.asarray(classes))


def key_of_metrics(key: jax.Array) -> jax.Array:
    """An example's key as metrics have it."""
    return jax.random.fold_in(key, _OF_METRICS)


def usable(explanation: Explanation) -> jax.Array:
    """Whether an explanation can be judged, bool []: status OK or NOT_REACHED, and a finite map."""
    status = explanation.status
    found = (status == Status.OK) | (status == Status.NOT_REACHED)
    return found & jnp.all(jnp.isfinite(explanation.attribution))
