"""The ATE of a network's parts: layers, their channels, skip connections."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from benchmarks.cases import base, checks
from benchmarks.component_reference import load_components
from benchmarks.cost import flops_of
from benchmarks.inputs import choose_images, make_batch, open_model
from benchmarks.machine import peak_memory
from benchmarks.peers.results import ComponentResult
from benchmarks.record import Measurement, PeerSample
from benchmarks.settings import Settings
from benchmarks.timing import interleave, timed
from benchmarks.validation import Validation
from jaxseg_xai.explainers.component_effects import read_by
from jaxseg_xai.explainers.component_sites import find_sites
from jaxseg_xai.explainers.component_table import ComponentTable
from jaxseg_xai.explainers.components import ComponentAte
from jaxseg_xai.incremental.trace import trace
from jaxseg_xai.models.bundle import Bundle, load_model
from jaxseg_xai.models.predict import Dtype
from jaxseg_xai.types import SegmentTarget, Status

#: The soft Dice, which rounding does not flip.
_METHOD = ComponentAte(outcome="soft_dice")
#: Images whose activations are put in, for each.
_NUM_OTHERS = 2
#: The peers intervene on every so many-th channel.
_EVERY = 16
#: Relative L2 difference of the effects of all parts, exact and first order: rounding of the soft
#: Dice, seen up to 1e-6; gradients at kinks of ReLUs, seen up to 4e-4. A sign gives 2. In bfloat16
#: on a CPU 0.013 and 0.14; tensorfloat32 not yet measured.
_TOLERANCES: dict[Dtype, tuple[float, float]] = {
    "float32": (1e-5, 3e-3),
    "tensorfloat32": (0.05, 0.4),
    "bfloat16": (0.05, 0.4),
}


def run(settings: Settings, mesh: Mesh) -> Measurement:
    """Exact and first-order effects of all parts on `lanes` images."""
    bundle = open_model(settings)
    count = settings.lanes
    chosen, classes = choose_images(bundle, settings, count * (1 + _NUM_OTHERS))
    images, others = chosen[:count], chosen[count:]
    others = others.reshape(count, _NUM_OTHERS, *images.shape[1:])
    targets = make_batch(bundle, images, classes[:count], explainer="misure").targets

    def ours() -> ComponentTable:
        return _explain(_METHOD, bundle, images, targets, others, mesh)

    _, first_seconds = timed(ours)
    contenders: dict[str, Callable[[], Any]] = {"ours": ours}
    contenders |= _peers(settings, bundle, images, targets, others)
    timings, results = interleave(contenders, base.pace(settings))
    parts = results["ours"].effects.shape[1]
    sample = {
        name: _sample(parts, int(np.isfinite(effects[0]).sum()))
        for name, effects in results.items()
        if name != "ours"
    }
    return Measurement(
        # Programs are compiled when they are first called.
        compile_seconds=first_seconds - timings["ours"].median,
        timings=timings,
        work={
            "explanations": float(count),
            "interventions": float(count * parts * _NUM_OTHERS),
        },
        flops=_flops(bundle, images, count),
        flops_of="the layers after each intervention, in forward passes",
        memory=peak_memory(None, mesh),
        ratios=base.ratios(timings, {name: s.scale for name, s in sample.items()}),
        peer_sample=sample,
        validation=_validate(settings, mesh, bundle, images, targets, others, results),
    )


def frozen(settings: Settings, mesh: Mesh) -> Validation:
    """Our effects on the images of the frozen reference, against it."""
    reference = load_components()
    bundle = load_model(reference.model, dtype=settings.dtype)
    table = _explain(
        reference.settings, bundle, reference.images, reference.targets, reference.others, mesh
    )
    return compare(table, reference.result, settings.dtype)


def compare(table: ComponentTable, expected: ComponentResult, dtype: Dtype) -> Validation:
    """Our effects against a peer's, where it has some; the worse of exact and first order."""
    if np.any(table.statuses != Status.OK):
        return checks.failed("an image has a status other than OK")
    found = {}
    for what, tolerance, why in zip(
        ("effects", "first_order"),
        _TOLERANCES[dtype],
        ("rounding of the soft Dice", "gradients at kinks of ReLUs"),
        strict=True,
    ):
        wanted = getattr(expected, what)
        known = np.isfinite(wanted)
        difference = checks.relative_l2(
            np.where(known, getattr(table, what), 0)[..., None],
            np.where(known, wanted, 0)[..., None],
        ).max()
        found[what] = Validation(
            max_abs_diff=float(difference),
            tolerance=tolerance,
            unit="L2, relative",
            passed=bool(difference <= tolerance and known.any(axis=1).all()),
            why=f"{why}; a sign gives 2",
            measured={"parts": float(known.sum())},
        )
    return checks.all_of(found)


def _explain(
    method: ComponentAte,
    bundle: Bundle,
    images: np.ndarray,
    targets: SegmentTarget,
    others: np.ndarray,
    mesh: Mesh,
) -> ComponentTable:
    return method.explain(bundle.predict, bundle.variables, images, targets, others, mesh)


def _peers(
    settings: Settings,
    bundle: Bundle,
    images: np.ndarray,
    targets: SegmentTarget,
    others: np.ndarray,
) -> dict[str, Callable[[], Any]]:
    if not settings.peers:
        return {}
    from benchmarks.peers import components
    from benchmarks.peers.unet import tuned_copy

    model = base.peer_model(bundle)
    folded, work = tuned_copy(model), (images, targets, others, _EVERY)
    all_of_them: dict[str, Callable[[], Any]] = {
        "original": lambda: components.effects_original(model, *work),
        "tuned": lambda: components.effects_tuned(folded, *work),
    }
    return {name: all_of_them[name] for name in settings.peers}


def _sample(parts: int, done: int) -> PeerSample:
    """Both look at the image and at the others once, besides."""
    looks = 1 + _NUM_OTHERS
    return PeerSample(
        what=f"{done} of {parts} parts: layers, skip connections, every {_EVERY}th channel; "
        "without first order",
        scale=(parts * _NUM_OTHERS + looks) / (done * _NUM_OTHERS + looks),
    )


def _flops(bundle: Bundle, images: np.ndarray, count: int) -> float | None:
    """Of all interventions on `count` images."""
    program = trace(bundle.predict, bundle.variables, (1, *images.shape[1:]), jnp.float32)
    weights = dict(zip(program.variables, jax.tree.leaves(bundle.variables), strict=True))
    total = 0.0
    for site in find_sites(program):
        values = {value: program.shapes[value] for value in read_by(program, site)}

        def after(weights: Any, values: Any, put: Any, site: Any = site) -> jax.Array:
            return site.run_from(program, weights | values, put)

        # XLA counts none after the head.
        each = flops_of(after, weights, values, program.shapes[site.value]) or 0.0
        times = 1 if site.kind == "skip" else site.num_channels + 1
        total += each * times * _NUM_OTHERS * count
    return total or None


def _validate(
    settings: Settings,
    mesh: Mesh,
    bundle: Bundle,
    images: np.ndarray,
    targets: SegmentTarget,
    others: np.ndarray,
    results: dict[str, Any],
) -> Validation:
    found = {"frozen reference": frozen(settings, mesh)}
    if settings.peers:
        from benchmarks.peers import components

        slopes = components.first_order(base.peer_model(bundle), images, targets, others)
        for name in settings.peers:
            expected = ComponentResult(effects=results[name], first_order=slopes)
            found[name] = compare(results["ours"], expected, settings.dtype)
    return checks.all_of(found)
