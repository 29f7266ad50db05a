"""Randomisation: does the map change when the model's weights mean nothing any more?"""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, get_args

import jax
import jax.numpy as jnp

from jaxseg_xai.core.fields import setting
from jaxseg_xai.explainers.base import Batch, Example, Problem
from jaxseg_xai.metrics.base import Metric, MetricMeta, Rated, key_of_metrics
from jaxseg_xai.ops.ranking import rank_correlations
from jaxseg_xai.ops.similarity import ssim
from jaxseg_xai.program.cache import traced_for_one

Order = Literal["cascading", "independent"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Randomisation(Metric):
    """Similarity of the map with maps of models whose layers were randomised, stage by stage.

    The layers, from the output to the input, are parted into n stages. At stage k = 1..n their
    weights are shuffled within every tensor: of all layers up to the stage ("cascading") or of the
    stage's own alone ("independent"). The target stays as it is. Of each map with the original one

        rank_correlation = Spearman's over the pixels, in [-1, 1];
        ssim = structural similarity of the maps scaled to [0, 1], in [-1, 1];

    as curves over the stages and as their means. Lower is better: a map that stays when the model
    is destroyed was not about the model. NaN where a map is constant, or an explanation failed.

    It needs n further explanations. All images of a batch see the same randomised models.

    Attributes:
      num_stages: n.
      order: "cascading" or "independent".

    References:
      Adebayo et al., arXiv 1810.03292, section 3. Weights are shuffled, not drawn anew: an
      arbitrary model does not say from what (Quantus does so with Keras models).
    """

    name: ClassVar[str] = "randomisation"
    meta: ClassVar[MetricMeta] = MetricMeta(
        range=(-1.0, 1.0),
        better="lower",
        headline="rank_correlation",
        scores={
            "rank_correlation": "mean rank correlation with maps of randomised models",
            "ssim": "mean structural similarity with them",
        },
        curves={
            "curve_rank_correlation": "rank correlation at each stage, from the output on",
            "curve_ssim": "structural similarity at each stage",
        },
        needs=frozenset({"explain"}),
    )
    num_stages: int = setting(8, static=True, at_least=1)
    order: Order = setting("cascading", static=True, choices=get_args(Order))

    @property
    def num_explanations(self) -> int:
        """See `Metric.num_explanations`."""
        return self.num_stages

    def changed(self, problem: Problem, batch: Batch, number: jax.Array) -> tuple[Problem, Batch]:
        """See `Metric.changed`."""
        leaves, structure = jax.tree.flatten(problem.variables)
        numbers = layer_numbers(problem, batch.images.shape[1:])
        count = max(numbers, default=0) + 1
        # From stage k on: at least one layer in every stage, the same one in several of few layers.
        first = jnp.minimum(number * count // self.num_stages, count - 1)
        end = jnp.maximum((number + 1) * count // self.num_stages, first + 1)
        if self.order == "cascading":
            first = jnp.int32(0)
        key = key_of_metrics(problem.key)
        shuffled = []
        for place, (leaf, layer) in enumerate(zip(leaves, numbers, strict=True)):
            of_leaf = jax.random.fold_in(key, place)
            other = jax.random.permutation(of_leaf, jnp.ravel(leaf)).reshape(jnp.shape(leaf))
            shuffled.append(jnp.where((layer >= first) & (layer < end), other, leaf))
        variables = jax.tree.unflatten(structure, shuffled)
        return dataclasses.replace(problem, variables=variables), batch

    def score(self, problem: Problem, example: Example, rated: Rated) -> dict[str, jax.Array]:
        """See `Metric.score`."""
        del problem
        own = jnp.broadcast_to(example.own, (*rated.relevance.shape, 1))[..., 0]
        maps = jnp.concatenate([rated.relevance[None], rated.again])
        ranks = rank_correlations(maps, own)[0, 1:]
        scaled = jax.vmap(lambda values: _scaled(values, own))(maps)
        alike = jax.lax.map(lambda other: ssim(scaled[0], other, own), scaled[1:])
        return {
            "rank_correlation": jnp.mean(ranks),
            "ssim": jnp.mean(alike),
            "curve_rank_correlation": ranks,
            "curve_ssim": alike,
        }


def layer_numbers(problem: Problem, shape: Sequence[int]) -> list[int]:
    """Number of the layer that every leaf of the weights is in, counted from the output.

    Weights whose paths differ in the last name alone (kernel and bias) are one layer. Layers are in
    the order in which the model first uses them; what it never uses counts to the last.
    """
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(problem.variables)]
    parents: list[Any] = [path[:-1] for path in paths]
    if len(set(parents)) < 2:  # one flat container: each tensor is a layer
        parents = paths
    program = traced_for_one(problem.segmenter, problem.variables, tuple(shape))
    uses = [atom for equation in program.equations for atom in equation.inputs]
    order: dict[int, int] = {}
    for place, atom in enumerate(uses):
        if isinstance(atom, int):
            order.setdefault(atom, place)
    begin: dict[Any, int] = {}
    for parent, number in zip(parents, program.variables, strict=True):
        place = order.get(number, 0)
        begin[parent] = min(begin.get(parent, place), place)
    rank = {parent: i for i, parent in enumerate(sorted(begin, key=lambda p: -begin[p]))}
    return [rank[parent] for parent in parents]


def _scaled(values: jax.Array, own: jax.Array) -> jax.Array:
    """To [0, 1] over the image's own pixels; NaN of a constant map."""
    low = jnp.min(values, where=own, initial=jnp.inf)
    spread = jnp.max(values, where=own, initial=-jnp.inf) - low
    return jnp.where(own, (values - low) / jnp.where(spread > 0, spread, jnp.nan), 0.0)
