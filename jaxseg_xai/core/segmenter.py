"""A segmentation model as the explainers see it: a description and a pure function."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from jaxseg_xai.core.errors import JaxsegError, ModelError

Pad = Literal["refuse", "edge", "reflect", "constant"]
Grey = Literal["refuse", "repeat"]
Activation = Literal["softmax", "sigmoid", "threshold"]
Resize = Literal["refuse", "linear", "nearest"]
#: What a model computes in. float32 is that of IEEE on every device: by itself JAX would let GPUs
#: and TPUs round the factors of products to 10 or 7 bits. tensorfloat32 is what GPUs would do.
Dtype = Literal["float32", "tensorfloat32", "bfloat16"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputSpec:
    """What a model takes. It only declares; `jaxseg_xai.core.inputs.prepare` does it.

    Attributes:
      rank: 2 for images [H, W, C], 3 for volumes [D, H, W, C].
      channels: C.
      multiple_of: every side must be a multiple of this.
      fixed_size: the only size the model takes, one number per axis; other images are resized to it
        (linearly) and maps brought back. None: any size.
      value_range: what the values 0 and 1 of a sample become, before `mean` and `std`.
      mean: subtracted from every channel, after the range; () subtracts nothing.
      std: every channel is divided by it; () divides by nothing.
      pad: what to do with a size that is no multiple: "refuse" (an error), or pad at the end of
        each axis as `numpy.pad` does in that mode. Padding is never part of a region.
      grey: what to do with an image of one channel where more are needed: "refuse" or "repeat".
    """

    rank: Literal[2, 3] = 2
    channels: int = 3
    multiple_of: int = 1
    fixed_size: tuple[int, ...] | None = None
    value_range: tuple[float, float] = (0.0, 1.0)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    pad: Pad = "refuse"
    grey: Grey = "refuse"

    def __post_init__(self) -> None:
        _use_tuples(self)
        if self.rank not in (2, 3) or self.channels < 1 or self.multiple_of < 1:
            raise ModelError(
                f"input: rank {self.rank}, {self.channels} channels, sizes a multiple of "
                f"{self.multiple_of}; the rank must be 2 or 3, the others at least 1"
            )
        if self.fixed_size is not None and len(self.fixed_size) != self.rank:
            raise ModelError(
                f"input: fixed_size {self.fixed_size} for images of rank {self.rank}; give one "
                "number per axis"
            )
        if any(n < 1 or n % self.multiple_of for n in self.fixed_size or ()):
            raise ModelError(
                f"input: fixed_size {self.fixed_size} is not made of multiples of multiple_of = "
                f"{self.multiple_of}; correct one of the two"
            )
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in (0, self.channels):
                raise ModelError(
                    f"input: {name} has {len(getattr(self, name))} values for {self.channels} "
                    "channels; give one per channel"
                )
        if any(value == 0 for value in self.std):
            raise ModelError("input: std holds 0, by which nothing can be divided")
        for name, choices in (("pad", Pad), ("grey", Grey)):
            if getattr(self, name) not in get_args(choices):
                raise ModelError(
                    f"input: {name} is {getattr(self, name)!r}; use {', '.join(get_args(choices))}"
                )

    def example_size(self) -> tuple[int, ...]:
        """The smallest size that the model takes, as far as is known."""
        return self.fixed_size or (self.multiple_of,) * self.rank


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
        _use_tuples(self)
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
                f"least {least}" + (", background first" if least == 2 else "")
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
        for key in self.select:
            try:
                raw = raw[key]
            except (KeyError, IndexError, TypeError):
                raise ModelError(
                    f"the model's output has no {key!r} ({_describe(raw)}); set output.select to "
                    "the keys that lead to its logits"
                ) from None
        if not hasattr(raw, "shape") or not hasattr(raw, "dtype"):
            raise ModelError(
                f"the model must give {wanted}, not {_describe(raw)}; set output.select to the "
                "key or index of its logits"
            )
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sites:
    """What a family says about its inside.

    Attributes:
      cam_layer: the layer whose channels class activation maps weigh; "" leaves it to the method.
    """

    cam_layer: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segmenter:
    """A model as explainers see it; frozen and hashable by value, so that jit caches hold.

    Attributes:
      apply: hashable pure function (variables, inputs [B, *S, C]) -> what the model returns.
      input: what it takes.
      output: what it returns.
      sites: what is known of its inside.
      dtype: what it computes in; logits are float32 whatever it is.
      differentiable: whether it has a gradient with respect to its inputs.
    """

    apply: Any
    input: InputSpec
    output: OutputSpec
    sites: Sites = Sites()
    dtype: Dtype = "float32"
    differentiable: bool = True

    def logits(self, variables: Any, inputs: jax.Array) -> jax.Array:
        """Prepared inputs [B, *S, C] -> float32 logits [B, *S, K] on the same grid.

        Neither resizes nor normalises its input: `prepare` did.

        Raises:
          ModelError: the model cannot be applied, or its output is not as described.
        """
        shape = inputs.shape
        self._check_input(shape)
        if self.dtype == "bfloat16":
            variables, inputs = jax.tree.map(_to_bfloat16, (variables, inputs))
        with jax.default_matmul_precision(self.dtype):
            try:
                raw = self.apply(variables, inputs)
            except JaxsegError:
                raise
            except Exception as error:  # whatever somebody's model raises
                reason = str(error).strip().split("\n")[0]
                raise ModelError(
                    f"the model cannot be applied to images {shape}: {type(error).__name__}: "
                    f"{reason}; describe the sizes that it takes (input.multiple_of or "
                    "input.fixed_size), and write it in JAX without Python control flow on values"
                ) from error
        logits = self.output.read(raw, shape[1:-1])
        if logits.shape[0] != shape[0]:
            raise ModelError(
                f"the model gives logits of {logits.shape[0]} images for {shape[0]}; return those "
                "of every image of the batch"
            )
        return logits

    def __call__(self, variables: Any, inputs: jax.Array) -> jax.Array:
        """The same as `logits`: a `Segmenter` is a `Predict`."""
        return self.logits(variables, inputs)

    def replace(self, **changes: Any) -> "Segmenter":
        """A copy with other `pad`, `grey` (of its input), `dtype` or other fields."""
        of_input = {name: changes.pop(name) for name in ("pad", "grey") if name in changes}
        spec = dataclasses.replace(changes.pop("input", self.input), **of_input)
        if (dtype := changes.get("dtype", self.dtype)) not in get_args(Dtype):
            raise ModelError(f"dtype is {dtype!r}; use {', '.join(get_args(Dtype))}")
        return dataclasses.replace(self, input=spec, **changes)

    def _check_input(self, shape: tuple[int, ...]) -> None:
        spec = self.input
        if len(shape) != spec.rank + 2 or shape[-1] != spec.channels:
            axes = "H, W" if spec.rank == 2 else "D, H, W"
            raise ModelError(
                f"the model takes [B, {axes}, {spec.channels}], not {tuple(shape)}; prepare the "
                "images for it (jaxseg_xai.core.inputs.prepare)"
            )
        sizes = shape[1:-1]
        wanted = spec.fixed_size or tuple(size - size % spec.multiple_of for size in sizes)
        if sizes != wanted:
            what = f"size {wanted}" if spec.fixed_size else f"multiples of {spec.multiple_of}"
            raise ModelError(
                f"the model takes {what}, not {sizes}; prepare the images for it "
                "(jaxseg_xai.core.inputs.prepare)"
            )


def _to_bfloat16(x: Any) -> Any:
    return jnp.asarray(x, jnp.bfloat16) if jnp.issubdtype(jnp.result_type(x), jnp.floating) else x


def _channels_and_size(shape: tuple[int, ...], channels_first: bool) -> tuple[int, tuple[int, ...]]:
    return (shape[1], shape[2:]) if channels_first else (shape[-1], shape[1:-1])


def _larger(sizes: Sequence[int], grid: Sequence[int]) -> bool:
    return any(size > whole for size, whole in zip(sizes, grid, strict=True))


def _use_tuples(spec: Any) -> None:
    """Lists and arrays of a description become tuples, which can be hashed."""
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        value = value.tolist() if hasattr(value, "tolist") else value
        object.__setattr__(spec, field.name, tuple(value) if isinstance(value, list) else value)


def _describe(raw: Any) -> str:
    if isinstance(raw, Mapping):
        return f"a dict of {', '.join(map(repr, raw))}"
    if isinstance(raw, list | tuple):
        return f"a {type(raw).__name__} of {len(raw)} outputs"
    if hasattr(raw, "shape"):
        return f"an array {tuple(raw.shape)}"
    return f"a {type(raw).__name__}"
