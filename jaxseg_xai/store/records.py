"""What goes into a store and what comes back: the rows of a plan, images, explanations."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from jaxseg_xai.core.types import Status


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PlanRow:
    """One explanation to compute, as known before the sweep.

    Attributes:
      image_index: position in `/images`, >= 0.
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
        """Name of the explanation, unique within an explainer."""
        return f"{self.image_id}/{self.class_index}/{self.region_name}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredImage:
    """One image: uint8 [H, W, 3], label maps int16 [H, W] (None where there is none)."""

    id: str
    image: np.ndarray
    labels: np.ndarray | None
    prediction: np.ndarray | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredExplanation:
    """One row read back: its plan, and the `Explanation` with names and meaning as written.

    `status` is None while the row is pending. Without maps (pending, or failed before there were
    any) `attribution`, `region` and `reference` are None and the mappings are empty.
    """

    explainer: str
    row: int
    plan: PlanRow
    status: Status | None
    reason: str
    attribution: np.ndarray | None
    region: np.ndarray | None
    reference: np.ndarray | None
    maps: Mapping[str, np.ndarray]
    scores: Mapping[str, float]
    traces: Mapping[str, np.ndarray]


Plan = Mapping[str, Sequence[PlanRow]]
