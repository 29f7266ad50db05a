"""MiSuRe: minimally sufficient regions of a segmentation (arXiv 2406.12173)."""

import dataclasses
import functools
from typing import Any, ClassVar, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from jaxseg_xai.errors import ConfigError
from jaxseg_xai.explainers.adam import scale_by_adam
from jaxseg_xai.explainers.base import Batch, check_finite
from jaxseg_xai.metrics.dice import hard_dice, soft_dice
from jaxseg_xai.parallel.mesh import shard_examples
from jaxseg_xai.perturbations.dilation import dilate, ellipse
from jaxseg_xai.types import Array, Explanation, Predict, SegmentTarget, Status

_TERMS = ("foreground", "background", "l1", "tv")


class MisureState(NamedTuple):
    """State of stage 2 for one image and class.

    Attributes:
      mask: float32 [H/s, W/s] in [0, 1], the mask M being optimised (s is `mask_stride`).
      optimizer: its optimiser state.
      image: float32 [H, W, C], the input inside the sufficient region, 0 elsewhere.
      sufficient: bool [H, W], M_SR.
      segment: bool [H, W], Y: the predicted pixels of the class in the region.
      labels: int32 [H, W], the predicted label map.
      dice_trace: float32 [max_dilations + 1], hard Dice per dilation, NaN-padded.
      num_dilations: int32 [].
      status: int32 [], a `Status`.
    """

    mask: jax.Array
    optimizer: Any
    image: jax.Array
    sufficient: jax.Array
    segment: jax.Array
    labels: jax.Array
    dice_trace: jax.Array
    num_dilations: jax.Array
    status: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Misure:
    """MiSuRe with the reference's settings (the paper's code is not public).

    Stage 1: M_0 = Y; while D([argmax f(x M_k) = c], Y) < tau: M_{k+1} = dilate(M_k).
    Stage 2: from M = 1 on Y and 0.5 elsewhere in M_SR, AdamW with clipping to [0, 1] minimises

        foreground (1 - D_c) + background mean(1 - D_0, 1 - D_c) + l1 mean|M| + tv TV_b(M)

    with D_k the soft Dice of softmax f(x M_SR M), classes other than c folded into 0, against the
    one-hot prediction, and TV_b(M) = mean|dM/dy|^b + mean|dM/dx|^b.

    The attribution is the final mask in [0, 1]: 1 means needed, 0 not. Numbers are traced: sweeping
    a weight does not recompile. With a region, Y and every Dice are restricted to it.

    Attributes:
      tau: hard Dice at which a region is sufficient, in (0, 1].
      learning_rate: of AdamW.
      weight_decay: of AdamW (decoupled).
      foreground_weight: weight of 1 - D_c.
      background_weight: weight of mean(1 - D_0, 1 - D_c).
      l1_weight: weight of the mean of the mask.
      tv_weight: weight of the total variation.
      tv_power: its power b.
      cut: final mask values below this are set to 0.
      max_dilations: stage 1 gives up after so many.
      num_iterations: steps of stage 2.
      element_size: side of the elliptical structuring element, in pixels, odd.
      mask_stride: the mask lives on a grid coarser by this, up-sampled bilinearly.

    References:
      MiSuRe, arXiv 2406.12173, section 3 (the two stages and their loss).
    """

    name: ClassVar[str] = "misure"
    whole_image: ClassVar[bool] = True
    tau: float = 0.9
    learning_rate: float = 0.01
    weight_decay: float = 0.01
    foreground_weight: float = 1.0
    background_weight: float = 1.0
    l1_weight: float = 0.1
    tv_weight: float = 0.0
    tv_power: float = 3.0
    cut: float = 0.0
    max_dilations: int = dataclasses.field(default=64, metadata={"static": True})
    num_iterations: int = dataclasses.field(default=100, metadata={"static": True})
    element_size: int = dataclasses.field(default=7, metadata={"static": True})
    mask_stride: int = dataclasses.field(default=1, metadata={"static": True})

    @property
    def needs_pool(self) -> bool:
        """No: zero is the baseline."""
        return False

    def validate(self) -> None:
        """Raise `ConfigError` naming the first value out of its range."""
        check_finite(self)
        if not 0 < self.tau <= 1:
            raise ConfigError(f"misure.tau is {self.tau}; it must be in (0, 1]")
        if self.element_size < 1 or self.element_size % 2 == 0:
            raise ConfigError(f"misure.element_size is {self.element_size}; it must be odd")
        if not self.learning_rate > 0:
            raise ConfigError(f"misure.learning_rate is {self.learning_rate}; it must be positive")
        for name in ("max_dilations", "num_iterations", "mask_stride"):
            if getattr(self, name) < 1:
                raise ConfigError(f"misure.{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("weight_decay", "cut", *(f"{t}_weight" for t in _TERMS)):
            if not getattr(self, name) >= 0:
                raise ConfigError(
                    f"misure.{name} is {getattr(self, name)}; it must not be negative"
                )
        if self.cut > 1:
            raise ConfigError(f"misure.cut is {self.cut}; no mask value is above 1")
        if self.max_dilations > 10_000:
            raise ConfigError(f"misure.max_dilations is {self.max_dilations}; at most 10000")
        if not self.tv_power >= 1:
            raise ConfigError(f"misure.tv_power is {self.tv_power}; it must be at least 1")

    def explain_batch(
        self, predict: Predict, variables: Any, batch: Batch, mesh: Mesh
    ) -> Explanation:
        """`explain` for every example of a batch, the examples split over the mesh."""

        def lanes(shared: tuple, examples: tuple) -> Explanation:
            explainer, variables = shared
            one = functools.partial(explainer.explain, predict, variables)
            return jax.vmap(one)(*examples)

        return shard_examples(lanes, mesh)((self, variables), (batch.images, batch.targets))

    def explain(
        self, predict: Predict, variables: Any, image: jax.Array, target: SegmentTarget
    ) -> Explanation:
        """Both stages for one image and class; `vmap` it over images and targets.

        Args:
          predict: the model.
          variables: its weights.
          image: float32 [H, W, C], normalised; 0 is the baseline.
          target: class c and region; its `reference` is not used.

        Returns:
          Attribution [H, W] in [0, 1]; maps `sufficient_region`, `prediction` and
          `masked_prediction` (what the model segments from the masked input); scores; traces `dice`
          (per dilation) and `loss` (per iteration). Status EMPTY_TARGET, EMPTY_REGION or NON_FINITE
          come with maps of zeros, NOT_REACHED with the result from the last dilation.
        """
        state = self.init(predict, variables, image, target)

        def step(state: MisureState, _: None) -> tuple[MisureState, jax.Array]:
            return self.step(predict, variables, state, target)

        state, losses = jax.lax.scan(step, state, length=self.num_iterations)
        return self.finish(predict, variables, state, target, losses)

    def init(
        self, predict: Predict, variables: Any, image: jax.Array, target: SegmentTarget
    ) -> MisureState:
        """Stage 1, and the mask that stage 2 starts from."""
        chex.assert_rank(image, 3)
        chex.assert_shape(target.region, image.shape[:2])
        element = ellipse(self.element_size)
        logits = predict(variables, image[None])[0]
        finite = jnp.all(jnp.isfinite(image)) & jnp.all(jnp.isfinite(logits))
        image = jnp.where(finite, image, 0.0)
        labels = jnp.where(finite, jnp.argmax(logits, axis=-1), 0)
        segment = (labels == target.class_index) & target.region & finite

        def dice_of(mask: jax.Array) -> jax.Array:
            labels = jnp.argmax(predict(variables, (image * mask[..., None])[None])[0], axis=-1)
            return hard_dice((labels == target.class_index) & target.region, segment)

        def insufficient(carry: tuple) -> jax.Array:
            _, count, trace = carry
            return (trace[count] < self.tau) & (count < self.max_dilations) & jnp.any(segment)

        def grow(carry: tuple) -> tuple:
            mask, count, trace = carry
            mask = dilate(mask, element)
            return mask, count + 1, trace.at[count + 1].set(dice_of(mask))

        trace = jnp.full(self.max_dilations + 1, jnp.nan).at[0].set(dice_of(segment))
        start = (segment, jnp.int32(0), trace)
        sufficient, count, trace = jax.lax.while_loop(insufficient, grow, start)
        status = jnp.where(trace[count] < self.tau, Status.NOT_REACHED, Status.OK)
        status = jnp.where(jnp.any(segment), status, Status.EMPTY_TARGET)
        status = jnp.where(jnp.any(target.region), status, Status.EMPTY_REGION)
        status = jnp.where(finite, status, Status.NON_FINITE)

        mask = self._to_grid(jnp.where(segment, 1.0, jnp.where(sufficient, 0.5, 0.0)))
        return MisureState(
            mask=mask,
            optimizer=self._optimizer().init(mask),
            image=image * sufficient[..., None],
            sufficient=sufficient,
            segment=segment,
            labels=labels.astype(jnp.int32),
            dice_trace=trace,
            num_dilations=count,
            status=status.astype(jnp.int32),
        )

    def step(
        self, predict: Predict, variables: Any, state: MisureState, target: SegmentTarget
    ) -> tuple[MisureState, jax.Array]:
        """One AdamW step of stage 2; the loss [] is that of the mask before the step."""

        def objective(mask: jax.Array) -> jax.Array:
            pixels = self._to_pixels(mask, state.segment.shape) * state.sufficient
            logits = predict(variables, (state.image * pixels[..., None])[None])[0]
            return _total(self._terms(pixels, logits, state, target))

        loss, gradient = jax.value_and_grad(objective)(state.mask)
        update, optimizer = self._optimizer().update(gradient, state.optimizer, state.mask)
        mask = jnp.clip(jnp.asarray(optax.apply_updates(state.mask, update)), 0.0, 1.0)
        return state._replace(mask=mask, optimizer=optimizer), loss

    def finish(
        self,
        predict: Predict,
        variables: Any,
        state: MisureState,
        target: SegmentTarget,
        losses: jax.Array,
    ) -> Explanation:
        """Cut the mask, look at what the model makes of it, and measure."""
        # A huge weight overflows; clipping would hide it in the mask.
        status = jnp.where(jnp.all(jnp.isfinite(losses)), state.status, Status.NON_FINITE)
        usable = (status == Status.OK) | (status == Status.NOT_REACHED)
        mask = self._to_pixels(state.mask, state.segment.shape) * state.sufficient
        mask = jnp.where((mask >= self.cut) & usable, mask, 0.0)
        logits = predict(variables, (state.image * mask[..., None])[None])[0]
        masked_labels = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        minimal = (masked_labels == target.class_index) & target.region
        terms = self._terms(mask, logits, state, target)
        area = jnp.sum(state.segment, dtype=jnp.float32)
        scores = {
            "num_dilations": state.num_dilations.astype(jnp.float32),
            "dice_sufficient": state.dice_trace[state.num_dilations],
            "dice_minimal": hard_dice(minimal, state.segment),
            "area_target": area,
            "area_sufficient": jnp.sum(state.sufficient) / area,
            "area_minimal": jnp.sum(mask) / area,
            "loss": _total(terms),
        }
        scores |= {f"loss_{name}": value for name, value in terms.items()}
        return Explanation(
            attribution=mask,
            status=status,
            scores=jax.tree.map(lambda score: jnp.where(usable, score, jnp.nan), scores),
            maps={
                "sufficient_region": state.sufficient & usable,
                "prediction": state.labels,
                "masked_prediction": jnp.where(usable, masked_labels, 0),
            },
            traces={"dice": state.dice_trace, "loss": jnp.where(usable, losses, jnp.nan)},
        )

    def _terms(
        self, mask: jax.Array, logits: jax.Array, state: MisureState, target: SegmentTarget
    ) -> dict[str, jax.Array]:
        """The weighted terms of the loss of a mask [H, W] in pixels, given its logits."""
        probability = jnp.take(jax.nn.softmax(logits), target.class_index, axis=-1)
        region = target.region
        miss_c = 1 - soft_dice(probability * region, state.segment)
        miss_0 = 1 - soft_dice((1 - probability) * region, ~state.segment & region)
        variation = jnp.mean(_power(jnp.abs(jnp.diff(mask, axis=0)), self.tv_power))
        variation += jnp.mean(_power(jnp.abs(jnp.diff(mask, axis=1)), self.tv_power))
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

    def _to_grid(self, mask: jax.Array) -> jax.Array:
        if self.mask_stride == 1:
            return mask
        shape = [-(-side // self.mask_stride) for side in mask.shape]
        return jax.image.resize(mask, shape, "linear")

    def _to_pixels(self, mask: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return mask if self.mask_stride == 1 else jax.image.resize(mask, shape, "linear")


def _total(terms: dict[str, jax.Array]) -> jax.Array:
    return sum(terms.values(), start=jnp.float32(0))


def _power(x: Array, power: float) -> jax.Array:
    """x^power for x >= 0 with gradient 0, not NaN, at 0."""
    positive = x > 0
    return jnp.where(positive, jnp.where(positive, x, 1.0) ** power, 0.0)
