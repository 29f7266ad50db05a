"""Average treatment effect of a network's parts: channels, layers and skip connections."""

import dataclasses
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxseg_xai.core.fields import setting
from jaxseg_xai.core.segmenter import Segmenter
from jaxseg_xai.core.types import Array, Explanation
from jaxseg_xai.devices.mesh import replicate
from jaxseg_xai.explainers.base import Batch, Example, Explainer, Meta, Need, Parts, Problem
from jaxseg_xai.explainers.parts.effects import (
    exact_outcomes,
    first_order_effects,
    observe,
    read_by,
)
from jaxseg_xai.explainers.parts.layout import effects_of, parts_of
from jaxseg_xai.explainers.runner import all_finite, check_gradient, finish
from jaxseg_xai.outcomes import OUTCOMES, get_outcome
from jaxseg_xai.program.cache import sites_of, traced_for_one
from jaxseg_xai.program.memory import interventions_that_fit
from jaxseg_xai.program.sites import Site, select_sites
from jaxseg_xai.program.trace import Program

_INTERVENTIONS = ("resample", "mean", "zero")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class ComponentAte(Explainer):
    """Effect of replacing a part's activation, in units of the outcome in the region.

    A part is a channel of a layer, a whole layer, or a skip connection, see
    `jaxseg_xai.program.sites.find_sites`. With v(x) its activation on the image x and
    O(x; do(v = w)) the outcome when it is w instead,

        ATE = mean over w of O(x; do(v = w)) - O(x).

    Negative: the part, as it is on this image, helps. The first-order estimate is
    <grad_v O(x), mean(w) - v(x)>, of a differentiable outcome; one backward pass an image gives it
    for all parts. The two differ where the outcome is not linear in the activation.

    No attribution. Traces float32 [U], one number for each of the U parts that `describe` names:
    `ate`, `standard_error` (over the replacements; NaN with one) and `first_order`. Score
    `base_outcome` O(x).

    Attributes:
      intervention: w is "resample", v on each of the other images; "mean", its mean over them and
        all positions, channel by channel; or "zero".
      outcome: of the exact effects, see `jaxseg_xai.outcomes`. First order takes soft Dice in the
        place of Dice.
      exact_channels: intervene on every channel; else channels get the first-order estimate only
        (a U-Net has hundreds to thousands of them, but some twenty layers and skips).
      layers: names of the only layers and skip connections; all where empty.
      num_others: other images whose activations are put in, for each image.
      batch_size: interventions that one device evaluates at a time; None chooses by its memory. No
        result depends on it.

    References:
      PdCR, arXiv 2602.20511, names effects of "network components"; its published code has those
      of input blocks only, so this is our reading of it. Resampling: Chan et al., "Causal
      scrubbing" (2022). First order: Syed et al., attribution patching, arXiv 2310.10348.
    """

    name: ClassVar[str] = "components"
    traceable: ClassVar[bool] = False
    meta: ClassVar[Meta] = Meta(
        target="reference",
        figure="parts",
        unit="{outcome}",
        signed=True,
        needs=frozenset({"others"}),
        note="Negative: the outcome falls when the part is replaced, so the part helps. Positive: "
        "it rises, so the part hurts.",
        caption="Outcome without intervention: {base_outcome:.1f}.",
        scores={"base_outcome": "outcome without intervention"},
    )
    intervention: Literal["resample", "mean", "zero"] = setting(
        "resample", static=True, choices=_INTERVENTIONS
    )
    outcome: str = setting("dice", static=True, choices=OUTCOMES)
    exact_channels: bool = setting(True, static=True)
    layers: tuple[str, ...] = setting((), static=True)
    num_others: int = setting(4, static=True, at_least=1)
    batch_size: int | None = setting(None, static=True, idle=True, at_least=1)

    @property
    def needs(self) -> frozenset[Need]:
        """Other images, whose activations are put in; none for "zero"."""
        return self.meta.needs - {"others"} if self.intervention == "zero" else self.meta.needs

    def check_model(self, segmenter: Segmenter, variables: Any, shape: tuple[int, ...]) -> None:
        """See `Explainer.check_model`.

        Raises:
          ConfigError: an unknown layer.
          ModelError: the model has no layer, or no gradient.
        """
        check_gradient(self.name, segmenter, variables, shape)
        self.find(segmenter, variables, shape)

    def describe(
        self, segmenter: Segmenter, variables: Any, shape: tuple[int, ...]
    ) -> dict[str, Any]:
        """The U parts: their `names`, `kinds` and `channels`, see `layout.parts_of`."""
        _, sites = self.find(segmenter, variables, shape)
        return parts_of(sites)

    def find(
        self, segmenter: Segmenter, variables: Any, shape: tuple[int, ...]
    ) -> tuple[Program, tuple[Site, ...]]:
        """The model traced for one image of a shape (*S, C), and where to intervene in it."""
        program = traced_for_one(segmenter, variables, shape)
        return program, select_sites(sites_of(program), self.layers)

    def explain_batch(self, problem: Problem, batch: Batch, mesh: Mesh) -> Explanation:
        """See `Explainer.explain_batch`.

        One program is compiled per layer and skip connection: it evaluates what depends on it for
        all its channels and replacements, dealt out to the devices. Images follow one another.
        """
        program, sites = self.find(problem.segmenter, problem.variables, batch.images.shape[1:])
        variables = replicate(problem.variables, mesh)
        problem = dataclasses.replace(problem, variables=variables)
        # Where none are needed they are not looked at.
        others: Array = batch.others if "others" in self.needs else batch.images[:, None]
        found: list[Explanation] = []
        for i, valid in enumerate(np.asarray(batch.valid)):
            if found and not valid:  # it only fills up the batch: any result will do
                found.append(found[0])
                continue
            example = Example(
                image=batch.images[i],
                target=jax.tree.map(lambda leaf, i=i: leaf[i], batch.targets),
                image_id=batch.image_ids[i],
                key=problem.key,
                logits=jnp.zeros(()),  # come with the parts
                others=others[i],
                size=None if batch.sizes is None else batch.sizes[i],
            )
            parts = self._one_image(problem, program, sites, example, mesh)
            found.append(jax.device_get(finish(problem.segmenter, example, parts)))
        return jax.tree.map(lambda *leaves: np.stack(leaves), *found)

    def _one_image(
        self,
        problem: Problem,
        program: Program,
        sites: tuple[Site, ...],
        example: Example,
        mesh: Mesh,
    ) -> Parts:
        """Effects of all parts on one image."""
        variables, output = problem.variables, problem.segmenter.output
        image, target = example.image, example.target
        seen = observe(
            variables,
            image,
            example.others,
            intervention=self.intervention,
            program=program,
            sites=sites,
        )
        base = get_outcome(self.outcome).value(output, seen.logits, target)
        slopes = first_order_effects(
            variables,
            image,
            target,
            seen.means,
            output=output,
            outcome=self.outcome,
            program=program,
            sites=sites,
        )
        fitting = interventions_that_fit(mesh.devices.flat[0], lambda: program)
        # All handed out before anything is waited for.
        whole_only = [site.kind == "skip" or not self.exact_channels for site in sites]
        outcomes = [
            exact_outcomes(
                variables,
                {value: seen.values[value] for value in read_by(program, site)},
                replacements,
                target,
                output=output,
                outcome=self.outcome,
                whole_only=alone,
                batch_size=self.batch_size or fitting,
                program=program,
                site=site,
                mesh=mesh,
            )
            for site, alone, replacements in zip(sites, whole_only, seen.replacements, strict=True)
        ]
        numbers = jax.device_get((base, outcomes, slopes))
        base, outcomes, slopes = numbers
        samples = [len(replacements) for replacements in seen.replacements]
        rows = [
            1 if a else site.num_channels + 1 for site, a in zip(sites, whole_only, strict=True)
        ]
        cut = [
            found[: r * s].reshape(r, s)
            for found, r, s in zip(outcomes, rows, samples, strict=True)
        ]
        return Parts(
            attribution=None,
            scores={"base_outcome": base},
            traces=effects_of(sites, base, cut, slopes),
            finite=all_finite(example.others, *jax.tree.leaves(numbers)),
            logits=seen.logits,
        )
