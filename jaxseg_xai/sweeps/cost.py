"""What a sweep of volumes costs: forward passes, counted, and hours, from the time of one."""

import dataclasses
import math
import time
from collections.abc import Mapping

import jax
import numpy as np

from jaxseg_xai.core.errors import ConfigError, JaxsegError
from jaxseg_xai.core.inputs import prepare
from jaxseg_xai.data.checks import read_item
from jaxseg_xai.devices.mesh import device_mesh, replicate
from jaxseg_xai.devices.programs import compiled
from jaxseg_xai.program.predict import lower_prediction
from jaxseg_xai.sweeps.work import Work

#: So few passes are made without asking: one would have to take minutes.
_FEW = 1000
#: Speed of windows, in FLOPs a second, over that of whole passes, at least.
_SPEED_OF_WINDOWS = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one entry.

    Attributes:
      passes: forward passes at most, of all its explanations; a gradient counts as three.
      seconds: of one whole pass, all devices at work.
      share: of the FLOPs of a whole pass that are computed, in windows; 1 where these save nothing,
        as where the model mixes all positions; None of methods that have no windows.
    """

    passes: int
    seconds: float
    share: float | None

    @property
    def hours(self) -> float:
        """Of all passes."""
        share = 1.0 if self.share is None else min(1.0, self.share / _SPEED_OF_WINDOWS)
        return self.passes * self.seconds * share / 3600

    def __str__(self) -> str:
        passes = f"at most {self.passes:,} forward passes of {self.seconds:.2g} s"
        windows = ""
        if self.share == 1:
            windows = ", all of each: windows save nothing here"
        elif self.share is not None:
            windows = f", of each {self.share:.2g} of the work in windows"
        return f"{passes}{windows}, {self.hours:.3g} hours"


def passes_of(work: Work) -> dict[str, int]:
    """Label -> forward passes, of the entries that know them; {} where no image can be used."""
    shape = work.image_shape
    if shape is None:
        return {}
    number = len(work.chosen) * len(work.classes)
    each = {job.label: work.explainer_of(job).num_passes(shape) for job in work.jobs}
    return {label: number * passes for label, passes in each.items() if passes is not None}


def cost_of(work: Work, passes: Mapping[str, int]) -> dict[str, Cost]:
    """Label -> what it costs; the model is run once for that."""
    if not passes:
        return {}
    seconds, shape = _seconds_of_a_pass(work), work.image_shape or ()
    model = (work.bundle.segmenter, work.bundle.variables)
    explainers = {job.label: work.explainer_of(job) for job in work.jobs}
    with jax.enable_x64(False):
        shares = {label: explainers[label].window_share(*model, shape) for label in passes}
    return {
        label: Cost(passes=number, seconds=seconds, share=shares[label])
        for label, number in passes.items()
    }


def check_hours(work: Work, max_hours: float) -> None:
    """Raise `ConfigError` for volumes whose explanations would take longer than that.

    Images are not looked at: what takes long there is computed in windows, whose number of passes
    says little.
    """
    if work.bundle.segmenter.input.rank != 3:
        return
    passes = passes_of(work)
    if sum(passes.values()) <= _FEW:
        return
    costs = cost_of(work, passes)
    hours = sum(cost.hours for cost in costs.values())
    if hours > max_hours:
        label, most = max(costs.items(), key=lambda pair: pair[1].hours)
        raise ConfigError(
            f"the sweep would take {hours:.3g} hours, more than max_hours = {max_hours:g} "
            f"({label}: {most}); choose a smaller region (roi.side), a larger block_size, "
            "perturbation mean, fewer interventions or images (data.limit), or raise max_hours"
        )


def _seconds_of_a_pass(work: Work) -> float:
    """Of one forward pass, where as many go on at once as there are devices."""
    segmenter, mesh = work.bundle.segmenter, device_mesh()
    shape = work.image_shape or ()
    image = np.zeros(shape, np.float32)
    for index in work.chosen:
        try:
            image = prepare(read_item(work.source, index), segmenter.input).image
        except JaxsegError:  # its rows say why
            continue
        break
    image = image[tuple(map(slice, shape))]  # a tile of one that is too large
    images = np.broadcast_to(image, (mesh.size, *image.shape))
    variables = replicate(work.bundle.variables, mesh)
    run, _ = compiled(lower_prediction, variables, images, segmenter=segmenter, mesh=mesh)
    best = math.inf
    for _ in range(3):
        start = time.perf_counter()
        np.asarray(run(variables, images)[1])
        best = min(best, time.perf_counter() - start)
        if best > 1:  # known well enough
            break
    return best / mesh.size
