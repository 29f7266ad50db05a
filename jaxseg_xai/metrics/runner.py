"""Runs any metric over many explanations: batches, memory, devices, keys, failed explanations."""

import dataclasses
import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.fields import check
from jaxseg_xai.core.types import Array, Explanation, SegmentTarget
from jaxseg_xai.devices.mesh import shard_examples
from jaxseg_xai.explainers.base import Batch, Explainer, Meta, Problem
from jaxseg_xai.explainers.runner import check_gradient, example_of, explain
from jaxseg_xai.metrics.base import Metric, Rated, key_of_metrics, usable
from jaxseg_xai.ops.padding import own_pixels
from jaxseg_xai.ops.random import one_stream
from jaxseg_xai.program.memory import gradients_that_fit, images_that_fit


def score(
    metric: Metric,
    problem: Problem,
    batch: Batch,
    explanations: Explanation,
    *,
    meta: Meta,
    mesh: Mesh,
    known: Array | None = None,
    explainer: Explainer | None = None,
) -> dict[str, jax.Array]:
    """Judge a batch of explanations with a metric; see `score_all`."""
    options = {"meta": meta, "mesh": mesh, "known": known, "explainer": explainer}
    return score_all({metric.name: metric}, problem, batch, explanations, **options)[metric.name]


def score_all(
    metrics: Mapping[str, Metric],
    problem: Problem,
    batch: Batch,
    explanations: Explanation,
    *,
    meta: Meta,
    mesh: Mesh,
    known: Array | None = None,
    explainer: Explainer | None = None,
) -> dict[str, dict[str, jax.Array]]:
    """Judge a batch of explanations with any metrics, compiled once per shape and static setting.

    One program for all: what several of them need (the curve of deletion, say) is computed once.

    Args:
      metrics: name, of the results, -> a metric and its settings.
      problem: the model that was explained.
      batch: what was explained; B a multiple of the mesh's size.
      explanations: of the batch, leaves [B, ...].
      meta: of the method that made them.
      mesh: from `device_mesh`.
      known: bool [B, *S], pixels that are known to matter (the cause in a synthetic image, a
        lesion); None: those of the targets' segments.
      explainer: the method itself, for metrics that explain again.

    Returns:
      Name of the metric -> name -> scores float32 [B] or curves float32 [B, T]. NaN where there is
      no explanation: its status is neither OK nor NOT_REACHED, its map is not finite, or one that
      the metric asked for failed.

    Raises:
      ConfigError: a setting out of its bounds, maps that say nothing for or against the segment,
        `known` of another shape, or no `explainer` where one is needed.
      ModelError: the model has no gradient where one is needed.
    """
    with jax.enable_x64(False):
        for metric in metrics.values():
            _check(metric, problem, batch, explanations, meta)
        if known is None:
            known = jnp.asarray(batch.targets.segment)
        if known.shape != batch.targets.region.shape:
            raise ConfigError(
                f"known regions {tuple(known.shape)} for images {tuple(batch.images.shape)}; give "
                "one value a pixel"
            )
        again = {
            name: _explained_again(metric, problem, batch, explainer, mesh)
            for name, metric in metrics.items()
            if "explain" in metric.meta.needs
        }
        sign = -1.0 if meta.high == "against" else 1.0
        kinds = tuple(type(metric) for _, metric in sorted(metrics.items()))
        judged = (explanations, again, known)
        return _compiled(dict(metrics), problem, batch, judged, sign, mesh=mesh, kinds=kinds)


def score_example(
    metric: Metric,
    problem: Problem,
    sign: Array | float,
    image: Array,
    target: SegmentTarget,
    image_id: Array,
    explanation: Explanation,
    known: Array,
    size: Array | None = None,
) -> dict[str, jax.Array]:
    """Judge the explanation of one image [*S, C] with one metric."""
    asked = (image, target, image_id, explanation, known, size)
    return score_by_all({metric.name: metric}, problem, sign, *asked, {})[metric.name]


