"""What a model's output means: the one place that turns logits into classes."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from jaxseg_xai.core.errors import ModelError
from jaxseg_xai.core.fields import use_tuples

Activation = Literal["softmax", "sigmoid", "threshold"]
Resize = Literal["refuse", "linear", "nearest"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputSpec:
    """What a model's output means: the one place that turns logits into classes.

    The three activations (`definitions`): "softmax", one class a pixel, class c where its logit is
    the largest (a single logit z is two classes with logits (0, z)); "sigmoid", classes that may
    overlap, class c where z_c > 0, probability 1 / (1 + exp(-z_c)); "threshold", class c where the
    raw output is above `threshold`, probability the output clipped to [0, 1]. Only "softmax" has a
    background among its classes.

    Attributes:
      class_names: one per class; of "softmax" the first is the background.
      activation: see above.
      threshold: of "threshold".
      select: where the output is a dict, tuple or list: the keys or indices that lead to the
        logits, ("out",) or (0,).
      channels_first: whether the output is [B, K, *S]; it is turned to [B, *S, K].
      resize: what to do with an output coarser than the input: "refuse", or interpolate it
        ("linear" or "nearest", pixel centres at halves).
    """

    class_names: tuple[str, ...]
    activation: Activation = "softmax"
    threshold: float = 0.5
    select: tuple[str | int, ...] = ()
    channels_first: bool = False
    resize: Resize = "refuse"

    def __post_init__(self) -> None:
        use_tuples(self)
        for name, choices in (("activation", Activation), ("resize", Resize)):
            if getattr(self, name) not in get_args(choices):
                raise ModelError(
                    f"output: {name} is {getattr(self, name)!r}; use {', '.join(get_args(choices))}"
                )
        if isinstance(self.class_names, str):
            raise ModelError(f"class_names is {self.class_names!r}; give a list of names")
        least = 2 if self.activation == "softmax" else 1
        if len(self.class_names) < least:
            raise ModelError(
                f"class_names has {len(self.class_names)} entries; {self.activation} needs at "
                f"least {least}{', background first' * (least == 2)}; describe the model, "
                "as_model(model, class_names=[...])"
            )
        if len(set(self.class_names)) < len(self.class_names):
            raise ModelError(f"class_names has a name twice: {', '.join(self.class_names)}")

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def overlapping(self) -> bool:
        """Whether a pixel may belong to several classes, or to none."""
        return self.activation != "softmax"

    @property
    def foreground(self) -> tuple[int, ...]:
        """Numbers of the classes that are explained where none are named."""
        return tuple(range(0 if self.overlapping else 1, self.num_classes))

    def read(self, raw: Any, grid: Sequence[int]) -> jax.Array:
        """The logits float32 [B, *S, K] in whatever a model returned.

        Args:
          raw: the model's output.
          grid: S, the size of the input.

        Raises:
          ModelError: the output is not what this description says.
        """
        wanted = f"logits [B, {', '.join(map(str, grid))}, {self.num_classes}]"
        raw = self.picked(raw)
        if not hasattr(raw, "shape") or not hasattr(raw, "dtype"):
            raise ModelError(
                f"the model must give {wanted}, not {_describe(raw)}; set output.select to the "
                "key or index of its logits"
            )
        if jnp.issubdtype(raw.dtype, jnp.complexfloating):
            raise ModelError(f"the model must give {wanted}, not {raw.dtype}; give real numbers")
        shape = tuple(raw.shape)
        if len(shape) != len(grid) + 2:
            raise ModelError(
                f"the model must give {wanted}, not {_describe(raw)}; return one score per image, "
                "pixel and class"
            )
        if not self._takes(shape, grid, self.channels_first):
            raise ModelError(
                f"the model must give {wanted}, not {shape}; {self._mend(shape, grid)}"
            )
        logits = jnp.moveaxis(raw, 1, -1) if self.channels_first else jnp.asarray(raw)
        logits = logits.astype(jnp.float32)
        if logits.shape[1:-1] != tuple(grid):
            whole = (logits.shape[0], *grid, logits.shape[-1])
            logits = jax.image.resize(logits, whole, self.resize, antialias=False)
        if logits.shape[-1] < self.num_classes:
            logits = jnp.concatenate([jnp.zeros_like(logits), logits], axis=-1)
        return logits

    def picked(self, raw: Any) -> Any:
        """What `select` leads to in a model's output; `ModelError` where it leads nowhere."""
        for key in self.select:
            try:
                raw = raw[key]
            except (KeyError, IndexError, TypeError):
                raise ModelError(
                    f"the model's output has no {key!r} ({_describe(raw)}); set output.select to "
                    "the keys that lead to its logits"
                ) from None
        return raw

    def _takes(self, shape: tuple[int, ...], grid: Sequence[int], channels_first: bool) -> bool:
        """Whether logits of a shape can be brought to the grid."""
        found, sizes = _channels_and_size(shape, channels_first)
        if self.resize == "refuse":
            return found in self._channels and sizes == tuple(grid)
        return found in self._channels and not _larger(sizes, grid)

    def _mend(self, shape: tuple[int, ...], grid: Sequence[int]) -> str:
        """What to do about logits of a shape that cannot be used."""
        found, sizes = _channels_and_size(shape, self.channels_first)
        turned, turned_sizes = _channels_and_size(shape, not self.channels_first)
        fits = found in self._channels and not _larger(sizes, grid)
        if not fits and turned in self._channels and not _larger(turned_sizes, grid):
            first, value = ("last", "false") if self.channels_first else ("first", "true")
            return f"its channels come {first}: set output.channels_first to {value}"
        if found not in self._channels:
            background = "" if self.overlapping else ", background first"
            return (
                f"it has {found} channels and class_names has {self.num_classes}: name every "
                f"class{background}"
            )
        if _larger(sizes, grid):
            return "it is larger than the input: crop or resize it in the model"
        return "it is coarser than the input: set output.resize to linear"

    def segment(self, logits: jax.Array) -> jax.Array:
        """Which pixels belong to which class: logits [..., K] -> bool [..., K]."""
        if self.overlapping:
            return logits > self._limit
        return jnp.argmax(logits, axis=-1)[..., None] == jnp.arange(self.num_classes)

    def segment_of(self, logits: jax.Array, class_index: jax.Array | int) -> jax.Array:
        """The pixels of one class: logits [..., K] -> bool [...]."""
        if self.overlapping:
            return jnp.take(logits, class_index, axis=-1) > self._limit
        return jnp.argmax(logits, axis=-1) == class_index

    def prediction(self, logits: jax.Array) -> jax.Array:
        """The whole segmentation as it is stored and drawn.

        Returns:
          A label map int32 [...] of classes that exclude each other, else planes bool [..., K].
        """
        if self.overlapping:
            return self.segment(logits)
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)

    def probability(self, logits: jax.Array) -> jax.Array:
        """Probabilities float32 [..., K] in [0, 1] of logits [..., K]."""
        match self.activation:
            case "softmax":
                return jax.nn.softmax(logits, axis=-1)
            case "sigmoid":
                return jax.nn.sigmoid(logits)
            case _:
                return jnp.clip(logits, 0.0, 1.0)

    def probability_of(self, logits: jax.Array, class_index: jax.Array | int) -> jax.Array:
        """The probability of one class: logits [..., K] -> float32 [...]."""
        return jnp.take(self.probability(logits), class_index, axis=-1)

    @property
    def _limit(self) -> float:
        return self.threshold if self.activation == "threshold" else 0.0

    @property
    def _channels(self) -> tuple[int, ...]:
        """How many channels logits may have."""
        one_logit = self.activation == "softmax" and self.num_classes == 2
        return (1, 2) if one_logit else (self.num_classes,)


def _channels_and_size(shape: tuple[int, ...], channels_first: bool) -> tuple[int, tuple[int, ...]]:
    return (shape[1], shape[2:]) if channels_first else (shape[-1], shape[1:-1])


def _larger(sizes: Sequence[int], grid: Sequence[int]) -> bool:
    return any(size > whole for size, whole in zip(sizes, grid, strict=True))


def _describe(raw: Any) -> str:
    if isinstance(raw, Mapping):
        return f"a dict of {', '.join(map(repr, raw))}"
    if isinstance(raw, list | tuple):
        return f"a {type(raw).__name__} of {len(raw)} outputs"
    if hasattr(raw, "shape"):
        return f"an array {tuple(raw.shape)}"
    return f"a {type(raw).__name__}"
