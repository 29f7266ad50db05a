"""What goes into a store and what comes back: entries, rows, images, explanations."""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.types import Status

#: How groups of a store on disk begin that hold something else than explanations.
_RESERVED = re.compile("images$|patch_pool|journal$")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry of a sweep: a method with its settings. Two entries may use the same method.

    Attributes:
      label: its name in the store, unique there: "ate16".
      method: name of the method: "ate".
      settings: of the method, JSON values.
      meta: what `explainers.base.Meta` says of the method, JSON values (unit, figure, signed, note,
        caption, scores, target, features, revision). Empty in stores older than it.
      describe: names of the network's parts that the results are about, where there are any.
    """

    label: str
    method: str
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    describe: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PlanRow:
    """One explanation to compute, as known before the sweep.

    Attributes:
      image_index: position among the images of the store, >= 0.
      image_id: unique name of the image.
      class_index: the class explained.
      region_name: how the region is found at run time ("image", "box", "component 2", ...).
    """

    image_index: int
    image_id: str
    class_index: int
    region_name: str = "image"

    @property
    def id(self) -> str:
        """Name of what is explained, unique within an entry."""
        return f"{self.image_id}/{self.class_index}/{self.region_name}"


#: Label of an entry -> its rows.
Plan = Mapping[str, Sequence[PlanRow]]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Row(PlanRow):
    """All of a stored explanation but its arrays; light enough to hold 100,000 of them.

    Attributes:
      label: of the entry.
      method: of the entry.
      number: of the row within the entry, >= 0.
      status: None while it is pending.
      reason: why it has no explanation, "" where it has one.
      scores: name -> value. A row that is not pending has all names of its entry, NaN where a
        score is not defined.
      run: name of the run that computed it; "" while it is pending, or unknown.
      version: of the package that computed it; "" as above.
      settings: of the method when it was computed, or else those of the entry.
      seconds: its share of the time of its batch; 0 where it is not known.
    """

    label: str
    method: str
    number: int
    status: Status | None
    reason: str
    scores: Mapping[str, float]
    run: str
    version: str
    settings: Mapping[str, Any]
    seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredImage:
    """One image for display, and its segmentations.

    Attributes:
      id: unique name of the image.
      image: uint8 [*S, 3]; to be written also [*S, 1].
      labels: ground truth, a label map int16 [*S] (-1 where it is not known) or planes bool
        [*S, K] of classes that may overlap (int8 with -1 where they are not known); None where
        there is none.
      prediction: the model's, as above.
      affine: float64 [4, 4], see `Sample`; None where it is not known.
      stamp: differs when a file of it was rewritten; "" where there are none.
      content: checksums of what was read of it; "" where it is not known. A store on disk gives
        this and `stamp` back by `ZarrStore.image_columns` only, for all images at once.
    """

    id: str
    image: np.ndarray
    labels: np.ndarray | None = None
    prediction: np.ndarray | None = None
    affine: np.ndarray | None = None
    stamp: str = ""
    content: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredExplanation:
    """One row read back: what is known of it, and the arrays of its `Explanation` and target.

    Without arrays (pending, or failed before there were any) `attribution`, `region` and
    `reference` are None and the mappings are empty.

    Attributes:
      row: everything else: entry, plan, status, scores.
      attribution: float32 [*S]; None also of methods that explain no pixels.
      region: bool [*S].
      reference: bool [*S].
      maps: name -> bool, int32 or float32 [*S], or planes bool [*S, K]. A map that only other rows
        of the entry have may be absent, zero or NaN.
      traces: name -> float32 [T]; there may be NaN at the end, or nothing but NaN where only other
        rows have it.
    """

    row: Row
    attribution: np.ndarray | None
    region: np.ndarray | None
    reference: np.ndarray | None
    maps: Mapping[str, np.ndarray]
    traces: Mapping[str, np.ndarray]


def as_stored(value: Any) -> np.ndarray:
    """An array as a store gives it back: bool, int32 or float32."""
    value = np.asarray(value)
    kinds = {"b": np.bool_, "i": np.int32, "u": np.int32, "f": np.float32}
    return value.astype(kinds[value.dtype.kind])


def check_plan(entries: Iterable[Entry], plan: Plan) -> None:
    """Raise `ConfigError` for labels that cannot name a group, are used twice, or lack their rows.

    Args:
      entries: of a sweep.
      plan: their rows.
    """
    labels = [entry.label for entry in entries]
    for label in labels:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", label) or _RESERVED.match(label):
            raise ConfigError(f"{label!r} cannot name a group of the store; use letters and digits")
        if labels.count(label) > 1:
            raise ConfigError(f"two entries are called {label!r}; give one of them another label")
    if labels != list(plan):
        raise ConfigError(f"the entries are {', '.join(labels)}, the plan's {', '.join(plan)}")


def image_ids(plan: Plan) -> list[str]:
    """Names of the images by their index, "" where no row names one."""
    rows = [row for rows in plan.values() for row in rows]
    ids = [""] * (max((row.image_index for row in rows), default=-1) + 1)
    for row in rows:
        ids[row.image_index] = row.image_id
    return ids
