"""Shapley values of image parts from random orders in which they are shown."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxseg_xai.core.fields import setting
from jaxseg_xai.explainers.base import Meta
from jaxseg_xai.explainers.perturbation.base import meta_of_perturbation
from jaxseg_xai.explainers.perturbation.shapley import SCORES, Found, Game, Shapley


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class ShapleySampling(Shapley):
    """Shapley values of image parts, from random orders in which the parts are shown.

    With v(S) the outcome where the players in S are shown and the others hold the baseline,

        phi_i = mean over orders of v(those before i, and i) - v(those before i).

    Every order comes with its reverse. The values of one order add up to v(all) - v(none), so all
    do. Where there are no more coalitions than evaluations (P <= 12), all coalitions are evaluated
    instead, the values are exact and the standard error is 0.

    Attribution float32 [*S], signed, in units of the outcome: the value of the pixel's player, each
    positive where showing it helps. Map `standard_error`, of the values, over the pairs of orders;
    0 for a single pair. Scores: `outcome` v(all); `hidden_outcome` v(none); `num_players` that the
    region can see, the others get 0 and take no part; `num_evaluations`; `area_target` in pixels.

    Attributes:
      num_pairs: orders that are drawn; each costs two evaluations a player.
      players, block_size: see `Shapley`.
      outcome: this and what hidden pixels hold: see `Perturbation`.

    References:
      Castro et al., Computers & Operations Research 36 (2009); reversed orders: Mitchell et al.,
      arXiv 2104.12199, section 4.1.
    """

    name: ClassVar[str] = "shapley_sampling"
    meta: ClassVar[Meta] = meta_of_perturbation(
        "Red: with what is here the {outcome} is higher, by its Shapley value; blue: lower.",
        "All hidden {hidden_outcome:.1f}; {num_players:.0f} parts, {num_evaluations:.0f} "
        "evaluations.",
        **SCORES,
    )
    num_pairs: int = setting(8, static=True, at_least=1)

    def sampled(self, count: int) -> int:
        """See `Shapley.sampled`."""
        return 2 * self.num_pairs * (count - 1) + 1

    def estimate(self, game: Game, key: jax.Array) -> Found:
        """See `Shapley.estimate`."""
        players = game.matters.size
        numbers = jnp.arange(self.num_pairs)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
        place = jax.vmap(lambda key: jax.random.uniform(key, (players,), jnp.float32))(keys)
        # Players that do not matter come last: there they add nothing.
        order = jnp.argsort(jnp.where(game.matters, place, jnp.inf), axis=1)
        rank = jnp.zeros_like(order).at[numbers[:, None], order].set(jnp.arange(players))
        ranks = jnp.stack([rank, game.number - 1 - rank], axis=1).reshape(-1, players)
        # Only that nothing and that everything is shown needs no look in every order anew.
        between = jnp.maximum(game.number - 1, 1)
        jobs = jnp.arange(self.sampled(players) - 1)
        which, step = jnp.minimum(jobs // between, len(ranks) - 1), jobs % between
        shown = (ranks[which] <= step[:, None]) & game.matters
        shown = jnp.concatenate([jnp.zeros((1, players), bool), shown])
        count = 1 + len(ranks) * jnp.maximum(game.number - 1, 0)
        outcomes = game.outcomes(shown, count)
        hidden = outcomes[0]

        def after(number: jax.Array) -> jax.Array:
            """Outcomes [orders, P] where as many of the players, int32 [orders, P], are shown."""
            place = 1 + jnp.arange(len(ranks))[:, None] * between + number - 1
            inside = outcomes[jnp.clip(place, 0, len(outcomes) - 1)]
            inside = jnp.where(number <= 0, hidden, inside)
            return jnp.where(number >= game.number, game.whole, inside)

        gained = jnp.where(game.matters, after(ranks + 1) - after(ranks), 0.0)
        pairs = jnp.mean(gained.reshape(-1, 2, players), axis=1)
        spread = jnp.std(pairs, axis=0, ddof=min(1, self.num_pairs - 1))
        error = spread / jnp.sqrt(jnp.float32(self.num_pairs))
        return Found(jnp.mean(pairs, axis=0), error, hidden, count.astype(jnp.float32))
