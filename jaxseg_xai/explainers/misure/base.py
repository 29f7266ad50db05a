"""Settings and entry points that all forms of MiSuRe share."""

import dataclasses
from typing import Any, Self

import jax
from jax.sharding import Mesh

from jaxseg_xai.core.fields import setting
from jaxseg_xai.core.segmenter import Segmenter
from jaxseg_xai.core.types import Explanation
from jaxseg_xai.devices.lanes import LaneUse
from jaxseg_xai.devices.mesh import shard_examples
from jaxseg_xai.explainers.base import Batch, Explainer, Meta, Problem
from jaxseg_xai.explainers.misure.both_stages import explain_jobs
from jaxseg_xai.explainers.misure.stages import Found, Job, MaskedModel
from jaxseg_xai.explainers.misure.windows import plan_windows
from jaxseg_xai.program.memory import forward_lanes, gradients_that_fit

#: The scores that all forms have; "dilations" are those of stage 1.
_SCORES = {
    "num_dilations": "dilations until the region was sufficient",
    "dice_start": "Dice when only the segment itself is shown",
    "dice_trace_area": "area under the Dice over the dilations",
    "dice_sufficient": "Dice when the sufficient region is shown",
    "dice_minimal": "Dice when the minimal region is shown",
    "area_target": "pixels explained",
    "area_sufficient": "area of the sufficient region over that of the segment",
    "area_minimal": "area of the minimal region over that of the segment",
    "mask_inside": "mean attribution in the segment",
    "mask_outside": "mean attribution in the sufficient region beside the segment",
    "iterations": "steps of stage 2",
    "loss_foreground": "loss of the class at the end: 1 - soft Dice, times its weight",
    "loss_background": "loss of all that is not the class at the end, times its weight",
}


def misure_meta(*, title: str, unit: str, note: str, scores: dict[str, str]) -> Meta:
    """The `Meta` of a form of MiSuRe, by what it has of its own."""
    return Meta(
        target="prediction",
        figure="regions",
        unit=unit,
        signed=False,
        needs=frozenset({"gradient"}),
        note=note,
        caption="{num_dilations:.0f} dilations  ·  Dice with the original: sufficient "
        "{dice_sufficient:.3f}, minimal {dice_minimal:.3f}\n"
        "area: prediction {area_target:.0f} px, sufficient {area_sufficient:.2f}×, minimal "
        "{area_minimal:.2f}× that",
        titles={"attribution": title},
        scores=_SCORES | scores,
        counts_beside=True,
        features=True,
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class MisureBase(Explainer):
    """Stage 1, and how examples go through both stages; a subclass has the search of stage 2.

    Attributes:
      tau: hard Dice at which a region is sufficient, in (0, 1].
      learning_rate: of stage 2.
      max_dilations: stage 1 gives up after so many.
      num_iterations: steps of stage 2, at most.
      element_size: side of the structuring element, an ellipse or ellipsoid, in pixels, odd.
      lanes: images that a device works on at a time, each replaced as soon as it is done; None fits
        its memory (on CPU: two). It changes results by rounding, which a search can amplify.
      windows: sides in pixels of the square or cubic windows that may be looked through, where they
        hold the mask: exact up to rounding, and cheaper. Those that save little for the model are
        left out. None chooses them for large images and volumes, () has none.
      region_side: every region fits into a box of this side, so that windows need not show what the
        model makes of the rest of the image: cheaper still. None if nothing is known of the
        regions. Where one is larger the whole image is looked at.
    """

    tau: float = setting(0.9, above=0, at_most=1)
    learning_rate: float = setting(0.01, above=0)
    max_dilations: int = setting(64, static=True, at_least=1, at_most=10_000)
    num_iterations: int = setting(100, static=True, at_least=1)
    # Dilating costs a few operations a pixel of the element.
    element_size: int = setting(7, static=True, at_least=1, at_most=63, odd=True)
    lanes: int | None = setting(None, static=True, idle=True, at_least=1)
    windows: tuple[int, ...] | None = setting(None, static=True, idle=True, at_least=1)
    region_side: int | None = setting(None, static=True, idle=True, at_least=1)

    def in_box(self, side: int) -> Self:
        """The same for regions that fit into a box of a side, unless `region_side` says so."""
        return self if self.region_side else dataclasses.replace(self, region_side=side)

    def window_share(self, segmenter: Segmenter, variables: Any, shape: tuple[int, ...]) -> float:
        """See `Explainer.window_share`; of the smallest window, which may not hold every mask."""
        crops = plan_windows(segmenter, variables, shape, self.windows, self.region_side)
        return crops[0].share if crops else 1.0

    def explain_batch(self, problem: Problem, batch: Batch, mesh: Mesh) -> Explanation:
        """Both stages for every example of a batch, the examples split over the mesh.

        Returns:
          Explanations with the attribution [B, *S] in [0, 1]; maps `sufficient_region`,
          `minimal_region` (where the mask that the model was shown is above 0.5), `prediction` and
          `masked_prediction` (what the model segments from the masked image); scores; traces `dice`
          (per dilation) and those of stage 2. Status NOT_REACHED comes with the result from the
          last dilation.
        """
        return self.explain_batch_counting(problem, batch, mesh)[0]

    def explain_batch_counting(
        self, problem: Problem, batch: Batch, mesh: Mesh
    ) -> tuple[Explanation, LaneUse]:
        """As `explain_batch`; also how busy the lanes of stage 2 were, int32 [devices]."""
        segmenter, shape = problem.segmenter, batch.images.shape[1:]
        device = mesh.devices.flat[0]
        num_lanes = self.lanes or gradients_that_fit(device, segmenter, problem.variables, shape)
        crops = plan_windows(segmenter, problem.variables, shape, self.windows, self.region_side)

        def part(shared: tuple, examples: tuple) -> tuple[Explanation, LaneUse]:
            explainer, variables = shared
            found, use = explain_jobs(
                explainer,
                segmenter,
                variables,
                *examples,
                num_lanes=num_lanes,
                forward_lanes=forward_lanes(device, num_lanes),
                crops=crops,
            )
            return found, jax.tree.map(lambda count: count[None], use)

        examples = (batch.images, batch.targets, batch.valid, batch.sizes)
        return shard_examples(part, mesh)((self, problem.variables), examples)

    @property
    def num_searches(self) -> int:
        """One search a job."""
        return 1

    def start(self, job: Job, number: jax.Array) -> Any:
        """See `Stage2.start`."""
        raise NotImplementedError

    def step(self, model: MaskedModel, job: Job, state: Any) -> Any:
        """See `Stage2.step`."""
        raise NotImplementedError

    def is_done(self, state: Any) -> jax.Array:
        """See `Stage2.is_done`."""
        raise NotImplementedError

    def found(self, job: Job, state: Any) -> Found:
        """See `Stage2.found`."""
        raise NotImplementedError

    def together(self, model: MaskedModel, job: Job, found: Found) -> Found:
        """See `Stage2.together`; what the only search has found."""
        del model, job
        return jax.tree.map(lambda leaf: leaf[0], found)

    def measure(
        self, model: MaskedModel, job: Job, mask: jax.Array, logits: jax.Array
    ) -> dict[str, jax.Array]:
        """See `Stage2.measure`."""
        raise NotImplementedError
