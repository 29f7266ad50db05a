"""Selective state spaces (Gu and Dao, 2023, arXiv 2312.00752): in one or in four directions."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from jaxseg_xai.ops import layers

#: Tokens whose states are in memory at a time. More need more memory, fewer a longer loop.
CHUNK = 64


def selective_scan(
    u: jax.Array, step: jax.Array, a: jax.Array, b: jax.Array, c: jax.Array, skip: jax.Array
) -> jax.Array:
    """y_t = c_t h_t + skip u_t with h_t = exp(step_t a) h_{t-1} + step_t b_t u_t and h = 0 before.

    In float32 at least, whatever the arguments. Parallel in every chunk of tokens, one chunk after
    the other; backwards every chunk is computed again. So memory is that of the states of one
    chunk, and of one state per chunk. Reverse mode only.

    Args:
      u: what goes in, [*B, L, D].
      step: sizes of the steps, above 0, [*B, L, D].
      a: negative rates, [D, N], or with leading axes that broadcast with *B.
      b: [*B, L, N].
      c: [*B, L, N].
      skip: [D], or with leading axes as `a`.

    Returns:
      [*B, L, D], of u's type.
    """
    exact = jnp.promote_types(u.dtype, jnp.float32)
    length = u.shape[-2]
    chunk = min(CHUNK, length)

    def chunks(x: jax.Array) -> jax.Array:
        x = jnp.moveaxis(x.astype(exact), -2, 0)
        # A step of 0 leaves the state as it is.
        x = jnp.pad(x, [(0, -length % chunk)] + [(0, 0)] * (x.ndim - 1))
        return x.reshape(-1, chunk, *x.shape[1:])

    y = _scan(*map(chunks, (u, step, b, c)), a.astype(exact))
    y = jnp.moveaxis(y.reshape(-1, *y.shape[2:])[:length], 0, -2)
    return (y + skip[..., None, :].astype(exact) * u.astype(exact)).astype(u.dtype)


@jax.custom_vjp
def _scan(u: jax.Array, step: jax.Array, b: jax.Array, c: jax.Array, a: jax.Array) -> jax.Array:
    """c h of all tokens; the first two axes of all but `a` are chunks and the tokens in one."""
    return _scan_fwd(u, step, b, c, a)[0]


def _scan_fwd(u, step, b, c, a):
    def run(state, parts):
        u, step, b, c = parts
        states = _states(*_steps(u, step, b, a), state)
        return states[-1], (jnp.sum(states * c[..., None, :], axis=-1), state)

    first = jnp.zeros((*u.shape[2:], b.shape[-1]), u.dtype)
    _, (y, before) = lax.scan(run, first, (u, step, b, c))
    return y, (u, step, b, c, a, before)


def _scan_bwd(residuals, cotangent):
    *parts, a, before = residuals

    def run(carry, parts):
        after, of_a = carry
        u, step, b, c, state, of_y = parts
        (decay, added), pull = jax.vjp(_steps, u, step, b, a)
        states = _states(decay, added, state)
        # The gradient of h_t: its own, and what h_{t+1} takes of it. Also a scan, from the end.
        own = (of_y[..., None] * c[..., None, :]).at[-1].add(after)
        following = jnp.concatenate([decay[1:], jnp.ones_like(decay[:1])])
        of_states = lax.associative_scan(_after, (following, own), reverse=True)[1]
        previous = jnp.concatenate([state[None], states[:-1]])
        of_u, of_step, of_b, more = pull((of_states * previous, of_states))
        of_c = jnp.sum(of_y[..., None] * states, axis=-2)
        return (decay[0] * of_states[0], of_a + more), (of_u, of_step, of_b, of_c)

    first = (jnp.zeros_like(before[0]), jnp.zeros_like(a))
    parts = (*parts, before, cotangent)
    (_, of_a), found = lax.scan(run, first, parts, reverse=True)
    return *found, of_a


_scan.defvjp(_scan_fwd, _scan_bwd)


def _steps(
    u: jax.Array, step: jax.Array, b: jax.Array, a: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """What a state is multiplied by, and what is added, [T, *B, D, N]."""
    return jnp.exp(step[..., None] * a), (step * u)[..., None] * b[..., None, :]


def _states(decay: jax.Array, added: jax.Array, state: jax.Array) -> jax.Array:
    """States after every token of a chunk, [T, *B, D, N], from the one before it."""
    decay, states = lax.associative_scan(_after, (decay, added))
    return states + decay * state


def _after(first: tuple[jax.Array, ...], then: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    """One step h -> decay h + added that does what two do."""
    return first[0] * then[0], then[0] * first[1] + then[1]


def rank_of_steps(dim: int) -> int:
    """Numbers from which the sizes of the steps of a token are computed, as usual."""
    return math.ceil(dim / 16)


class Mamba(nnx.Module):
    """Gated block of one scan along the tokens, version 1; each token sees those before it.

    Attributes:
      A_log: of the negative rates, [inner, num_states].
      D: weight of what bypasses the states, [inner].
    """

    def __init__(
        self, dim: int, rngs: nnx.Rngs, *, num_states: int = 16, width: int = 4, expand: int = 2
    ) -> None:
        inner, rank = expand * dim, rank_of_steps(dim)
        self.splits = (rank, rank + num_states)
        self.in_proj = nnx.Linear(dim, 2 * inner, use_bias=False, rngs=rngs)
        self.conv1d = nnx.Conv(
            inner,
            inner,
            (width,),
            padding=((width - 1, 0),),
            feature_group_count=inner,
            conv_general_dilated=layers.conv_general_dilated,
            rngs=rngs,
        )
        self.x_proj = nnx.Linear(inner, rank + 2 * num_states, use_bias=False, rngs=rngs)
        self.dt_proj = nnx.Linear(rank, inner, rngs=rngs)
        self.A_log = nnx.Param(_log_rates((inner,), num_states))
        self.D = nnx.Param(jnp.ones(inner))
        self.out_proj = nnx.Linear(inner, dim, use_bias=False, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Tokens [B, L, dim] -> [B, L, dim]."""
        x, gate = jnp.split(self.in_proj(x), 2, axis=-1)
        x = nnx.silu(self.conv1d(x))
        step, b, c = jnp.split(self.x_proj(x), self.splits, axis=-1)
        step = nnx.softplus(self.dt_proj(step))
        y = selective_scan(x, step, -jnp.exp(self.A_log[...]), b, c, self.D[...])
        return self.out_proj(y * nnx.silu(gate))


