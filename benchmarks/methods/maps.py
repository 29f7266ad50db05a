"""What reviewers know: Grad-CAM, integrated gradients, and the model's confidence."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from benchmarks.cases import base, checks
from benchmarks.cost import flops_of
from benchmarks.flips import bundle_logits
from benchmarks.inputs import choose_images, frozen_batch, make_batch, open_model, whole_images
from benchmarks.machine import peak_memory
from benchmarks.peers.results import AttributionResult
from benchmarks.record import Measurement, PeerSample
from benchmarks.references import MAP_SCORES, load_map
from benchmarks.settings import Settings
from benchmarks.timing import compile_apart, interleave
from benchmarks.validation import Validation, shaken
from jaxseg_xai.core.types import Explanation, SegmentTarget, Status
from jaxseg_xai.devices.mesh import replicate
from jaxseg_xai.explainers import Batch, Confidence, GradCam, IntegratedGradients, explain
from jaxseg_xai.models.bundle import Bundle, load_model
from jaxseg_xai.models.predict import Dtype

Method = GradCam | IntegratedGradients | Confidence

_QUICK_NODES = 8
#: Of a square image: as it is, turned and flipped.
_VIEWS = 8
#: Images that the peers do which take one at a time, where a path is integrated for each.
_PEER_IMAGES = 2
#: Relative L2 difference of a map. Grad-CAM in float32: rounding, seen up to 2e-6; more where
#: channels cancel. Integrated gradients: points of the path that rounding moves across kinks of
#: ReLUs; seen up to 4e-4. Fewer bits: other pixels are explained, too; in bfloat16 seen up to 0.56
#: (a faint map) and 0.46 on a CPU, tensorfloat32 not yet measured. A sign gives 1 or more. Entropy:
#: rounding where classes are nearly as likely, seen up to 1.2e-5; in bfloat16 0.2 on a CPU.
TOLERANCES: dict[str, dict[Dtype, float]] = {
    GradCam.name: {"float32": 1e-4, "tensorfloat32": 0.2, "bfloat16": 0.8},
    IntegratedGradients.name: {"float32": 3e-3, "tensorfloat32": 0.2, "bfloat16": 0.8},
    Confidence.name: {"float32": 1e-3, "tensorfloat32": 0.1, "bfloat16": 0.3},
}
_WHY = {
    GradCam.name: "rounding where channels cancel; another sign or layer gives 1 or more",
    IntegratedGradients.name: "rounding that crosses kinks of ReLUs on the path; a sign gives 2",
    Confidence.name: "rounding of logits; logarithms to another base give 0.3",
}


def run_grad_cam(settings: Settings, mesh: Mesh) -> Measurement:
    """Grad-CAM of `lanes` images at the bottleneck."""
    return measure(settings, mesh, GradCam())


def run_integrated_gradients(settings: Settings, mesh: Mesh) -> Measurement:
    """Integrated gradients of `lanes` images."""
    few = {"num_nodes": _QUICK_NODES} if settings.quick else {}
    return measure(settings, mesh, IntegratedGradients(**few))


def run_confidence(settings: Settings, mesh: Mesh) -> Measurement:
    """Confidence, entropy and test-time augmentation of `lanes` images."""
    return measure(settings, mesh, Confidence())


def measure(settings: Settings, mesh: Mesh, method: Method) -> Measurement:
    """Time and check a method."""
    bundle = open_model(settings)
    images, classes = choose_images(bundle, settings, settings.lanes)
    batch = make_batch(bundle, images, classes, explainer=method.name)
    variables = replicate(bundle.variables, mesh)
    compiled, compile_seconds = compile_apart(
        explain, method, variables, batch, predict=bundle.predict, mesh=mesh
    )
    contenders: dict[str, Callable[[], Any]] = {"ours": lambda: compiled(method, variables, batch)}
    contenders |= _peers(settings, bundle, images, classes, method)
    timings, results = interleave(contenders, base.pace(settings))
    sample = {
        name: PeerSample(
            what=f"the first {len(result.segment)} of {settings.lanes} images, one at a time",
            scale=settings.lanes / len(result.segment),
        )
        for name, result in results.items()
        if name != "ours" and len(result.segment) < settings.lanes
    }
    work = {"explanations": float(settings.lanes)}
    if isinstance(method, IntegratedGradients):
        work["gradients"] = float(settings.lanes * method.num_nodes)
    if isinstance(method, Confidence):
        work["forwards"] = float(settings.lanes * _VIEWS)
    return Measurement(
        compile_seconds=compile_seconds,
        timings=timings,
        work=work,
        flops=_flops(method, bundle, batch),
        flops_of="forward passes, and backward passes of all or of the layers above Grad-CAM's; of "
        "confidence, a forward pass a view",
        memory=peak_memory(compiled, mesh),
        ratios=base.ratios(timings, {name: s.scale for name, s in sample.items()}),
        peer_sample=sample,
        validation=_validate(settings, mesh, bundle, batch, method, compiled, results),
    )


def _peers(
    settings: Settings, bundle: Bundle, images: np.ndarray, classes: np.ndarray, method: Method
) -> dict[str, Callable[[], Any]]:
    if not settings.peers:
        return {}
    from benchmarks.peers import attribution, confidence, with_captum
    from benchmarks.peers.unet import tuned_copy

    model = base.peer_model(bundle)
    folded = tuned_copy(model)
    peers: Any = confidence if isinstance(method, Confidence) else attribution
    one_by_one = isinstance(method, IntegratedGradients)
    few = slice(_PEER_IMAGES if one_by_one else None)
    all_of_them: dict[str, Callable[[], Any]] = {
        "original": lambda: peers.explain_original(model, images[few], classes[few], method),
        "tuned": lambda: peers.explain_tuned(folded, images, classes, method),
    }
    chosen = {name: all_of_them[name] for name in settings.peers}
    asked = "original" in chosen
    if isinstance(method, IntegratedGradients) and asked and with_captum.has_captum():
        chosen["captum"] = lambda: with_captum.integrated_gradients(
            model, images[few], classes[few], method
        )
    return chosen


def _flops(method: Method, bundle: Bundle, batch: Batch) -> float | None:
    """Of a batch; XLA counts the body of the loop over the nodes (or views) once."""
    forward = flops_of(bundle.predict, bundle.variables, batch.images[:1])
    if isinstance(method, Confidence):
        return None if forward is None else len(batch.images) * _VIEWS * forward
    example = jax.tree.map(lambda leaf: leaf[0], (batch.images, batch.targets))

    def one(variables: Any, image: Any, target: SegmentTarget) -> Any:
        return method.explain(bundle.predict, variables, image, target)

    once = flops_of(one, bundle.variables, *example)
    if once is None or forward is None:
        return None
    ends = 2 * forward  # of the path: evaluated beside the loop
    nodes = method.num_nodes if isinstance(method, IntegratedGradients) else 1
    return len(batch.images) * (nodes * (once - ends) + ends)


def _validate(
    settings: Settings,
    mesh: Mesh,
    bundle: Bundle,
    batch: Batch,
    method: Method,
    run: Callable[..., Any],
    results: Any,
) -> Validation:
    found = {"frozen reference": frozen(settings, mesh, method)}
    if np.any(np.asarray(results["ours"].status) != Status.OK):
        return checks.failed("an image has a status other than OK")
    variables = replicate(bundle.variables, mesh)
    images = np.asarray(batch.images)

    def again(images: np.ndarray) -> AttributionResult:
        changed = dataclasses.replace(batch, images=images)
        return _result(method, run(method, variables, changed), batch.targets)

    ours = _result(method, results["ours"], batch.targets)
    moved = moved_by_rounding(again, images, ours) if settings.peers else np.zeros(len(images))
    for name, expected in results.items():
        if name != "ours":
            few = slice(len(expected.segment))
            same = checks.images_of(ours, few)
            classes = np.asarray(batch.targets.class_index)[few]
            found[name] = compare(
                same, expected, bundle, images[few], classes, moved[few], method, settings.dtype
            )
    return checks.all_of(found)


def moved_by_rounding(
    run: Callable[[np.ndarray], AttributionResult], images: np.ndarray, result: AttributionResult
) -> np.ndarray:
    """How far the maps of images [N, H, W, C] are from `result` when these are shaken, [N]."""
    maps = [run(other).attribution for other in shaken(images)]
    return np.max([checks.relative_l2(m, result.attribution) for m in maps], axis=0)


def frozen(settings: Settings, mesh: Mesh, method: Method) -> Validation:
    """Our map of the images of the frozen reference, against it.

    Args:
      settings: for the dtype.
      mesh: the devices.
      method: of which class; the settings are those of the reference.
    """
    reference = load_map(method.name)
    bundle = load_model(reference.model, dtype=settings.dtype)

    def run(images: np.ndarray) -> AttributionResult:
        targets = whole_images(images, reference.class_indices)
        padded = frozen_batch(images, targets, mesh)
        explanation = explain(
            reference.settings, bundle.variables, padded, predict=bundle.predict, mesh=mesh
        )
        found = _result(reference.settings, explanation, padded.targets)
        return checks.images_of(found, slice(len(images)))

    ours = run(reference.images)
    return compare(
        ours,
        reference.result,
        load_model(reference.model),
        reference.images,
        reference.class_indices,
        moved_by_rounding(run, reference.images, ours),
        method,
        settings.dtype,
    )


def _result(method: Method, explanation: Explanation, targets: SegmentTarget) -> AttributionResult:
    return AttributionResult.of(explanation, targets, MAP_SCORES[method.name])


def compare(
    found: AttributionResult,
    expected: AttributionResult,
    bundle: Bundle,
    images: np.ndarray,
    classes: np.ndarray,
    moved: np.ndarray,
    method: Method,
    dtype: Dtype,
) -> Validation:
    """Maps of two implementations of a method; `moved` is from `moved_by_rounding`."""
    tolerance = TOLERANCES[method.name][dtype]
    if dtype != "float32":
        why = f"{dtype} keeps few bits: other pixels are explained, and gradients are rough"
        return checks.compare_rough_maps(found, expected, tolerance, why)
    logits = bundle_logits(bundle)
    return checks.compare_maps(
        found, expected, logits, images, classes, moved, tolerance, _WHY[method.name]
    )
