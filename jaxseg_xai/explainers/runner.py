"""Runs any method over many examples: batches, memory, devices, keys, prediction, status, NaN."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxseg_xai.core.caches import remembered
from jaxseg_xai.core.errors import ConfigError, ModelError
from jaxseg_xai.core.fields import check
from jaxseg_xai.core.segmenter import Segmenter
from jaxseg_xai.core.types import Array, Explanation, SegmentTarget, Status
from jaxseg_xai.devices.mesh import shard_examples
from jaxseg_xai.explainers.base import Batch, Example, Explainer, Parts, Problem
from jaxseg_xai.ops.random import fold_words, one_stream
from jaxseg_xai.outcomes import get_outcome
from jaxseg_xai.program.cache import shapes_of
from jaxseg_xai.program.memory import gradients_that_fit, images_that_fit

#: Models and sizes of images whose checks are remembered.
_REMEMBERED = 16


def explain(explainer: Explainer, problem: Problem, batch: Batch, *, mesh: Mesh) -> Explanation:
    """Explain a batch with any method, compiled once per shape and static setting.

    Everything is computed in 32 bits, whatever `jax_enable_x64` says: it is for other work, and
    would give other numbers.

    Args:
      explainer: the method and its settings.
      problem: model, weights, key, patches.
      batch: B examples, B a multiple of the mesh's size.
      mesh: from `device_mesh`.

    Returns:
      Explanations, leaves [B, ...].

    Raises:
      ConfigError: a setting out of its bounds, or something missing that the method needs.
      ModelError: the model cannot be applied, or has no gradient where one is needed.
    """
    with jax.enable_x64(False):
        check_problem(explainer, problem, batch)
        run = _compiled if explainer.traceable else _explain_batch
        return run(explainer, problem, batch, mesh=mesh, kind=type(explainer))


def lower(explainer: Explainer, problem: Problem, batch: Batch, *, mesh: Mesh):
    """`explain` lowered by JAX, to be compiled apart; only of traceable explainers."""
    with jax.enable_x64(False):
        check_problem(explainer, problem, batch)
        return _compiled.lower(explainer, problem, batch, mesh=mesh, kind=type(explainer))


def check_problem(explainer: Explainer, problem: Problem, batch: Batch) -> None:
    """Raise `ConfigError` or `ModelError` for what cannot work, before anything is compiled."""
    check(explainer, explainer.name)
    _check_targets(batch)
    if "patches" in explainer.needs:
        _check_pool(explainer, problem, batch)
    if "others" in explainer.needs:
        _check_others(explainer, batch)
    segmenter, shape = problem.segmenter, tuple(batch.images.shape[1:])
    check_output(segmenter, problem.variables, shape)
    check_method(explainer, segmenter, problem.variables, shape)


def check_output(segmenter: Segmenter, variables: Any, shape: tuple[int, ...]) -> None:
    """Raise the model's own `ModelError`, the same for every method, for images [*S, C]."""
    leaves, structure = jax.tree.flatten(shapes_of(variables))
    _check_output(segmenter, structure, tuple(leaves), tuple(shape))


def check_method(
    explainer: Explainer, segmenter: Segmenter, variables: Any, shape: tuple[int, ...]
) -> None:
    """Raise `ConfigError` or `ModelError` for a method that cannot explain this model at all."""
    if "gradient" in explainer.needs:
        outcome = getattr(explainer, "outcome", "")
        if outcome and not get_outcome(outcome).differentiable:
            raise ConfigError(
                f"{explainer.name}.outcome is {outcome!r}, which has no gradient; use "
                f"{get_outcome(outcome).soft}"
            )
        check_gradient(explainer.name, segmenter, variables, shape)
    explainer.check_model(segmenter, variables, shape)


def check_gradient(name: str, segmenter: Segmenter, variables: Any, shape: tuple[int, ...]) -> None:
    """Raise `ModelError` where the model has no gradient with respect to images [*S, C]."""
    leaves, structure = jax.tree.flatten(shapes_of(variables))
    reason = _no_gradient(segmenter, structure, tuple(leaves), tuple(shape))
    if reason:
        raise ModelError(
            f"{name} needs the model's gradient, and it has none ({reason}); use a method that "
            'only runs the model forward, such as ate with perturbation="zero"'
        )


