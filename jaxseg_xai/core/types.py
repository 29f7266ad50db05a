"""What flows through the library: samples and targets go in, explanations come out.

Arrays are rank-free: S stands for two axes (H, W) of an image or three (D, H, W) of a volume.
`SegmentTarget` and `Explanation` are pytrees; their leaves carry a leading batch axis [B] wherever
a function says that it takes a batch.
"""

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from jaxseg_xai.core.errors import DataError, JaxsegError

#: A leaf of a pytree: a JAX array or tracer on the device, a NumPy array on the host, a ShapeDtype
#: struct when tracing. Shapes and dtypes stand in the docstrings.
Array = Any

#: In a label map: a pixel whose class nobody knows. It belongs to no region of ground truth.
IGNORED = -1


class Status(enum.IntEnum):
    """Why an explanation is, or is not, what it should be."""

    OK = 0
    #: The explained class has no pixel in the region.
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
    #: Every pixel of the image has the same value, as in a slice beside the brain; no maps.
    EMPTY_IMAGE = 7
    #: ATE: every block touches the region, so that none can be replaced; the maps are zeros.
    NO_BLOCKS = 8


class Predict(Protocol):
    """A segmentation model as a pure function; hashable by value so that jit caches hold."""

    def __call__(self, variables: Any, images: jax.Array, /) -> jax.Array:
        """Map images [B, *S, C] to logits [B, *S, K]."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """One item of a source, on the host, on the grid of its file.

    Attributes:
      id: unique name within the source.
      image: float32 [*S, C], scaled (for the built-in sources: to [0, 1]).
      labels: ground truth, or None: a label map int32 [*S] where classes exclude each other (with
        `IGNORED` where nobody knows the class), planes bool [*S, K] where they may overlap (int8
        with `IGNORED` in all of them where nobody knows).
      labels_error: why there are no labels although there should be; raised by who needs them.
      group: name of what it belongs to (a volume, a patient); "" stands for the id. Items of one
        group are no other images to each other.
      spacing: size of a pixel along each axis in millimetres, or None.
      affine: float64 [4, 4] from voxel indices to millimetres, or None.
      cause: bool [*S], the pixels elsewhere that are known to decide the segmentation, those of the
        object left out; None where nobody knows. They are the known region of localisation metrics.
    """

    id: str
    image: np.ndarray
    labels: np.ndarray | None = None
    labels_error: JaxsegError | None = None
    group: str = ""
    spacing: tuple[float, ...] | None = None
    affine: np.ndarray | None = None
    cause: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Raise `DataError` for an id that names nothing, or takes more than a line."""
        if not isinstance(self.id, str) or not self.id or len(self.id.splitlines()) > 1:
            raise DataError(f"a sample's id is {self.id!r}; give one line of text, str(number) say")

    @property
    def belongs_to(self) -> str:
        """The group, or the id where there is none."""
        return self.group or self.id


class Source(Protocol):
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
      region: bool [*S], the output pixels R that count.
      reference: bool [*S], the segmentation of c that is explained: the model's own prediction, or
        the ground truth, or a part of either (its false positives, say).
    """

    class_index: Array
    region: Array
    reference: Array

    @property
    def segment(self) -> Array:
        """The reference in the region, bool [*S]."""
        return self.reference & self.region


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Explanation:
    """What an explainer returns.

    Attributes:
      attribution: float32 [*S]; range, unit and sign are the explainer's, see its `meta`. None of
        methods that explain no pixels but parts of the network; their traces hold the result.
      status: int32 [], a `Status`. Maps are finite whatever it says.
      scores: name -> float32 [] (NaN where a score is not defined).
      maps: name -> [*S], further maps of the explainer (bool or float), and `prediction`: the
        model's label map int32 [*S], or planes bool [*S, K] of classes that may overlap.
      traces: name -> float32 [T], one-dimensional records (losses, Dice per dilation; NaN-padded).
    """

    attribution: Array
    status: Array
    scores: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    maps: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    traces: Mapping[str, Array] = dataclasses.field(default_factory=dict)


def plane_of(segmentation: np.ndarray, class_index: int, rank: int) -> np.ndarray:
    """The pixels of one class, bool [*S], in a label map [*S] or planes [*S, K]."""
    if segmentation.ndim == rank:
        return segmentation == class_index
    return segmentation[..., class_index] == 1


def known_pixels(labels: np.ndarray, rank: int) -> np.ndarray:
    """Where ground truth says a class, bool [*S], of a label map [*S] or planes [*S, K]."""
    return labels != IGNORED if labels.ndim == rank else (labels != IGNORED).all(axis=-1)


def planes_where_known(planes: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Planes bool [*S, K] as ground truth, `IGNORED` (then int8) where bool [*S] is False."""
    return planes if known.all() else np.where(known[..., None], planes, IGNORED).astype(np.int8)
