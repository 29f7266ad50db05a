"""One step of training, for a network of any family."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxseg_xai.core.types import IGNORED
from jaxseg_xai.models.architecture import Architecture
from jaxseg_xai.ops.dice import soft_dice

#: Weights, what else the network keeps (statistics, random streams), and the optimiser's state.
State = tuple[Any, Any, Any]


def trainable(network: Architecture, seed: int) -> nnx.Module:
    """A network with drawn weights, with batch statistics and dropout as in training."""
    model = network.build(nnx.Rngs(seed))
    model.train()
    return model


def initial_state(model: nnx.Module, optimizer: optax.GradientTransformation) -> State:
    """What `make_step`'s function starts from."""
    _, params, rest = nnx.split(model, nnx.Param, ...)
    return params, rest, optimizer.init(params)


def make_step(
    graphdef: Any, optimizer: optax.GradientTransformation
) -> Callable[[State, jax.Array, jax.Array], tuple[State, jax.Array]]:
    """A function (state, images [B, *S, C], labels int [B, *S]) -> (next state, loss)."""

    def step(state: State, images: jax.Array, labels: jax.Array) -> tuple[State, jax.Array]:
        params, rest, optimizer_state = state

        def objective(params: Any) -> tuple[jax.Array, Any]:
            model = nnx.merge(graphdef, params, rest, copy=True)
            loss = segmentation_loss(model(images), labels)
            return loss, nnx.split(model, nnx.Param, ...)[2]

        (loss, rest), gradient = jax.value_and_grad(objective, has_aux=True)(params)
        update, optimizer_state = optimizer.update(gradient, optimizer_state, params)
        return (optax.apply_updates(params, update), rest, optimizer_state), loss

    return step


def segmentation_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean cross-entropy plus 1 - mean soft Dice of the foreground classes over the batch.

    Args:
      logits: [B, *S, K], or K = 1 for logits (0, z).
      labels: int [B, *S]; pixels that are `IGNORED` count nothing.
    """
    if logits.shape[-1] == 1:
        logits = jnp.concatenate([jnp.zeros_like(logits), logits], axis=-1)
    known = labels != IGNORED
    entropies = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(labels, 0))
    entropy = jnp.sum(entropies * known) / jnp.maximum(jnp.sum(known), 1)
    truth = jax.nn.one_hot(labels, logits.shape[-1])
    shown = jax.nn.softmax(logits) * known[..., None]
    # Classes first, each with the whole batch: small objects count by their pixels.
    by_class = [jnp.moveaxis(x, -1, 0)[1:] for x in (shown, truth)]
    return entropy + 1 - jnp.mean(jax.vmap(soft_dice)(*by_class))