def run_each(explainer: Explainer, problem: Problem, batch: Batch, mesh: Mesh) -> Explanation:
    """`explain_one` for every example, split over the mesh, as many at a time as fit a device."""
    fit = gradients_that_fit if "gradient" in explainer.needs else images_that_fit
    device, shape = mesh.devices.flat[0], batch.images.shape[1:]
    at_a_time = fit(device, problem.segmenter, problem.variables, shape)

    def part(shared: tuple[Explainer, Problem], examples: tuple) -> Explanation:
        return jax.lax.map(
            lambda example: explain_example(*shared, *example),
            examples,
            batch_size=min(at_a_time, examples[0].shape[0]),
        )

    given = (batch.others, batch.groups, batch.sizes)
    examples = (batch.images, batch.targets, batch.image_ids, *given)
    return shard_examples(part, mesh)((explainer, problem), examples)


def explain_example(
    explainer: Explainer,
    problem: Problem,
    image: Array,
    target: SegmentTarget,
    image_id: Array,
    others: Array | None = None,
    group: Array | None = None,
    size: Array | None = None,
) -> Explanation:
    """Explain one image [*S, C]; `vmap` it over images, targets and ids."""
    example = example_of(problem, image, target, image_id, others, group, size)
    with one_stream():
        parts = explainer.explain_one(problem, example)
    return finish(problem.segmenter, example, parts)


def example_of(
    problem: Problem,
    image: Array,
    target: SegmentTarget,
    image_id: Array,
    others: Array | None = None,
    group: Array | None = None,
    size: Array | None = None,
) -> Example:
    """One image [*S, C] with its logits and its key."""
    # Methods that compute the logits anyway give them back; the compiler then drops these.
    logits = problem.segmenter.logits(problem.variables, image[None])[0]
    key = jax.random.fold_in(fold_words(problem.key, image_id), target.class_index)
    return Example(
        image=image,
        target=target,
        image_id=image_id,
        key=key,
        logits=logits,
        others=others,
        group=group,
        size=size,
    )


def first_status(target: SegmentTarget, finite: jax.Array) -> jax.Array:
    """Status int32 [] by what is asked: OK, EMPTY_TARGET, EMPTY_REGION or NON_FINITE.

    Args:
      target: leaves [*S].
      finite: bool [], whether image and logits are.
    """
    status = jnp.where(jnp.any(target.segment), Status.OK, Status.EMPTY_TARGET)
    status = jnp.where(jnp.any(target.region), status, Status.EMPTY_REGION)
    return jnp.where(finite, status, Status.NON_FINITE).astype(jnp.int32)


