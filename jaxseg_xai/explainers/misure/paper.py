"""MiSuRe with the reference's settings: a weighted loss, a fixed number of steps, a soft mask."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxseg_xai.core.fields import setting
from jaxseg_xai.explainers.base import Meta
from jaxseg_xai.explainers.misure.base import MisureBase, misure_meta
from jaxseg_xai.explainers.misure.stages import Found, Job, MaskedModel, dice_of, soft_misses
from jaxseg_xai.ops.adam import scale_by_adam


class PaperState(NamedTuple):
    """State of stage 2.

    Attributes:
      mask: float32 [*(S / s)] in [0, 1], the mask M being optimised (s is `mask_stride`).
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

    Stage 1: M_0 = Y; while D([f(x M_k) is c], Y) < tau: M_{k+1} = dilate(M_k).
    Stage 2: from M = 1 on Y and 0.5 elsewhere in M_SR, AdamW with clipping to [0, 1] minimises

        foreground (1 - D_c) + background mean(1 - D_0, 1 - D_c) + l1 mean|M| + tv TV_b(M)

    with D_k the soft Dice of the probabilities for x M_SR M, all that is not c folded into 0,
    against Y and its complement, and TV_b(M) the sum over the axes d of mean|dM/dx_d|^b.

    The attribution is the final mask in [0, 1]: 1 means needed, 0 not. A mask may dim what it
    keeps, so that its area says little: `area_region` and `dice_region` are those of its pixels
    above 0.5, kept whole. `Misure` looks for the smallest such region instead. Numbers are traced:
    sweeping a weight does not recompile. Y is the predicted segment of class c; with a region, Y
    and every Dice are restricted to it.

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
    meta: ClassVar[Meta] = misure_meta(
        title="Minimally sufficient mask\nbright: the model needs it",
        unit="share of the pixel kept",
        note="Bright: the model needs the pixel. The image is multiplied by this mask.",
        scores={
            "dice_region": "Dice when the pixels above 0.5 are shown whole",
            "area_region": "area of those pixels over that of the segment",
            "loss": "loss of the final mask",
            "loss_l1": "its mean, times its weight",
            "loss_tv": "its total variation, times its weight",
        },
    )
    weight_decay: float = setting(0.01, at_least=0)
    foreground_weight: float = setting(1.0, at_least=0)
    background_weight: float = setting(1.0, at_least=0)
    l1_weight: float = setting(0.1, at_least=0)
    tv_weight: float = setting(0.0, at_least=0)
    tv_power: float = setting(3.0, at_least=1)
    cut: float = setting(0.0, at_least=0, at_most=1)
    mask_stride: int = setting(1, static=True, at_least=1)

    def start(self, job: Job, number: jax.Array) -> PaperState:
        """The mask that stage 2 starts from."""
        del number
        mask = jnp.where(job.target.segment, 1.0, jnp.where(job.sufficient, 0.5, 0.0))
        if self.mask_stride > 1:
            shape = [-(-side // self.mask_stride) for side in mask.shape]
            mask = jax.image.resize(mask, shape, "linear")
        losses = jnp.full(self.num_iterations, jnp.nan)
        return PaperState(mask, self._optimizer().init(mask), losses, jnp.int32(0))

    def step(self, model: MaskedModel, job: Job, state: PaperState) -> PaperState:
        """One AdamW step; the loss noted is that of the mask before it."""

        def objective(mask: jax.Array) -> jax.Array:
            pixels = self._to_pixels(mask, job)
            return _total(self._terms(pixels, model, model.logits(pixels), job))

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
        return Found(mask, mask, finite, scores, {"loss": state.losses}, {})

    def measure(
        self, model: MaskedModel, job: Job, mask: jax.Array, logits: jax.Array
    ) -> dict[str, jax.Array]:
        """The loss and its terms, and the same mask as a region of whole pixels."""
        terms = self._terms(mask, model, logits, job)
        region = (mask > 0.5).astype(jnp.float32)
        return {
            "dice_region": dice_of(model.output, model.logits(region), job.target),
            "area_region": jnp.sum(region) / jnp.sum(job.target.segment),
            "loss": _total(terms),
            **{f"loss_{name}": value for name, value in terms.items()},
        }

    def _terms(
        self, mask: jax.Array, model: MaskedModel, logits: jax.Array, job: Job
    ) -> dict[str, jax.Array]:
        """The weighted terms of the loss of a mask [*S] in pixels, given its logits."""
        miss_c, miss_0 = soft_misses(model.output, logits, job.target)
        own, variation = job.own, jnp.float32(0)
        for axis in range(mask.ndim):
            steps = _power(jnp.abs(jnp.diff(mask, axis=axis)), self.tv_power)
            # A step ends on the image's own pixels; one pixel has none.
            inside = jax.lax.slice_in_dim(own, 1, None, axis=axis)
            variation += jnp.sum(steps * inside) / jnp.maximum(1, jnp.sum(inside))
        return {
            "foreground": self.foreground_weight * miss_c,
            "background": self.background_weight * (miss_0 + miss_c) / 2,
            "l1": self.l1_weight * jnp.sum(jnp.abs(mask)) / jnp.sum(own),
            "tv": self.tv_weight * variation,
        }

    def _optimizer(self) -> optax.GradientTransformation:
        return optax.chain(
            scale_by_adam(),
            optax.add_decayed_weights(self.weight_decay),
            optax.scale_by_learning_rate(self.learning_rate),
        )

    def _to_pixels(self, mask: jax.Array, job: Job) -> jax.Array:
        shape = job.layers.shape
        mask = mask if self.mask_stride == 1 else jax.image.resize(mask, shape, "linear")
        return mask * job.sufficient


def _total(terms: dict[str, jax.Array]) -> jax.Array:
    return sum(terms.values(), start=jnp.float32(0))


def _power(x: jax.Array, power: float) -> jax.Array:
    """x^power for x >= 0 with gradient 0, not NaN, at 0."""
    positive = x > 0
    return jnp.where(positive, jnp.where(positive, x, 1.0) ** power, 0.0)
