"""What flows through the library: samples and targets go in, explanations come out.

`SegmentTarget` and `Explanation` are pytrees; their leaves carry a leading batch axis [B] wherever
a function says that it takes a batch.
"""

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np

#: A leaf of a pytree: a JAX array or tracer on the device, a NumPy array on the host, a ShapeDtype
#: struct when tracing. Shapes and dtypes stand in the docstrings.
Array = Any


class Status(enum.IntEnum):
    """Why an explanation is, or is not, what it should be."""

    OK = 0
    #: The explained class has no pixel (MiSuRe: in the prediction; ATE: in the reference).
    EMPTY_TARGET = 1
    #: The explained region has no pixel.
    EMPTY_REGION = 2
    #: MiSuRe: no dilation reached `tau`; the maps stand, but are not a sufficient region.
    NOT_REACHED = 3
    #: The image, the logits or the result held NaN or infinity; the maps are zeros.
    NON_FINITE = 4
    #: The item could not be explained at all; the store keeps the reason.
    FAILED = 5
    #: ATE: the region is larger than the box that `region_side` promises; the maps are zeros.
    REGION_TOO_LARGE = 6


class Predict(Protocol):
    """A segmentation model as a pure function; hashable by value so that jit caches hold."""

    def __call__(self, variables: Any, images: jax.Array) -> jax.Array:
        """Map images [B, H, W, C] to logits [B, H, W, K], K >= 2."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """One item of a data set, on the host, as the model takes it.

    Attributes:
      id: unique name within the data set.
      image: float32 [H, W, C], normalised (for the built-in data sets: in [0, 1]).
      labels: int32 [H, W] label map, or None where there is no ground truth.
    """

    id: str
    image: np.ndarray
    labels: np.ndarray | None = None


class Dataset(Protocol):
    """Random access to samples; `[i]` raises `DataError` for an item that cannot be used."""

    class_names: tuple[str, ...]

    @property
    def ids(self) -> Sequence[str]:
        """Unique name of every item."""
        ...

    def __len__(self) -> int:
        """Number of items."""
        ...

    def __getitem__(self, index: int) -> Sample:
        """Item `index`, 0 <= index < len(self)."""
        ...


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class SegmentTarget:
    """What is explained: one class in one region of the output.

    Attributes:
      class_index: int32 [], the class c.
      region: bool [H, W], the output pixels R that count.
      reference: bool [H, W], the segmentation of c that the outcome is measured against
        (ground truth, or the model's own prediction). MiSuRe uses the prediction and ignores it.
    """

    class_index: Array
    region: Array
    reference: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Explanation:
    """What an explainer returns.

    Attributes:
      attribution: float32 [H, W]; range, unit and sign are the explainer's.
      status: int32 [], a `Status`. Maps are finite whatever it says.
      scores: name -> float32 [] (NaN where a score is not defined).
      maps: name -> [H, W], further maps of the explainer (bool or float).
      traces: name -> float32 [T], one-dimensional records (losses, Dice per dilation; NaN-padded).
    """

    attribution: Array
    status: Array
    scores: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    maps: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    traces: Mapping[str, Array] = dataclasses.field(default_factory=dict)
