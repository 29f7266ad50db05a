"""Average treatment effect of a network's parts: channels, layers and skip connections."""

import dataclasses
import functools
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh

from jaxseg_xai.core.errors import ConfigError, DataError
from jaxseg_xai.core.types import Predict, SegmentTarget, Status
from jaxseg_xai.devices.mesh import replicate
from jaxseg_xai.explainers.parts.effects import (
    exact_outcomes,
    first_order_effects,
    observe,
    read_by,
)
from jaxseg_xai.explainers.parts.table import ComponentTable
from jaxseg_xai.outcomes.points import OUTCOMES
from jaxseg_xai.program.memory import interventions_that_fit
from jaxseg_xai.program.sites import Site, find_sites, select_sites
from jaxseg_xai.program.trace import Program, trace

Intervention = Literal["resample", "mean", "zero"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComponentAte:
    """Effect of replacing a part's activation, in points of the outcome in the region.

    A part is a channel of a layer, a whole layer, or a skip connection, see `find_sites`. With v(x)
    its activation on the image x and O(x; do(v = w)) the outcome when it is w instead,

        ATE = mean over w of O(x; do(v = w)) - O(x).

    Negative: the part, as it is on this image, helps. The first-order estimate puts a
    differentiable outcome's <grad_v O(x), mean(w) - v(x)> in its place; all parts get theirs from
    one backward pass per image. They differ where the outcome is not linear in the activation.

    Attributes:
      intervention: w is "resample", v on each of the other images; "mean", its mean over them and
        all positions, channel by channel; or "zero".
      outcome: of the exact effects: "dice", "soft_dice" or "mean_probability", see
        `jaxseg_xai.outcomes.points`. First order takes soft Dice in the place of Dice.
      exact_channels: intervene on every channel; else channels get the first-order estimate only
        (a U-Net has hundreds to thousands of them, but some twenty layers and skips).
      layers: names of the only layers and skip connections; all where empty.
      batch_size: interventions that one device evaluates at a time; None chooses by its memory. No
        result depends on it.

    References:
      PdCR, arXiv 2602.20511, names effects of "network components"; its published code has those
      of input blocks only, so this is our reading of it. Resampling: Chan et al., "Causal
      scrubbing" (2022). First order: Syed et al., attribution patching, arXiv 2310.10348.
    """

    intervention: Intervention = "resample"
    outcome: str = "dice"
    exact_channels: bool = True
    layers: tuple[str, ...] = ()
    batch_size: int | None = None

    def validate(self) -> None:
        """Raise `ConfigError` naming the first value out of its range."""
        if self.intervention not in ("resample", "mean", "zero"):
            raise ConfigError(
                f"components.intervention is {self.intervention!r}; use resample, mean or zero"
            )
        if self.outcome not in OUTCOMES:
            raise ConfigError(f"components.outcome is {self.outcome!r}; use {', '.join(OUTCOMES)}")
        if self.batch_size is not None and self.batch_size < 1:
            raise ConfigError(f"components.batch_size is {self.batch_size}; it must be at least 1")

    @property
    def needs_others(self) -> bool:
        """Whether the activations of other images are put in."""
        return self.intervention != "zero"

    def explain(
        self,
        predict: Predict,
        variables: Any,
        images: np.ndarray,
        targets: SegmentTarget,
        others: np.ndarray | None,
        mesh: Mesh,
    ) -> ComponentTable:
        """Effects of all parts on each of some images.

        One program is compiled per layer and skip connection: it evaluates what depends on it for
        all its channels and replacements, dealt out to the devices.

        Args:
          predict: the model; traced for one image at a time.
          variables: its weights.
          images: float32 [N, H, W, C].
          targets: [N, ...]; class, region and reference of the outcome.
          others: float32 [N, R, H, W, C], R other images for each; not needed for "zero".
          mesh: from `device_mesh`.

        Returns:
          The table. An image without reference pixels in its region, or with a value, logit or
          intervention that is not finite, has a status that says so and NaN effects.

        Raises:
          ConfigError: a setting out of its range, an unknown layer, no other images.
          DataError: shapes that do not fit, or other images that are not finite.
          ModelError: the model has no layer.
        """
        self.validate()
        others = self._checked(images, targets, others)
        leaves, structure = jax.tree.flatten(jax.eval_shape(lambda tree: tree, variables))
        shape = (1, *images.shape[1:])
        program = _trace(predict, structure, tuple(leaves), shape, images.dtype)
        sites = select_sites(find_sites(program), self.layers)
        fitting = interventions_that_fit(mesh.devices.flat[0], lambda: program)
        batch_size = self.batch_size or fitting
        variables = replicate(variables, mesh)
        found = [
            self._one_image(
                program,
                sites,
                variables,
                image,
                jax.tree.map(lambda leaf, i=i: leaf[i], targets),
                others[i],
                batch_size,
                mesh,
            )
            for i, image in enumerate(images)
        ]
        base, outcomes, first_order = zip(*found, strict=True)
        return ComponentTable.of_sites(
            [(site.name, site.kind, site.num_channels) for site in sites],
            statuses=_statuses(images, targets, found),
            base=np.array(base),
            outcomes=outcomes,
            first_order=first_order,
        )

    def _one_image(
        self,
        program: Program,
        sites: tuple[Site, ...],
        variables: Any,
        image: np.ndarray,
        target: SegmentTarget,
        others: np.ndarray,
        batch_size: int,
        mesh: Mesh,
    ) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
        """Outcome [] without intervention; per site outcomes with it, and first-order effects."""
        seen = observe(
            variables,
            image,
            others,
            intervention=self.intervention,
            program=program,
            sites=sites,
        )
        base = OUTCOMES[self.outcome](seen.logits, target)
        slopes = first_order_effects(
            variables,
            image,
            target,
            seen.means,
            outcome=self.outcome,
            program=program,
            sites=sites,
        )
        # All handed out before anything is waited for.
        whole_only = [site.kind == "skip" or not self.exact_channels for site in sites]
        outcomes = [
            exact_outcomes(
                variables,
                {value: seen.values[value] for value in read_by(program, site)},
                replacements,
                target,
                outcome=self.outcome,
                whole_only=alone,
                batch_size=batch_size,
                program=program,
                site=site,
                mesh=mesh,
            )
            for site, alone, replacements in zip(sites, whole_only, seen.replacements, strict=True)
        ]
        base, outcomes, slopes = jax.device_get((base, outcomes, slopes))
        samples = [len(replacements) for replacements in seen.replacements]
        rows = [
            1 if a else site.num_channels + 1 for site, a in zip(sites, whole_only, strict=True)
        ]
        cut = [
            found[: r * s].reshape(r, s)
            for found, r, s in zip(outcomes, rows, samples, strict=True)
        ]
        return base, cut, slopes

    def _checked(
        self, images: np.ndarray, targets: SegmentTarget, others: np.ndarray | None
    ) -> np.ndarray:
        """The other images, or one of zeros, that is never looked at, where none are needed."""
        if images.ndim != 4 or not len(images) or targets.region.shape != images.shape[:3]:
            raise DataError(
                f"images {images.shape} and regions {targets.region.shape}: give at least one "
                "image [N, H, W, C] and regions [N, H, W]"
            )
        if not self.needs_others:
            return np.zeros((len(images), 1, *images.shape[1:]), images.dtype)
        if others is None or others.ndim != 5 or not others.shape[1]:
            raise ConfigError(
                f"components.intervention={self.intervention} needs other images for each image; "
                "give some, or set it to zero"
            )
        if (others.shape[0], *others.shape[2:]) != images.shape:
            raise DataError(
                f"other images {others.shape} do not fit images {images.shape}; give "
                "[N, R, H, W, C] of the same N, H, W and C"
            )
        if not np.isfinite(others).all():
            raise DataError("the other images hold NaN or infinity; leave those out")
        return others


def _statuses(images: np.ndarray, targets: SegmentTarget, numbers: Any) -> np.ndarray:
    """A `Status` for each image, int [N]; `numbers` holds every image's results."""
    region, reference = np.asarray(targets.region), np.asarray(targets.reference)
    finite = [
        all(np.isfinite(leaf).all() for leaf in (image, *jax.tree.leaves(found)))
        for image, found in zip(images, numbers, strict=True)
    ]
    filled = (reference & region).any(axis=(1, 2))
    statuses = np.where(filled, Status.OK, Status.EMPTY_TARGET)
    statuses = np.where(region.any(axis=(1, 2)), statuses, Status.EMPTY_REGION)
    return np.where(finite, statuses, Status.NON_FINITE)


@functools.lru_cache(maxsize=16)
def _trace(predict: Predict, structure: Any, leaves: tuple, shape: tuple, dtype: Any) -> Program:
    """The same program for the same shapes, so that what is compiled for it is found again."""
    return trace(predict, jax.tree.unflatten(structure, leaves), shape, dtype)
