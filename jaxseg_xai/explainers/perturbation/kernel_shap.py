"""KernelSHAP: Shapley values of image parts by weighted least squares over random coalitions."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.fields import setting
from jaxseg_xai.core.segmenter import Segmenter
from jaxseg_xai.explainers.base import Meta
from jaxseg_xai.explainers.perturbation.base import meta_of_perturbation
from jaxseg_xai.explainers.perturbation.players import num_players
from jaxseg_xai.explainers.perturbation.shapley import SCORES, Found, Game, Shapley


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class KernelShap(Shapley):
    """KernelSHAP of image parts: the additive model that fits random coalitions best.

    With v(S) the outcome where the players in S are shown and the others hold the baseline, phi
    minimises

        sum over drawn S of (v(S) - v(none) - sum over i in S of phi_i)^2

    under sum of phi = v(all) - v(none), where a size s of n players is drawn in proportion to
    1 / (s (n - s)), then a coalition of that size; every one together with the players it leaves
    out. With all coalitions phi is the Shapley value. It is, up to rounding, where there are no
    more than 2^P <= num_samples of them (P <= 12): all are then evaluated, and the standard error
    is 0.

    Attribution float32 [*S], signed, in units of the outcome: the value of the pixel's player, each
    positive where showing it helps. Map `standard_error`, of the values, from the residuals of the
    pairs. Scores: `outcome` v(all); `hidden_outcome` v(none); `num_players` that the region can
    see, the others get 0 and take no part; `num_evaluations`; `area_target` in pixels.

    Attributes:
      num_samples: coalitions, half of them drawn; at least 4 for each player.
      players, block_size: see `Shapley`.
      outcome: this and what hidden pixels hold: see `Perturbation`.

    References:
      Lundberg and Lee, arXiv 1705.07874, theorem 2; pairs and the constraint as in Covert and Lee,
      arXiv 2012.01536, sections 3.1 and 4.2. For segmentation: arXiv 2604.11775.
    """

    name: ClassVar[str] = "kernel_shap"
    meta: ClassVar[Meta] = meta_of_perturbation(
        "Red: with what is here the {outcome} is higher, by its Shapley value; blue: lower.",
        "All hidden {hidden_outcome:.1f}; {num_players:.0f} parts, {num_evaluations:.0f} "
        "evaluations.",
        **SCORES,
    )
    num_samples: int = setting(1024, static=True, at_least=2)

    def sampled(self, count: int) -> int:
        """See `Shapley.sampled`."""
        del count
        return 2 * (self.num_samples // 2) + 1

    def check_model(self, segmenter: Segmenter, variables: Any, shape: tuple[int, ...]) -> None:
        """See `Explainer.check_model`.

        Raises:
          ConfigError: fewer than four samples a player.
        """
        del variables
        count = num_players(self.players, self.block_size, shape[:-1], segmenter.output)
        if not self.is_exact(count) and self.num_samples < 4 * count:
            raise ConfigError(
                f"{self.name} of {count} players, and num_samples is {self.num_samples}; give at "
                f"least {4 * count}, or a larger block_size"
            )

    def draw(self, matters: jax.Array, key: jax.Array) -> jax.Array:
        """The first coalition of every pair, bool [pairs, P], of the players that matter [P]."""
        numbers = jnp.arange(self.num_samples // 2)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
        return jax.vmap(_coalition, (0, None))(keys, matters)

    def estimate(self, game: Game, key: jax.Array) -> Found:
        """See `Shapley.estimate`.

        Of a pair only the difference counts: y = v(S) - v(rest) = sum of phi_i z_i + residual, with
        z_i = 1 in S and -1 in the rest.
        """
        pairs, players = self.num_samples // 2, game.matters.size
        first = self.draw(game.matters, key)
        rest = game.matters & ~first
        shown = jnp.stack([first, rest], axis=1).reshape(-1, players)
        outcomes = game.outcomes(jnp.concatenate([jnp.zeros((1, players), bool), shown]))
        hidden, both = outcomes[0], outcomes[1:].reshape(-1, 2)
        y = both[:, 0] - both[:, 1]
        z = first.astype(jnp.float32) - rest
        matters = game.matters.astype(jnp.float32)
        # A player that does not matter has an equation of its own: phi = 0.
        gram = _product(z.T, z) / pairs + jnp.diag(1 - matters)
        inverse = jnp.linalg.inv(gram)
        rows = _product(inverse, matters)
        total = jnp.maximum(jnp.sum(rows * matters), 1e-12)
        free = _product(inverse, _product(z.T, y)) / pairs
        missing = game.whole - hidden - jnp.sum(free * matters)
        values = (free + rows * missing / total) * matters
        residual = y - _product(z, values)
        # The sandwich of the constrained fit, with the usual correction for small samples.
        pull = inverse - jnp.outer(rows, rows) / total
        moved = _product(z * residual[:, None], pull)
        left = jnp.maximum(pairs - game.number + 1, 1)
        error = jnp.sqrt(jnp.sum(moved**2, axis=0) / (pairs * left)) * matters
        return Found(values, error, hidden, jnp.float32(2 * pairs + 1))


def _coalition(key: jax.Array, matters: jax.Array) -> jax.Array:
    """Some of the n players that matter: of a size by the kernel, then at random; bool [P]."""
    n, sizes = jnp.sum(matters), jnp.arange(matters.size)
    inside = (sizes > 0) & (sizes < n)
    weight = jnp.where(inside, 1.0 / jnp.where(inside, sizes * (n - sizes), 1), 0.0)
    # Of a single player nothing is inside: the empty coalition, and the other is the whole.
    weight = jnp.where(n > 1, weight, (sizes == 0).astype(jnp.float32))
    size = jax.random.categorical(jax.random.fold_in(key, 0), jnp.log(weight))
    place = jax.random.uniform(jax.random.fold_in(key, 1), matters.shape, jnp.float32)
    order = jnp.argsort(jnp.where(matters, place, jnp.inf))
    rank = jnp.zeros_like(order).at[order].set(jnp.arange(matters.size))
    return matters & (rank < size)


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)
