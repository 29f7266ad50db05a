"""What the methods share that divide an outcome among players by Shapley's rule.

With v(S) the outcome where the players in S are shown and the others hidden, of n players, i gets

    phi_i = sum over S without i of |S|! (n - |S| - 1)! / n! (v(S + i) - v(S)),

the only rule by which players that always add the same get the same (symmetry), those that add
nothing get 0, games add up, and all together get v(all) - v(none) (completeness).
"""

import dataclasses
import math
from typing import NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxseg_xai.core.fields import setting
from jaxseg_xai.explainers.base import Example, Parts, Problem
from jaxseg_xai.explainers.perturbation.base import Perturbation
from jaxseg_xai.explainers.perturbation.engine import Evaluator
from jaxseg_xai.explainers.perturbation.players import Players, num_players, players_of

#: Players of which all coalitions may be evaluated at most.
MOST_EXACT = 12
#: Scores of the methods below, beside those of every perturbation.
SCORES = {
    "hidden_outcome": "outcome where everything is hidden",
    "num_players": "players that can change the outcome",
    "num_evaluations": "copies of the image that were evaluated",
}


class Found(NamedTuple):
    """Shapley values.

    Attributes:
      values: float32 [P].
      standard_error: float32 [P]; 0 where all coalitions were evaluated.
      hidden: float32 [], the outcome where everything is hidden.
      num_evaluations: float32 [].
    """

    values: jax.Array
    standard_error: jax.Array
    hidden: jax.Array
    num_evaluations: jax.Array


class Game:
    """Players of an image, and what the outcome is where some of them are shown.

    Attributes:
      view: the image.
      players: int32 [*S], each pixel's.
      matters: bool [P], the players that can change the outcome at all.
      number: int32 [], how many these are.
      whole: float32 [], the outcome of the image.
    """

    def __init__(self, evaluator: Evaluator, players: jax.Array, count: int) -> None:
        self._evaluator, self.view, self.players = evaluator, evaluator.view, players
        seen = jax.ops.segment_max(evaluator.seen.ravel().astype(jnp.int32), players.ravel(), count)
        self.matters = seen > 0
        self.number = jnp.sum(self.matters)
        self.whole = evaluator.view.started.base[0]

    def outcomes(self, shown: jax.Array, count: jax.Array | None = None) -> jax.Array:
        """Outcomes float32 [n] of coalitions bool [n, P]; 0 from `count` on, where it is given."""

        def mask_of(number: jax.Array) -> jax.Array:
            return jnp.take(shown[number], self.players)[..., None]

        return self._evaluator.outcomes(mask_of, count)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shapley(Perturbation):
    """A method that gives every player its Shapley value, or an estimate; see `estimate`.

    Attributes:
      players: "blocks", "superpixels" (as many, by SLIC) or "labels" (the classes as the model
        segments them).
      block_size: side of a block in pixels; superpixels begin as such blocks.
    """

    players: Players = setting("blocks", static=True, choices=get_args(Players))
    block_size: int = setting(32, static=True, at_least=1)

    def sampled(self, count: int) -> int:
        """Masks that are drawn for some number of players, the image without any among them."""
        raise NotImplementedError(f"{type(self).__name__} needs sampled")

    def estimate(self, game: Game, key: jax.Array) -> Found:
        """The values from `sampled` masks."""
        raise NotImplementedError(f"{type(self).__name__} needs estimate")

    def is_exact(self, count: int) -> bool:
        """Whether all coalitions of some number of players are evaluated: where that costs less."""
        return count <= MOST_EXACT and 2**count <= self.sampled(count)

    def num_masks(self, count: int) -> int:
        """Masks that are evaluated for some number of players at most."""
        return 2**count if self.is_exact(count) else self.sampled(count)

    def num_passes(self, shape: tuple[int, ...]) -> int | None:
        """See `Explainer.num_passes`; not known of labels, which are the model's."""
        if self.players == "labels":
            return None
        count = math.prod(-(-size // self.block_size) for size in shape[:-1])
        return self.num_masks(count) * self.num_baselines

    def game(self, mesh: Mesh, problem: Problem, example: Example) -> Game:
        """The players of an image, and what evaluates their coalitions."""
        output, shape = problem.segmenter.output, example.image.shape[:-1]
        count = num_players(self.players, self.block_size, shape, output)
        evaluator = Evaluator(self, mesh, problem, example, self.num_masks(count))
        logits = evaluator.view.started.logits
        players = players_of(self.players, self.block_size, example, logits, output)
        return Game(evaluator, players, count)

    def explain_on(self, mesh: Mesh, problem: Problem, example: Example) -> Parts:
        """See `Perturbation.explain_on`."""
        game = self.game(mesh, problem, example)
        if self.is_exact(game.matters.size):
            found = exact(game)
        else:
            found = self.estimate(game, example.key)
        return game.view.parts(
            example,
            jnp.take(found.values, game.players),
            {"standard_error": jnp.take(found.standard_error, game.players)},
            hidden_outcome=found.hidden,
            num_players=game.number.astype(jnp.float32),
            num_evaluations=found.num_evaluations * self.num_baselines,
        )


def exact(game: Game) -> Found:
    """Shapley values from the outcomes of all coalitions, 2^P."""
    count = len(game.matters)
    numbers = np.arange(2**count)
    shown = (numbers[:, None] >> np.arange(count)) & 1 == 1
    values = game.outcomes(jnp.asarray(shown))
    return Found(
        values=shapley_values(values),
        standard_error=jnp.zeros(count),
        hidden=values[0],
        num_evaluations=jnp.float32(len(numbers)),
    )


def shapley_values(outcomes: jax.Array) -> jax.Array:
    """Shapley values float32 [P] of a game of P players, v(S) float32 [2^P].

    Player i is in coalition number k where bit i of k is set.
    """
    count = (len(outcomes) - 1).bit_length()
    weights = shapley_weights(count)
    members = weights > 0
    bits = 1 << np.arange(count)[:, None]
    joined = np.nonzero(members)[1].reshape(count, -1)
    # Differences first: whoever changes nothing gets exactly nothing.
    gained = outcomes[joined] - outcomes[joined ^ bits]
    return jnp.sum(weights[members].reshape(count, -1) * gained, axis=1)


def shapley_weights(count: int) -> np.ndarray:
    """By what the outcomes of all coalitions are multiplied: float32 [P, 2^P] of P players.

    >>> shapley_weights(2)
    array([[-0.5,  0.5, -0.5,  0.5],
           [-0.5, -0.5,  0.5,  0.5]], dtype=float32)
    """
    numbers = np.arange(2**count)
    members = numbers >> np.arange(count)[:, None] & 1 == 1
    others = np.sum(members, axis=0) - members  # players of the coalition without this one
    share = np.array([1 / (count * math.comb(count - 1, size)) for size in range(count)])
    return np.where(members, share[others], -share[others]).astype(np.float32)
