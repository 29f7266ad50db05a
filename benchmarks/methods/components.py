"""The ATE of a network's parts: layers, their channels, skip connections."""

from collections.abc import Callable
from typing import Any, NamedTuple

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
from benchmarks.record import Measurement, PeerSample, Row
from benchmarks.settings import Settings
from benchmarks.timing import interleave, timed
from benchmarks.validation import Validation
from jaxseg_xai.core.types import SegmentTarget, Status
from jaxseg_xai.explainers.parts.components import ComponentAte
from jaxseg_xai.explainers.parts.effects import read_by
from jaxseg_xai.explainers.parts.table import ComponentTable
from jaxseg_xai.models.bundle import Bundle, load_model
from jaxseg_xai.models.predict import Dtype
from jaxseg_xai.program.sites import find_sites
from jaxseg_xai.program.trace import trace

#: The soft Dice, which rounding does not flip.
_METHOD = ComponentAte(outcome="soft_dice")
#: Images whose activations are put in, for each.
_NUM_OTHERS = 2
#: On CPUs the peers intervene on every so many-th channel. Elsewhere on all, as the tuned one needs
#: the full batches to be fast.
_EVERY = 16
#: Root mean square of the difference over all layers, all channels or all skip connections, exact
#: and first order, as a share of that of the effects: rounding of the soft Dice; gradients at
#: kinks of ReLUs. In bfloat16 on a CPU 0.023 and 0.17; tensorfloat32 not yet measured.
_TOLERANCES: dict[Dtype, dict[str, float]] = {
    "float32": {"effects": 1e-5, "first_order": 3e-3},
    "tensorfloat32": {"effects": 0.1, "first_order": 0.4},
    "bfloat16": {"effects": 0.1, "first_order": 0.4},
}
#: In points: a soft Dice of up to 100 is rounded by about 1e-5, however small the effects.
_ROUNDING = 1e-4
_WHY = {
    "effects": "rounding of the soft Dice; a sign gives twice the effects",
    "first_order": "gradients at kinks of ReLUs; a sign gives twice the effects",
}


class _Work(NamedTuple):
    """Images [N, H, W, C], their targets, and other images for each [N, R, H, W, C]."""

    images: np.ndarray
    targets: SegmentTarget
    others: np.ndarray


def run(settings: Settings, mesh: Mesh) -> Measurement:
    """Exact and first-order effects of all parts on `lanes` images."""
    bundle, count = open_model(settings), settings.lanes
    chosen, classes = choose_images(bundle, settings, count * (1 + _NUM_OTHERS))
    images, others = chosen[:count], chosen[count:]
    work = _Work(
        images=images,
        targets=make_batch(bundle, images, classes[:count], explainer="misure").targets,
        others=others.reshape(count, _NUM_OTHERS, *images.shape[1:]),
    )
    contenders: dict[str, Callable[[], Any]] = {
        "ours": lambda: _METHOD.explain(bundle.predict, bundle.variables, *work, mesh)
    }
    contenders |= _peers(settings, bundle, work)
    _, first_seconds = timed(contenders["ours"])
    timings, results = interleave(contenders, base.pace(settings))
    parts = results["ours"].effects.shape[1]
    sample = {
        name: _sample(parts, int(_asked(results["ours"], _every()).sum()))
        for name in contenders
        if name != "ours"
    }
    flops, table = _flops(bundle, images)
    return Measurement(
        # Programs are compiled when they are first called, or were by an earlier case.
        compile_seconds=max(0.0, first_seconds - timings["ours"].median),
        timings=timings,
        work={
            "explanations": float(count),
            "interventions": float(count * parts * _NUM_OTHERS),
        },
        flops=None if flops is None else flops * count,
        flops_of="the layers after each intervention",
        memory=peak_memory(None, mesh),
        ratios=base.ratios(timings, {name: s.scale for name, s in sample.items()}),
        peer_sample=sample,
        validation=_validate(settings, mesh, bundle, work, results),
        series={"flops": table},
    )


def frozen(settings: Settings, mesh: Mesh) -> Validation:
    """Our effects on the images of the frozen reference, against it."""
    reference = load_components()
    bundle = load_model(reference.model, dtype=settings.dtype)
    work = (reference.images, reference.targets, reference.others)
    table = reference.settings.explain(bundle.predict, bundle.variables, *work, mesh)
    return compare(table, reference.result, settings.dtype)