def score_by_all(
    metrics: Mapping[str, Metric],
    problem: Problem,
    sign: Array | float,
    image: Array,
    target: SegmentTarget,
    image_id: Array,
    explanation: Explanation,
    known: Array,
    size: Array | None,
    again: Mapping[str, Explanation],
) -> dict[str, dict[str, jax.Array]]:
    """`score_example` by several metrics; what they share is a value of this trace."""
    example = example_of(problem, image, target, image_id, size=size)
    example = dataclasses.replace(example, key=key_of_metrics(example.key))

    def relevance_in(found: Explanation) -> jax.Array:
        relevance = sign * found.attribution
        if size is None:
            return relevance
        return jnp.where(own_pixels(size, image.shape[:-1]), relevance, 0.0)  # not of padding

    rated = Rated(
        relevance=relevance_in(explanation),
        known=known,
        maps=explanation.maps,
        scores=explanation.scores,
    )
    scores = {}
    for name, metric in metrics.items():
        there, seen = usable(explanation), rated
        if name in again:
            there &= jnp.all(jax.vmap(usable)(again[name]))
            seen = dataclasses.replace(rated, again=relevance_in(again[name]))
        with one_stream():
            found = metric.score(problem, example, seen)
        scores[name] = {key: jnp.where(there, value, jnp.nan) for key, value in found.items()}
    return scores


def _check(
    metric: Metric, problem: Problem, batch: Batch, explanations: Explanation, meta: Meta
) -> None:
    check(metric, metric.name)
    if explanations.attribution is None or meta.high == "neither":
        raise ConfigError(
            f"{metric.name} judges maps of relevance, and {meta.unit} is none; choose a method "
            "whose map speaks for or against the segment"
        )
    if "gradient" in metric.meta.needs:
        shape = tuple(batch.images.shape[1:])
        check_gradient(metric.name, problem.segmenter, problem.variables, shape)


def _explained_again(
    metric: Metric, problem: Problem, batch: Batch, explainer: Explainer | None, mesh: Mesh
) -> Explanation:
    """Attributions [B, n, *S] and statuses [B, n] of what the metric changes."""
    if explainer is None:
        raise ConfigError(
            f"{metric.name} explains again; give the method that made the maps, explainer="
        )
    found = []
    for number in range(metric.num_explanations):
        changed = _changed(metric, problem, batch, jnp.int32(number), kind=type(metric))
        one = explain(explainer, *changed, mesh=mesh)
        found.append(Explanation(attribution=one.attribution, status=one.status))
    return jax.tree.map(lambda *leaves: jnp.stack(leaves, axis=1), *found)


@functools.partial(jax.jit, static_argnames=("kind",))
def _changed(
    metric: Metric, problem: Problem, batch: Batch, number: jax.Array, *, kind: type
) -> tuple[Problem, Batch]:
    del kind  # see `explainers.runner._explain_batch`
    with one_stream():
        return metric.changed(problem, batch, number)


@functools.partial(jax.jit, static_argnames=("mesh", "kinds"))
def _compiled(
    metrics: dict[str, Metric],
    problem: Problem,
    batch: Batch,
    judged: tuple[Explanation, dict[str, Explanation], Array],
    sign: Array,
    *,
    mesh: Mesh,
    kinds: tuple[type, ...],
) -> dict[str, dict[str, jax.Array]]:
    del kinds  # see `explainers.runner._explain_batch`
    gradient = any("gradient" in metric.meta.needs for metric in metrics.values())
    fit = gradients_that_fit if gradient else images_that_fit
    device, shape = mesh.devices.flat[0], batch.images.shape[1:]
    at_a_time = fit(device, problem.segmenter, problem.variables, shape)

    def part(shared: tuple, examples: tuple) -> dict[str, dict[str, jax.Array]]:
        metrics, problem, sign = shared

        def one(example: tuple) -> dict[str, dict[str, jax.Array]]:
            image, target, image_id, size, (explanation, again, known) = example
            asked = (image, target, image_id, explanation, known, size, again)
            return score_by_all(metrics, problem, sign, *asked)

        return jax.lax.map(one, examples, batch_size=min(at_a_time, examples[0].shape[0]))

    examples = (batch.images, batch.targets, batch.image_ids, batch.sizes, judged)
    return shard_examples(part, mesh)((metrics, problem, sign), examples)