class FourScans(nnx.Module):
    """Gated block of four scans over an image: along rows, along columns, and both backwards.

    VMamba's SS2D (Liu et al., 2024, arXiv 2401.10166). The scans come one after the other where an
    array has them in one axis with the channels.

    Attributes:
      x_proj_weight: steps, b and c of a token, [4, rank + 2 num_states, inner].
      dt_projs_weight: step sizes of the channels, [4, inner, rank].
      dt_projs_bias: [4, inner].
      A_logs: of the negative rates, [4 inner, num_states].
      Ds: weight of what bypasses the states, [4 inner].
    """

    def __init__(self, dim: int, rngs: nnx.Rngs, *, num_states: int = 16, expand: int = 2) -> None:
        inner, rank = expand * dim, rank_of_steps(dim)
        self.splits = (rank, rank + num_states)
        init = nnx.initializers.lecun_normal(in_axis=-1, out_axis=-2, batch_axis=0)
        self.in_proj = nnx.Linear(dim, 2 * inner, use_bias=False, rngs=rngs)
        self.conv2d = nnx.Conv(
            inner,
            inner,
            (3, 3),
            feature_group_count=inner,
            conv_general_dilated=layers.conv_general_dilated,
            rngs=rngs,
        )
        self.x_proj_weight = nnx.Param(init(rngs.params(), (4, rank + 2 * num_states, inner)))
        self.dt_projs_weight = nnx.Param(init(rngs.params(), (4, inner, rank)))
        # Steps of 0.01, in the middle of those that Mamba starts from.
        self.dt_projs_bias = nnx.Param(jnp.full((4, inner), math.log(math.expm1(0.01))))
        self.A_logs = nnx.Param(_log_rates((4 * inner,), num_states))
        self.Ds = nnx.Param(jnp.ones(4 * inner))
        self.out_norm = nnx.LayerNorm(inner, epsilon=1e-5, rngs=rngs)
        self.out_proj = nnx.Linear(inner, dim, use_bias=False, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, dim] -> [B, H, W, dim]."""
        x, gate = jnp.split(self.in_proj(x), 2, axis=-1)
        y = self._scan(nnx.silu(self.conv2d(x)))
        return self.out_proj(self.out_norm(y) * nnx.silu(gate))

    def _scan(self, x: jax.Array) -> jax.Array:
        """[B, H, W, inner] -> the sum of the four scans there."""
        batch, height, width, inner = x.shape
        rows, columns = (v.reshape(batch, -1, inner) for v in (x, x.swapaxes(1, 2)))
        u = jnp.stack([rows, columns, rows[:, ::-1], columns[:, ::-1]], axis=1)
        found = jnp.einsum("bkld,ked->bkle", u, self.x_proj_weight[...].astype(x.dtype))
        step, b, c = jnp.split(found, self.splits, axis=-1)
        step = jnp.einsum("bklr,kdr->bkld", step, self.dt_projs_weight[...].astype(x.dtype))
        step = nnx.softplus(step + self.dt_projs_bias[...][:, None].astype(x.dtype))
        rates = -jnp.exp(self.A_logs[...]).reshape(4, inner, -1)
        y = selective_scan(u, step, rates, b, c, self.Ds[...].reshape(4, inner))
        y = y[:, :2] + y[:, 2:, ::-1]
        columns = y[:, 1].reshape(batch, width, height, inner).swapaxes(1, 2)
        return y[:, 0].reshape(x.shape) + columns


def _log_rates(shape: tuple[int, ...], num_states: int) -> jax.Array:
    """Rates 1, 2, 3, ... of every channel, as Mamba starts from."""
    return jnp.broadcast_to(jnp.log(jnp.arange(1.0, num_states + 1)), (*shape, num_states))
