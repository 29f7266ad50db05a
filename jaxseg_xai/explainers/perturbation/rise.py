"""RISE: what the model segments when random parts of the image are shown."""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh

from jaxseg_xai.core.fields import setting
from jaxseg_xai.explainers.base import Example, Meta, Parts, Problem
from jaxseg_xai.explainers.perturbation.base import Perturbation
from jaxseg_xai.explainers.perturbation.engine import Evaluator

_INTERPOLATIONS = ("linear", "nearest")
_DIVISORS = ("shown", "expected")
#: Masks that are added up at a time.
_AT_ONCE = 16


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Rise(Perturbation):
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
      outcome: this and what hidden pixels hold: see `Perturbation`.

    References:
      Petsiuk et al., RISE, arXiv 1806.07421, eq. 6; with Dice in the place of the class score as in
      SegRISE.
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

    def num_passes(self, shape: tuple[int, ...]) -> int:
        """See `Explainer.num_passes`."""
        del shape
        return self.num_masks * self.num_baselines

    def explain_on(self, mesh: Mesh, problem: Problem, example: Example) -> Parts:
        """See `Perturbation.explain_on`."""
        shape = example.image.shape[:-1]

        def mask_of(number: jax.Array) -> jax.Array:
            return self._mask(shape, jax.random.fold_in(example.key, number))

        evaluator = Evaluator(self, mesh, problem, example, self.num_masks)
        outcomes = evaluator.outcomes(lambda number: mask_of(number)[..., None])

        def add(sums: tuple[jax.Array, jax.Array], first: jax.Array) -> tuple[tuple, None]:
            # Made a second time: that costs less than to keep them.
            numbers = first + jnp.arange(_AT_ONCE)
            there = (numbers < self.num_masks).astype(jnp.float32)
            masks = jax.vmap(mask_of)(numbers)
            weights = jnp.stack([outcomes[numbers] * there, there])
            more = jnp.tensordot(weights, masks, axes=1, precision=lax.Precision.HIGHEST)
            return (sums[0] + more[0], sums[1] + more[1]), None

        nothing = jnp.zeros(shape), jnp.zeros(shape)
        starts = jnp.arange(0, self.num_masks, _AT_ONCE)
        (weighted, shown), _ = lax.scan(add, nothing, starts)
        if self.divisor == "expected":
            shown = jnp.full(shape, self.num_masks * self.keep)
        # A pixel that no mask shows has nothing to be measured by.
        attribution = jnp.where(shown > 0, weighted / jnp.where(shown > 0, shown, 1.0), 0.0)
        return evaluator.view.parts(example, attribution, mean_outcome=jnp.mean(outcomes))

    def draw(self, shape: tuple[int, ...], key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """What a mask is made of: its cells bool [*(grid,)], and its shift int32 [rank]."""
        of_cells, of_shift = jax.random.fold_in(key, 0), jax.random.fold_in(key, 1)
        cells = jax.random.bernoulli(of_cells, self.keep, (self.grid,) * len(shape))
        sides = jnp.array([-(-size // self.grid) for size in shape])
        return cells, jax.random.randint(of_shift, (len(shape),), 0, sides)

    def _mask(self, shape: tuple[int, ...], key: jax.Array) -> jax.Array:
        """One mask float32 [*S] in [0, 1]."""
        cells, shift = self.draw(shape, key)
        # One cell more than the image has, so that every shift covers it.
        whole = tuple(-(-size // self.grid) * (self.grid + 1) for size in shape)
        large = jax.image.resize(cells.astype(jnp.float32), whole, self.interpolation)
        return lax.dynamic_slice(large, shift, shape)