def compare(
    table: ComponentTable, expected: ComponentResult, dtype: Dtype, every: int = 1
) -> Validation:
    """Our effects against a peer's, who intervened on every so many-th channel."""
    if np.any(table.statuses != Status.OK):
        return checks.failed("an image has a status other than OK")
    found = ComponentResult.of(table)
    if found.parts != expected.parts:
        return checks.failed("the two find other parts in the network")
    verdicts = {}
    for what, tolerance in _TOLERANCES[dtype].items():
        asked = _asked(table, every if what == "effects" else 1)
        for kind in dict.fromkeys(table.kinds):
            chosen = asked & (np.array(table.kinds) == kind)
            ours, wanted = (getattr(result, what)[:, chosen] for result in (found, expected))
            verdicts[f"{what} of every {kind}"] = _alike(ours, wanted, tolerance, _WHY[what])
    return checks.all_of(verdicts)


def _alike(found: np.ndarray, expected: np.ndarray, share: float, why: str) -> Validation:
    """Effects [N, parts]; the verdict on the image that is nearest to its bound."""
    off, size = (np.sqrt(np.mean(np.square(x), axis=1)) for x in (found - expected, expected))
    off = np.where(np.isfinite(off), off, np.inf)
    bound = np.fmax(share * size, _ROUNDING)
    worst = np.argmax(off / bound)
    return Validation(
        max_abs_diff=float(off[worst]),
        tolerance=float(bound[worst]),
        unit="points, root mean square",
        passed=bool((off <= bound).all()),
        why=why,
        measured={"parts": float(found.shape[1])},
    )


def _asked(table: ComponentTable, every: int) -> np.ndarray:
    """Parts that a peer intervenes on, bool [U]."""
    return np.array([c is None or c % every == 0 for c in table.channels])


def _every() -> int:
    return _EVERY if jax.default_backend() == "cpu" else 1


def _peers(settings: Settings, bundle: Bundle, work: _Work) -> dict[str, Callable[[], Any]]:
    if not settings.peers:
        return {}
    from benchmarks.peers import components
    from benchmarks.peers.unet import tuned_copy

    model = base.peer_model(bundle)
    components.find_sites(model)  # refuses some models, before anything has run
    folded = tuned_copy(model)
    all_of_them: dict[str, Callable[[], Any]] = {
        "original": lambda: components.effects_original(model, *work, _every()),
        "tuned": lambda: components.effects_tuned(folded, *work, _every()),
    }
    return {name: all_of_them[name] for name in settings.peers}


def _sample(parts: int, done: int) -> PeerSample:
    """Both look at the image and at the others once, besides."""
    looks = 1 + _NUM_OTHERS
    return PeerSample(
        what=f"{done} of {parts} parts, without first order",
        scale=(parts * _NUM_OTHERS + looks) / (done * _NUM_OTHERS + looks),
    )


def _flops(bundle: Bundle, images: np.ndarray) -> tuple[float | None, list[Row]]:
    """Of all interventions on an image; what they save on average, as the peers save nothing."""
    forward = flops_of(bundle.predict, bundle.variables, images[:1])
    if forward is None:
        return None, []
    program = trace(bundle.predict, bundle.variables, (1, *images.shape[1:]), jnp.float32)
    weights = dict(zip(program.variables, jax.tree.leaves(bundle.variables), strict=True))
    total, count = 0.0, 0
    for site in find_sites(program):

        def after(weights: Any, values: Any, put: Any, site: Any = site) -> jax.Array:
            return site.run_from(program, weights | values, put)

        values = {value: program.shapes[value] for value in read_by(program, site)}
        # After the head XLA counts none.
        each = flops_of(after, weights, values, program.shapes[site.value]) or 0.0
        times = _NUM_OTHERS * (1 if site.kind == "skip" else site.num_channels + 1)
        total, count = total + each * times, count + times
    mean = total / count
    row: Row = {
        "of a forward pass": forward,
        "of an intervention": mean,
        "times fewer": forward / mean,
    }
    return total, [row]


def _validate(
    settings: Settings, mesh: Mesh, bundle: Bundle, work: _Work, results: dict[str, Any]
) -> Validation:
    found = {"frozen reference": frozen(settings, mesh)}
    if settings.peers:
        from benchmarks.peers import components

        model = base.peer_model(bundle)
        slopes, parts = components.first_order(model, *work), components.part_names(model)
        for name in settings.peers:
            expected = ComponentResult(parts=parts, effects=results[name], first_order=slopes)
            found[name] = compare(results["ours"], expected, settings.dtype, _every())
    return checks.all_of(found)
