"""What all methods have in common that hide parts of the image and look at the outcome."""

import dataclasses
from typing import Any, Self, get_args

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from jaxseg_xai.core.fields import setting
from jaxseg_xai.core.segmenter import Segmenter
from jaxseg_xai.core.types import Explanation
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers.ate.engine import Work
from jaxseg_xai.explainers.ate.plans import share_of
from jaxseg_xai.explainers.base import Batch, Example, Explainer, Meta, Need, Parts, Problem
from jaxseg_xai.explainers.runner import example_of, finish
from jaxseg_xai.ops.baselines import Baseline
from jaxseg_xai.ops.control import only_if
from jaxseg_xai.ops.random import one_stream
from jaxseg_xai.outcomes import OUTCOMES


def meta_of_perturbation(note: str, caption: str = "", **more: str) -> Meta:
    """The `Meta` of a signed map of outcomes.

    Args:
      note: how to read it.
      caption: what follows the outcome.
      more: further scores, name -> meaning.
    """
    return Meta(
        unit="{outcome}",
        signed=True,
        note=note,
        caption=f"Outcome {{outcome:.1f}} {{unit}}. {caption}".strip(),
        scores={"outcome": "outcome of the image", "area_target": "pixels explained"} | more,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Perturbation(Explainer):
    """A method that evaluates copies of the image in which something is hidden.

    It has `explain_on`, and an `Evaluator` (or ATE's engine, where one block at a time is hidden)
    deals the copies out to all devices, one image after the other.

    Attributes:
      outcome: see `jaxseg_xai.outcomes`.
      baseline: what hidden pixels hold: "zero" of the prepared (normalised) image, the image's
        "mean" colour, the same image under a "blur", or what "others" hold there (each of
        `num_others` other images, of which outcomes are the mean).
      num_others: other images for each image; only with the baseline "others".
      region_side: the region fits into a box of this side, and nothing else of the output is
        computed; None if nothing is known of it.
      batch_size: copies that a device evaluates at a time; None chooses by its memory. No result
        depends on it.
    """

    outcome: str = setting("dice", static=True, choices=OUTCOMES)
    baseline: Baseline = setting("zero", static=True, choices=get_args(Baseline))
    num_others: int = setting(1, static=True, at_least=1)
    region_side: int | None = setting(None, static=True, idle=True, at_least=1)
    batch_size: int | None = setting(None, static=True, idle=True, at_least=1)

    @property
    def needs(self) -> frozenset[Need]:
        """Other images, where hidden pixels are theirs."""
        return frozenset({"others"} if self.baseline == "others" else ())

    @property
    def num_baselines(self) -> int:
        """Copies of the image that each outcome is the mean of."""
        return self.num_others if self.baseline == "others" else 1

    def in_box(self, side: int) -> Self:
        """See `Explainer.in_box`."""
        return dataclasses.replace(self, region_side=side)

    def hidden_side(self, shape: tuple[int, ...]) -> int:
        """Side of the block in which a copy of an image (*S, C) differs from it: anywhere."""
        return max(shape[:-1])

    def work(
        self, shape: tuple[int, ...], num_copies: int = 1, block_size: int | None = None
    ) -> Work:
        """So many copies of each block of an image (*S, C), by default of `hidden_side`."""
        return Work(
            shape=shape,
            block_size=block_size or self.hidden_side(shape),
            region_side=self.region_side,
            num_regions=1,
            num_patches=num_copies,
            round_size=None,
            batch_size=self.batch_size,
        )

    def window_share(self, segmenter: Segmenter, variables: Any, shape: tuple[int, ...]) -> float:
        """See `Explainer.window_share`; where `region_side` says nothing, of the largest region."""
        return share_of(segmenter, variables, self.work(shape))

    def explain_on(self, mesh: Mesh, problem: Problem, example: Example) -> Parts:
        """Explain one example; called on every device of a `shard_map` over the mesh, all alike."""
        raise NotImplementedError(f"{type(self).__name__} needs explain_on")

    def explain_one(self, problem: Problem, example: Example) -> Parts:
        """See `Explainer.explain_one`; on one device."""
        return self.explain_on(device_mesh(jax.local_devices()[:1]), problem, example)

    def explain_batch(self, problem: Problem, batch: Batch, mesh: Mesh) -> Explanation:
        """See `Explainer.explain_batch`."""

        def on_each_device(shared: tuple[Self, Problem], examples: tuple) -> Explanation:
            explainer, problem = shared

            def one(given: tuple) -> Explanation:
                valid, *arrays = given

                def explain() -> Explanation:
                    example = example_of(problem, *arrays)
                    with one_stream():
                        parts = explainer.explain_on(mesh, problem, example)
                    return finish(problem.segmenter, example, parts)

                # A copy that fills up the batch has nothing to explain.
                return only_if(valid, explain)

            return jax.lax.map(one, examples)

        given = (batch.others, batch.groups, batch.sizes)
        examples = (batch.valid, batch.images, batch.targets, batch.image_ids, *given)
        # check_vma: the loops start from replicated zeros and end in a sum over devices.
        return jax.shard_map(
            on_each_device,
            mesh=mesh,
            in_specs=PartitionSpec(),
            out_specs=PartitionSpec(),
            check_vma=False,
        )((self, problem), jax.tree.map(jnp.asarray, examples))
