"""RISE: what the model segments when random parts of the image are shown."""

import dataclasses
import functools
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg_xai.core.fields import setting
from jaxseg_xai.devices.jobs import equal_batches
from jaxseg_xai.explainers.base import Example, Explainer, Meta, Parts, Problem
from jaxseg_xai.outcomes import OUTCOMES, get_outcome

_INTERPOLATIONS = ("linear", "nearest")
_DIVISORS = ("shown", "expected")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Rise(Explainer):
    """Mean outcome of the images in which a pixel is shown, over random masks.

    A mask m is a grid of cells, each 1 with probability p and else 0, interpolated to the image and
    shifted at random by less than a cell. With O the outcome of a class in a region (by default the
    Dice of what is segmented in the masked image with what is explained), and masks m_1 to m_n,

        a = sum over i of O(x m_i) m_i / sum over i of m_i.

    Attribution float32 [*S], not negative for Dice, in units of the outcome: high where showing the
    pixel goes with a good segmentation. Only differences within a map mean something. Scores:
    `outcome` O(x); `mean_outcome` over the masked images; `area_target` in pixels.

    Attributes:
      num_masks: n; the error falls with its square root.
      grid: cells along each axis.
      keep: p, the share of cells that are shown.
      interpolation: of the cells: "linear" (soft masks, as published) or "nearest" (hard ones).
      divisor: what the sum is divided by: "shown", the masks' own sum at each pixel, or "expected",
        n p, as published.
      outcome: see `jaxseg_xai.outcomes`.
      batch_size: masks that a device looks at together, for each image.

    References:
      Petsiuk et al., RISE, arXiv 1806.07421, eq. 6; with Dice in the place of the class score as in
      SegRISE. Pixels that are not shown hold 0 of the normalised input.
    """

    name: ClassVar[str] = "rise"
    meta: ClassVar[Meta] = Meta(
        unit="{outcome}",
        signed=False,
        note="Bright: showing the pixel goes with a better {outcome}.",
        caption="Outcome {outcome:.1f} {unit}; {mean_outcome:.1f} over the masked images.",
        scores={
            "outcome": "outcome of the image",
            "mean_outcome": "mean outcome of the masked images",
            "area_target": "pixels explained",
        },
    )
    num_masks: int = setting(2000, static=True, at_least=1)
    grid: int = setting(7, static=True, at_least=1)
    keep: float = setting(0.5, above=0, below=1)
    interpolation: Literal["linear", "nearest"] = setting(
        "linear", static=True, choices=_INTERPOLATIONS
    )
    divisor: Literal["shown", "expected"] = setting("shown", static=True, choices=_DIVISORS)
    outcome: str = setting("dice", static=True, choices=OUTCOMES)
    batch_size: int = setting(8, static=True, idle=True, at_least=1)

    def num_passes(self, shape: tuple[int, ...]) -> int:
        """See `Explainer.num_passes`."""
        del shape
        return self.num_masks

    def explain_one(self, problem: Problem, example: Example) -> Parts:
        """See `Explainer.explain_one`."""
        segmenter, target = problem.segmenter, example.target
        value = functools.partial(get_outcome(self.outcome).value, segmenter.output)
        shape = example.image.shape[:-1]
        at_once = equal_batches(self.num_masks, self.batch_size)

        def some_masks(sums: tuple[jax.Array, ...], first: jax.Array) -> tuple[tuple, None]:
            numbers = first + jnp.arange(at_once)
            keys = jax.vmap(jax.random.fold_in, (None, 0))(example.key, numbers)
            masks = jax.vmap(functools.partial(self._mask, shape))(keys)
            masks *= (numbers < self.num_masks).reshape(-1, *[1] * len(shape))
            shown_of = jnp.where(example.own, masks[..., None], 1.0)
            logits = segmenter.logits(problem.variables, example.image * shown_of)
            outcomes = jax.vmap(value, (0, None))(logits, target)
            outcomes = jnp.where(numbers < self.num_masks, outcomes, 0.0)
            weighted, shown, total = sums
            weighted += jnp.tensordot(outcomes, masks, axes=1, precision=lax.Precision.HIGHEST)
            return (weighted, shown + jnp.sum(masks, axis=0), total + jnp.sum(outcomes)), None

        nothing = (jnp.zeros(shape), jnp.zeros(shape), jnp.float32(0))
        starts = jnp.arange(0, self.num_masks, at_once)
        (weighted, shown, total), _ = lax.scan(some_masks, nothing, starts)
        if self.divisor == "expected":
            shown = jnp.full(shape, self.num_masks * self.keep)
        return Parts(
            # A pixel that no mask shows has nothing to be measured by.
            attribution=jnp.where(shown > 0, weighted / jnp.where(shown > 0, shown, 1.0), 0.0),
            scores={
                "outcome": value(example.logits, target),
                "mean_outcome": total / self.num_masks,
                "area_target": jnp.sum(target.segment, dtype=jnp.float32),
            },
        )

    def _mask(self, shape: tuple[int, ...], key: jax.Array) -> jax.Array:
        """One mask float32 [*S] in [0, 1]."""
        of_cells, of_shift = jax.random.fold_in(key, 0), jax.random.fold_in(key, 1)
        cells = jax.random.bernoulli(of_cells, self.keep, (self.grid,) * len(shape))
        sides = jnp.array([-(-size // self.grid) for size in shape])
        # One cell more than the image has, so that every shift covers it.
        whole = tuple(-(-size // self.grid) * (self.grid + 1) for size in shape)
        large = jax.image.resize(cells.astype(jnp.float32), whole, self.interpolation)
        shift = jax.random.randint(of_shift, (len(shape),), 0, sides)
        return lax.dynamic_slice(large, shift, shape)