def all_finite(*arrays: Array) -> jax.Array:
    """Whether every number of some arrays is finite, bool []."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(array)) for array in arrays]))


def finish(segmenter: Segmenter, example: Example, parts: Parts) -> Explanation:
    """The explanation with its status and the prediction; see `conclude`."""
    logits = example.logits if parts.logits is None else parts.logits
    prediction = segmenter.output.prediction(jnp.where(jnp.isfinite(logits), logits, 0.0))
    return conclude(example.target, prediction, all_finite(example.image, logits), parts)


def conclude(
    target: SegmentTarget, prediction: jax.Array, finite: jax.Array, parts: Parts
) -> Explanation:
    """`finish` where the logits are no longer there: the status, and what it says of the parts.

    Where the status is one without a result, maps are zeros, scores and traces NaN.

    Args:
      target: leaves [*S].
      prediction: int32 [*S] or bool [*S, K], of the image.
      finite: bool [], whether image and logits are.
      parts: what the method found.
    """
    if parts.attribution is not None:
        finite &= all_finite(parts.attribution)
    if parts.finite is not None:
        finite &= parts.finite
    status = first_status(target, finite)
    if parts.status is not None:
        status = jnp.where(status == Status.OK, parts.status, status).astype(jnp.int32)
    usable = (status == Status.OK) | (status == Status.NOT_REACHED)

    def masked(values: jax.Array) -> jax.Array:
        return jnp.where(usable, values, jnp.zeros_like(values))

    attribution = parts.attribution
    maps = {name: masked(value) for name, value in parts.maps.items()}
    return Explanation(
        attribution=None if attribution is None else masked(attribution),
        status=status,
        scores={name: jnp.where(usable, value, jnp.nan) for name, value in parts.scores.items()},
        maps=maps | {"prediction": prediction},
        traces={name: jnp.where(usable, value, jnp.nan) for name, value in parts.traces.items()},
    )


def _check_targets(batch: Batch) -> None:
    images, region = tuple(batch.images.shape), tuple(batch.targets.region.shape)
    rank, classes = len(images) - 2, tuple(jnp.shape(batch.targets.class_index))
    # Several regions of an image have one more axis, after the batch's.
    if region[-rank:] != images[1:-1] or classes != region[:-rank] or classes[:1] != images[:1]:
        raise ConfigError(
            f"regions {region} of classes {classes} for images {images}; give each image a class "
            "and a region of one value a pixel"
        )


def _check_others(explainer: Explainer, batch: Batch) -> None:
    images = tuple(batch.images.shape)
    found = () if batch.others is None else tuple(batch.others.shape)
    if batch.others is None or 0 in found:
        raise ConfigError(f"{explainer.name} needs other images; give others=, images like these")
    if (*found[:1], *found[2:]) != images:
        raise ConfigError(
            f"other images {found} for images {images}; give each image some of the same size and "
            "channels"
        )


def _check_pool(explainer: Explainer, problem: Problem, batch: Batch) -> None:
    pool, side = problem.pool, explainer.patch_side
    if pool is None:
        raise ConfigError(
            f"{explainer.name} needs patches of other images; give others=, images like these, or "
            'set perturbation="zero" where the method has it'
        )
    wanted = (*(side,) * (batch.images.ndim - 2), batch.images.shape[-1])
    if tuple(pool.patches.shape[1:]) != wanted:
        raise ConfigError(
            f"the pool's patches are {tuple(pool.patches.shape[1:])}, but {explainer.name} and the "
            f"images need {wanted} (block_size, ..., channels); build the pool from images like "
            "these"
        )


# Both are remembered: they trace the model, which takes longer than to explain a small batch.
@remembered(_REMEMBERED)
def _check_output(segmenter: Segmenter, structure: Any, leaves: tuple, shape: tuple) -> None:
    variables = jax.tree.unflatten(structure, leaves)
    jax.eval_shape(segmenter, variables, jax.ShapeDtypeStruct((1, *shape), jnp.float32))


@remembered(_REMEMBERED)
def _no_gradient(segmenter: Segmenter, structure: Any, leaves: tuple, shape: tuple) -> str:
    """Why there is no gradient; empty where there is one."""
    if not segmenter.differentiable:
        return "it is described so"
    variables = jax.tree.unflatten(structure, leaves)
    image = jax.ShapeDtypeStruct((1, *shape), jnp.float32)

    def gradient(variables: Any, image: jax.Array) -> jax.Array:
        return jax.grad(lambda x: jnp.sum(segmenter(variables, x)))(image)

    dtypes = []

    def apply(variables: Any, inputs: jax.Array) -> Any:
        raw = segmenter.apply(variables, inputs)
        # What has no dtype is no array, as `segmenter` is about to say.
        dtypes.append(getattr(segmenter.output.picked(raw), "dtype", None))
        return raw

    jax.eval_shape(segmenter.replace(apply=apply), variables, image)  # a wrong model says so itself
    if not jnp.issubdtype(dtypes[0], jnp.floating):
        return f"its output is {dtypes[0]}"
    try:
        jax.eval_shape(gradient, variables, image)
    except Exception as error:  # whatever JAX says of somebody's model
        return str(error).strip().split("\n")[0] or type(error).__name__
    return ""


def _explain_batch(
    explainer: Explainer, problem: Problem, batch: Batch, *, mesh: Mesh, kind: type
) -> Explanation:
    # `kind` is a part of the key under which JAX keeps the program. To JAX the structures of two
    # classes are equal where their static settings are (jax.tree_util.register_dataclass, seen
    # with 0.10.2), and it then ran one method's program for another now and then.
    del kind
    found = explainer.explain_batch(problem, batch, mesh)
    return run_each(explainer, problem, batch, mesh) if found is None else found


_compiled = functools.partial(jax.jit, static_argnames=("mesh", "kind"))(_explain_batch)
