"""MiSuRe with the reference's settings: a weighted loss, a fixed number of steps, a soft mask."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.explainers.misure.base import MisureBase
from jaxseg_xai.explainers.misure.stages import Found, Job, dice_of, soft_misses
from jaxseg_xai.ops.adam import scale_by_adam

_TERMS = ("foreground", "background", "l1", "tv")


class PaperState(NamedTuple):
    """State of stage 2.

    Attributes:
      mask: float32 [H/s, W/s] in [0, 1], the mask M being optimised (s is `mask_stride`).
      optimizer: its optimiser state.
      losses: float32 [num_iterations], NaN from `steps` on.
      steps: int32 [], taken.
    """

    mask: jax.Array
    optimizer: Any
    losses: jax.Array
    steps: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class MisurePaper(MisureBase):
    """MiSuRe as the reference outputs have it (the paper's code is not public).

    Stage 1: M_0 = Y; while D([argmax f(x M_k) = c], Y) < tau: M_{k+1} = dilate(M_k).
    Stage 2: from M = 1 on Y and 0.5 elsewhere in M_SR, AdamW with clipping to [0, 1] minimises

        foreground (1 - D_c) + background mean(1 - D_0, 1 - D_c) + l1 mean|M| + tv TV_b(M)

    with D_k the soft Dice of softmax f(x M_SR M), classes other than c folded into 0, against the
    one-hot prediction, and TV_b(M) = mean|dM/dy|^b + mean|dM/dx|^b.

    The attribution is the final mask in [0, 1]: 1 means needed, 0 not. A mask may dim what it
    keeps, so that its area says little: `area_region` and `dice_region` are those of its pixels
    above 0.5, kept whole. `Misure` looks for the smallest such region instead. Numbers are traced:
    sweeping a weight does not recompile. With a region, Y and every Dice are restricted to it.

    Attributes:
      learning_rate: of AdamW.
      weight_decay: of AdamW (decoupled).
      foreground_weight: weight of 1 - D_c.
      background_weight: weight of mean(1 - D_0, 1 - D_c).
      l1_weight: weight of the mean of the mask.
      tv_weight: weight of the total variation.
      tv_power: its power b.
      cut: final mask values below this are set to 0.
      num_iterations: steps of stage 2.
      mask_stride: the mask lives on a grid coarser by this, up-sampled bilinearly.

    References:
      MiSuRe, arXiv 2406.12173, section 3 (the two stages and their loss).
    """

    name: ClassVar[str] = "misure_paper"
    learning_rate: float = 0.01
    weight_decay: float = 0.01
    foreground_weight: float = 1.0
    background_weight: float = 1.0
    l1_weight: float = 0.1
    tv_weight: float = 0.0
    tv_power: float = 3.0
    cut: float = 0.0
    num_iterations: int = dataclasses.field(default=100, metadata={"static": True})
    mask_stride: int = dataclasses.field(default=1, metadata={"static": True})

    def validate(self) -> None:
        """Raise `ConfigError` naming the first value out of its range."""
        super().validate()
        if self.mask_stride < 1:
            raise ConfigError(f"{self.name}.mask_stride is {self.mask_stride}; at least 1")
        for name in ("weight_decay", "cut", *(f"{t}_weight" for t in _TERMS)):
            if not getattr(self, name) >= 0:
                raise ConfigError(
                    f"{self.name}.{name} is {getattr(self, name)}; it must not be negative"
                )
        if self.cut > 1:
            raise ConfigError(f"{self.name}.cut is {self.cut}; no mask value is above 1")
        if not self.tv_power >= 1:
            raise ConfigError(f"{self.name}.tv_power is {self.tv_power}; it must be at least 1")

    def start(self, job: Job) -> PaperState:
        """The mask that stage 2 starts from."""
        mask = jnp.where(job.segment, 1.0, jnp.where(job.sufficient, 0.5, 0.0))
        if self.mask_stride > 1:
            shape = [-(-side // self.mask_stride) for side in mask.shape]
            mask = jax.image.resize(mask, shape, "linear")
        losses = jnp.full(self.num_iterations, jnp.nan)
        return PaperState(mask, self._optimizer().init(mask), losses, jnp.int32(0))

    def step(self, predict_masked: Any, job: Job, state: PaperState) -> PaperState:
        """One AdamW step; the loss noted is that of the mask before it."""

        def objective(mask: jax.Array) -> jax.Array:
            pixels = self._to_pixels(mask, job)
            return _total(self._terms(pixels, predict_masked(pixels), job))

        loss, gradient = jax.value_and_grad(objective)(state.mask)
        update, optimizer = self._optimizer().update(gradient, state.optimizer, state.mask)
        mask = jnp.clip(jnp.asarray(optax.apply_updates(state.mask, update)), 0.0, 1.0)
        return PaperState(mask, optimizer, state.losses.at[state.steps].set(loss), state.steps + 1)

    def is_done(self, state: PaperState) -> jax.Array:
        """After `num_iterations` steps."""
        return state.steps == self.num_iterations

    def found(self, job: Job, state: PaperState) -> Found:
        """The final mask, weak values cut."""
        mask = self._to_pixels(state.mask, job)
        mask = jnp.where(mask >= self.cut, mask, 0.0)
        finite = jnp.all(jnp.isfinite(state.losses))
        scores = {"iterations": state.steps.astype(jnp.float32)}
        return Found(mask, mask, finite, scores, {"loss": state.losses})

    def measure(
        self, predict_masked: Any, job: Job, mask: jax.Array, logits: jax.Array
    ) -> dict[str, jax.Array]:
        """The loss and its terms, and the same mask as a region of whole pixels."""
        terms = self._terms(mask, logits, job)
        region = (mask > 0.5).astype(jnp.float32)
        return {
            "dice_region": dice_of(predict_masked(region), job.target, job.segment),
            "area_region": jnp.sum(region) / jnp.sum(job.segment),
            "loss": _total(terms),
            **{f"loss_{name}": value for name, value in terms.items()},
        }

    def _terms(self, mask: jax.Array, logits: jax.Array, job: Job) -> dict[str, jax.Array]:
        """The weighted terms of the loss of a mask [H, W] in pixels, given its logits."""
        miss_c, miss_0 = soft_misses(logits, job)
        variation = jnp.float32(0)
        for axis in (0, 1):
            steps = _power(jnp.abs(jnp.diff(mask, axis=axis)), self.tv_power)
            variation += jnp.sum(steps) / max(1, steps.size)  # one pixel has no step
        return {
            "foreground": self.foreground_weight * miss_c,
            "background": self.background_weight * (miss_0 + miss_c) / 2,
            "l1": self.l1_weight * jnp.mean(jnp.abs(mask)),
            "tv": self.tv_weight * variation,
        }

    def _optimizer(self) -> optax.GradientTransformation:
        return optax.chain(
            scale_by_adam(),
            optax.add_decayed_weights(self.weight_decay),
            optax.scale_by_learning_rate(self.learning_rate),
        )

    def _to_pixels(self, mask: jax.Array, job: Job) -> jax.Array:
        shape = job.segment.shape
        mask = mask if self.mask_stride == 1 else jax.image.resize(mask, shape, "linear")
        return mask * job.sufficient


def _total(terms: dict[str, jax.Array]) -> jax.Array:
    return sum(terms.values(), start=jnp.float32(0))


def _power(x: jax.Array, power: float) -> jax.Array:
    """x^power for x >= 0 with gradient 0, not NaN, at 0."""
    positive = x > 0
    return jnp.where(positive, jnp.where(positive, x, 1.0) ** power, 0.0)
