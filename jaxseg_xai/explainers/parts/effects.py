"""What is computed for interventions on a network's parts: activations, outcomes, gradients."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh

from jaxseg_xai.core.caches import remembered
from jaxseg_xai.core.output_spec import OutputSpec
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.devices.jobs import equal_batches
from jaxseg_xai.devices.mesh import shard_examples
from jaxseg_xai.outcomes import get_outcome
from jaxseg_xai.program.sites import Site, run_shifted
from jaxseg_xai.program.trace import Program, operand


class Observed(NamedTuple):
    """What is known of an image before any intervention.

    Attributes:
      logits: [*S, K].
      values: values of the program that interventions read.
      replacements: for each site, what is put in its place, [samples, *its shape].
      means: for each site, the mean of these.
    """

    logits: jax.Array
    values: dict[int, jax.Array]
    replacements: list[jax.Array]
    means: list[jax.Array]


@functools.partial(jax.jit, static_argnames=("intervention", "program", "sites"))
def observe(
    variables: Any,
    image: jax.Array,
    others: jax.Array,
    *,
    intervention: str,
    program: Program,
    sites: tuple[Site, ...],
) -> Observed:
    """Everything that the interventions on one image share.

    Args:
      variables: the weights.
      image: [*S, C].
      others: [R, *S, C], not looked at for "zero".
      intervention: "resample", "mean" or "zero".
      program: the model, traced for one image.
      sites: where to intervene.
    """
    values = program.run(variables, image[None])

    def tensors(other: jax.Array) -> list[jax.Array]:
        found = program.run(variables, other[None])
        return [found[site.value] for site in sites]

    if intervention == "zero":
        replacements = [jnp.zeros_like(values[site.value])[None] for site in sites]
    else:
        replacements = lax.map(tensors, others)
    if intervention == "mean":
        replacements = [_mean(r, site) for r, site in zip(replacements, sites, strict=True)]
    wanted = {value for site in sites for value in read_by(program, site)}
    return Observed(
        logits=operand(values, program.logits)[0],
        values={value: values[value] for value in sorted(wanted)},
        replacements=replacements,
        means=[jnp.mean(r, axis=0) for r in replacements],
    )


def _mean(samples: jax.Array, site: Site) -> jax.Array:
    """Mean over samples and all axes but that of the channels, [1, *shape of a sample]."""
    axes = [axis for axis in range(samples.ndim) if axis != site.axis + 1]
    mean = jnp.mean(samples, axis=axes, keepdims=True)
    return jnp.broadcast_to(mean, (1, *samples.shape[1:]))


@remembered(1024)
def read_by(program: Program, site: Site) -> tuple[int, ...]:
    """The values an intervention needs of the image without it: the weights are there anyway."""
    changed = site.changed(program)
    made = {value for equation in changed for value in equation.outputs}
    read = {atom for equation in changed for atom in equation.inputs if isinstance(atom, int)}
    read |= {site.value, program.logits}
    return tuple(sorted(read - made - set(program.variables)))


@functools.partial(
    jax.jit,
    static_argnames=("output", "outcome", "whole_only", "batch_size", "program", "site", "mesh"),
)
def exact_outcomes(
    variables: Any,
    values: dict[int, jax.Array],
    replacements: jax.Array,
    target: SegmentTarget,
    *,
    output: OutputSpec,
    outcome: str,
    whole_only: bool,
    batch_size: int,
    program: Program,
    site: Site,
    mesh: Mesh,
) -> jax.Array:
    """Outcomes of replacing a tensor on one image.

    Args:
      variables: the weights.
      values: `Observed.values` of `read_by`.
      replacements: [samples, *shape of the tensor].
      target: of the outcome, leaves [*S].
      output: what the logits mean.
      outcome: its name.
      whole_only: replace no single channels.
      batch_size: interventions that one device evaluates at a time, at most.
      program: the model, traced for one image.
      site: where to intervene.
      mesh: interventions are dealt out to its devices.

    Returns:
      float32 [n >= (channels + 1) * samples], laid out as [channels + 1, samples]: each channel
      replaced and, in the last row, the whole tensor; for `whole_only` as [1, samples], only that
      row. What comes after only fills up the devices; the caller cuts it off on the host. (Cut off
      here, the devices would exchange data, and on CPU many programs that do so deadlock when they
      run at once.)
    """
    value_of = get_outcome(outcome).value
    channels, samples = site.num_channels, len(replacements)
    first = channels if whole_only else 0
    num_jobs = (channels + 1 - first) * samples
    batch_size = equal_batches(-(-num_jobs // mesh.size), batch_size)
    place = [1] * replacements[0].ndim
    place[site.axis] = channels
    number = jnp.arange(channels).reshape(place)

    def on_each_device(shared: Any, jobs: jax.Array) -> jax.Array:
        variables, values, replacements, target = shared
        known = {**dict(zip(program.variables, jax.tree.leaves(variables), strict=True)), **values}

        def intervene(job: jax.Array) -> jax.Array:
            channel, sample = first + job // samples, job % samples
            replaced = (number == channel) | (channel == channels)
            tensor = jnp.where(replaced, replacements[sample], values[site.value])
            logits = site.run_from(program, known, tensor)
            return value_of(output, logits[0], target)

        return lax.map(jax.vmap(intervene), jobs.reshape(-1, batch_size)).reshape(-1)

    # The last job is repeated to fill up the devices.
    padded = -(-num_jobs // (mesh.size * batch_size)) * mesh.size * batch_size
    jobs = jnp.minimum(jnp.arange(padded), num_jobs - 1)
    return shard_examples(on_each_device, mesh)((variables, values, replacements, target), jobs)


@functools.partial(jax.jit, static_argnames=("output", "outcome", "program", "sites"))
def first_order_effects(
    variables: Any,
    image: jax.Array,
    target: SegmentTarget,
    means: list[jax.Array],
    *,
    output: OutputSpec,
    outcome: str,
    program: Program,
    sites: tuple[Site, ...],
) -> list[jax.Array]:
    """Effects [channels] of every site on one image: <grad_v O(x), mean - v(x)> per channel.

    Args:
      variables: the weights.
      image: [*S, C].
      target: of the outcome, leaves [*S].
      means: `Observed.means`, one for each site.
      output: what the logits mean.
      outcome: its name; where it has no gradient, the outcome that it names stands in for it.
      program: the model, traced for one image.
      sites: where to intervene.
    """
    smooth = get_outcome(get_outcome(outcome).soft)

    def value(shifts: list[jax.Array]) -> tuple[jax.Array, list[jax.Array]]:
        logits, tensors = run_shifted(program, variables, image[None], sites, shifts)
        return smooth.value(output, logits[0], target), tensors

    gradients, tensors = jax.grad(value, has_aux=True)([jnp.zeros_like(mean) for mean in means])
    effects = []
    for site, gradient, mean, own in zip(sites, gradients, means, tensors, strict=True):
        axes = [axis for axis in range(own.ndim) if axis != site.axis]
        effects.append(jnp.sum(gradient * (mean - own), axis=axes, dtype=jnp.float32))
    return effects
