"""MiSuRe at a fixed number of iterations: a forward and a backward pass each."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from benchmarks.agree.misure import compare_stage_1
from benchmarks.agree.verdict import Validation, all_of, explained
from benchmarks.arrays import Arrays, Inputs, some
from benchmarks.harness.machine import flops_of
from benchmarks.harness.record import Row
from benchmarks.harness.settings import Settings
from benchmarks.methods.base import MethodCase, Prepared, Ran, images_done, peer_model
from benchmarks.methods.inputs import inputs_of, small_objects
from jaxseg_xai.explainers.misure.paper import MisurePaper
from jaxseg_xai.explainers.misure.stages import Job, MaskedModel
from jaxseg_xai.explainers.misure.windows import WholeView, WindowView, first_holding, plan_windows
from jaxseg_xai.models import Bundle

#: Images that are compared with the peers'. AdamW amplifies rounding, on some images to percents of
#: the loss: only what is stable in PyTorch counts.
_CHECKED_IMAGES = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class MisureCase(MethodCase):
    """Both stages of the published loss for `lanes` images."""

    peer_images: int | None = 2
    flops_of: str = (
        "forward and backward passes of stage 2; forward passes of stage 1, one a dilation"
    )

    def compared_results(self, ran: Ran) -> tuple[Any, dict[str, Arrays]]:
        """The peers' results of few images, and what rounding does to these."""
        if not ran.peers:
            return ran.found, {}
        from benchmarks.peers.misure import rounding
        from benchmarks.peers.unet import tuned_copy

        few, folded = slice(_CHECKED_IMAGES), tuned_copy(peer_model(ran.main.bundle))
        noise = rounding(folded, ran.main.inputs.some(few), ran.main.explainer)
        return ran.found, {name: some(found | noise, few) for name, found in ran.peers.items()}

    def validate(self, ran: Ran, mesh: Mesh) -> Validation:
        """Also: stage 1 of our other settings must be the same, windows or not."""
        verdicts = {"the published loss": super().validate(ran, mesh)}
        others = ran.ours.keys() - {ran.compared}
        if not others or ran.settings.dtype != "float32":
            return verdicts["the published loss"]
        subject = ran.main.subject(ran.main.bundle, "float32")
        for name in sorted(others):
            verdicts[f"status of {name}"] = explained(ran.results[name])
            theirs = ran.ours[name].arrays(ran.results[name])
            verdicts[name] = compare_stage_1(ran.main.arrays(ran.found), theirs, subject)
        return all_of(verdicts)

    def figures(self, ran: Ran) -> dict[str, Any]:
        """Also tables: the windows that the images took, and seconds an image of everyone."""
        lanes, steps = ran.settings.lanes, ran.main.explainer.num_iterations
        share, windows = _windows(ran)
        rows = [{"who": who} | row for who, row in seconds_of(ran).items()]
        return {
            "work": {"explanations": float(lanes), "iterations": float(lanes * steps)},
            "flops": _flops(ran, share),
            "flops_of": self.flops_of,
            "peer_sample": images_done(ran),
            "series": {"windows": windows, "settings": rows},
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmallObjectCase(MisureCase):
    """The same for one small object, in a box, in a large image.

    Also (not with --quick) as if nothing were known of the regions, and without windows.
    """

    def prepare(self, settings: Settings, bundle: Bundle, explainer: Any) -> Prepared:
        images, regions = small_objects(bundle, settings, settings.lanes)
        classes = np.ones(settings.lanes, np.int32)
        inputs = inputs_of(bundle, images, classes, explainer, regions)
        side = max(int(regions.any(axis).sum(axis=1).max()) for axis in (1, 2))
        ours = dataclasses.replace(explainer, region_side=side)
        found = {"ours": (ours, inputs)}
        if not settings.quick:
            whole, dense = {"region_side": None}, {"windows": ()}
            found["ours, all of the output"] = (dataclasses.replace(ours, **whole), inputs)
            found["ours, no windows"] = (dataclasses.replace(ours, **dense), inputs)
        return found


def seconds_of(ran: Ran) -> dict[str, Any]:
    """Seconds an image of everyone who was timed, and how much faster than the peers that is."""
    scales = {name: sample.scale for name, sample in images_done(ran).items()}
    lanes, timings = ran.settings.lanes, ran.timings
    each = {who: t.median * scales.get(who, 1.0) / lanes for who, t in timings.items()}
    return {
        who: {"seconds / image": seconds}
        | {f"times faster than {peer}": each[peer] / seconds for peer in ran.peers}
        for who, seconds in each.items()
    }


def _windows(ran: Ran) -> tuple[float, list[Row]]:
    """Mean share of a dense step's FLOPs, and the windows that the images took."""
    segmenter, variables = ran.main.bundle.segmenter, ran.main.bundle.variables
    shape, misure = ran.main.inputs.images.shape[1:], ran.main.explainer
    crops = plan_windows(segmenter, variables, shape, misure.windows, misure.region_side)
    views = [*(WindowView(crop, variables) for crop in crops), WholeView(segmenter, variables)]
    regions = jnp.asarray(ran.found.maps["sufficient_region"])
    which = np.asarray(first_holding(views, regions, jnp.asarray(ran.main.inputs.targets.region)))
    names = [*(str(crop.window[0]) for crop in crops), "whole image"]
    shares = np.array([*(crop.share for crop in crops), 1.0])
    counts = np.bincount(which, minlength=len(names))
    table: list[Row] = [
        {"window": name, "images": float(count), "share of the FLOPs": float(share)}
        for name, count, share in zip(names, counts, shares, strict=True)
    ]
    return float(shares[which].mean()), table


def _flops(ran: Ran, share: float) -> float | None:
    """Of all images; `share` is that of a pass in its window."""
    bundle, inputs, misure = ran.main.bundle, ran.main.inputs, ran.main.explainer
    iteration = step_flops(misure, bundle, inputs)
    forward = flops_of(bundle.segmenter, bundle.variables, inputs.images[:1])
    if iteration is None or forward is None:
        return None
    # Forward passes besides: inside Y and after each dilation in the window (or a smaller one);
    # the prediction, of the mask and of its region on the whole image.
    lanes, dilations = len(inputs.images), float(np.sum(ran.found.scores["num_dilations"]))
    in_windows = lanes * misure.num_iterations * iteration + (lanes + dilations) * forward
    return in_windows * share + 3 * lanes * forward


def step_flops(misure: MisurePaper, bundle: Bundle, inputs: Inputs) -> float | None:
    """FLOPs of one iteration on one image."""
    job = jax.tree.map(lambda leaf: leaf[0], jobs_of(inputs))
    state = jax.eval_shape(misure.start, job, jnp.int32(0))

    def step(variables: Any, job: Job, state: Any) -> Any:
        return misure.step(masked_model(bundle, variables, job), job, state)

    return flops_of(step, bundle.variables, job, state)


def masked_model(bundle: Bundle, variables: Any, job: Job) -> MaskedModel:
    """The model that stage 2 of a job sees, without windows."""
    view = WholeView(bundle.segmenter, variables)
    return MaskedModel(functools.partial(view.logits, None, job.image), bundle.segmenter.output)


def jobs_of(inputs: Inputs) -> Job:
    """Jobs [N] whose sufficient region is the segment."""
    layers = jnp.where(jnp.asarray(inputs.targets.segment), 0, 1).astype(jnp.int32)
    return Job(
        jnp.asarray(inputs.images), inputs.targets, layers, jnp.zeros(len(layers), jnp.int32)
    )


MISURE = MisureCase(
    name="misure",
    about="MiSuRe, 100 iterations",
    compiles=True,
    defaults=Settings(model="reference", size=128, lanes=32),
    quick=Settings(model="reference", size=128, lanes=4),
    explainer=MisurePaper(),
    shorter={"num_iterations": 5},
    references=("misure_paper",),
)
MISURE_512 = SmallObjectCase(
    name="misure-512",
    about="the same of a small object in a large image, through windows, 20 iterations",
    defaults=Settings(model="reference", size=512, lanes=4),
    quick=Settings(model="random", size=256, lanes=2, width=4),
    explainer=MisurePaper(num_iterations=20),
    shorter={"num_iterations": 5},
    references=("misure_paper",),
)
