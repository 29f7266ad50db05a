"""What the peers return: plain NumPy arrays, to which our explanations can be turned too."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxseg_xai.core.types import Explanation, SegmentTarget, Status
from jaxseg_xai.explainers.parts.table import ComponentTable


@dataclasses.dataclass(frozen=True, kw_only=True)
class MisureResult:
    """MiSuRe of N images.

    Where the class has no pixel the segment, the sufficient region and the mask are empty, and
    trace and Dice NaN.

    Attributes:
      segment: bool [N, H, W], Y: the predicted pixels of the class.
      sufficient: bool [N, H, W], M_SR.
      dilations: int32 [N].
      dice_trace: float32 [N, max_dilations + 1], hard Dice in [0, 1] per dilation, NaN-padded.
      mask: float32 [N, H, W] in [0, 1], the attribution: the final soft mask, or the level of the
        best region.
      trace: float32 [N, num_iterations], before every step: the published loss, or the area of the
        region over that of Y; NaN after the last.
      dice_minimal: float32 [N], hard Dice in [0, 1] of what is segmented from the masked image.
    """

    segment: np.ndarray
    sufficient: np.ndarray
    dilations: np.ndarray
    dice_trace: np.ndarray
    mask: np.ndarray
    trace: np.ndarray
    dice_minimal: np.ndarray

    @classmethod
    def of(cls, explanation: Explanation, targets: SegmentTarget) -> "MisureResult":
        """From what our `Misure` or `MisurePaper` returns for a batch."""
        wanted = np.asarray(targets.class_index)[:, None, None]
        segment = (np.asarray(explanation.maps["prediction"]) == wanted) & targets.region
        traces = explanation.traces
        return cls(
            segment=segment,
            sufficient=np.asarray(explanation.maps["sufficient_region"]),
            dilations=np.nan_to_num(np.asarray(explanation.scores["num_dilations"])).astype("i4"),
            dice_trace=np.asarray(traces["dice"]),
            mask=np.asarray(explanation.attribution),
            trace=np.asarray(traces["loss" if "loss" in traces else "area_search"]),
            dice_minimal=np.asarray(explanation.scores["dice_minimal"]),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class AteResult:
    """ATE of the blocks of one image.

    Attributes:
      ate: float32 [rows, columns], Dice points; 0 where a block was not visited or passed over.
      base_dice: Dice points [0, 100] of the untouched image.
      num_interventions: how many inputs were evaluated besides the untouched image.
    """

    ate: np.ndarray
    base_dice: float
    num_interventions: int

    @classmethod
    def of(cls, explanation: Explanation, index: int, block_size: int) -> "AteResult":
        """From what our `Ate` returns for a batch: image `index` of it."""
        if explanation.status[index] != Status.OK:
            raise ValueError(f"image {index} has no ATE: {Status(int(explanation.status[index]))}")
        return cls(
            ate=np.asarray(explanation.attribution)[index, ::block_size, ::block_size],
            base_dice=float(explanation.scores["base_dice"][index]),
            num_interventions=int(explanation.scores["num_interventions"][index]),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttributionResult:
    """A map of N images.

    Attributes:
      attribution: float32 [N, H, W].
      segment: bool [N, H, W], the predicted pixels of the class in the region.
      scores: name -> float32 [N], those that both implementations have.
    """

    attribution: np.ndarray
    segment: np.ndarray
    scores: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(
        cls, explanation: Explanation, targets: SegmentTarget, scores: Sequence[str] = ()
    ) -> "AttributionResult":
        """From our explanation of a batch, with some of its scores."""
        wanted = np.asarray(targets.class_index)[:, None, None]
        segment = (np.asarray(explanation.maps["prediction"]) == wanted) & targets.region
        return cls(
            attribution=np.asarray(explanation.attribution),
            segment=segment,
            scores={name: np.asarray(explanation.scores[name]) for name in scores},
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComponentResult:
    """Effects of the U parts of a network on N images.

    Attributes:
      parts: their names, length U: "encoder/0/conv1" is a layer, "encoder/0/conv1/3" a channel.
      effects: float64 [N, U], points; NaN for parts that were not intervened on.
      first_order: float64 [N, U], points.
    """

    parts: tuple[str, ...]
    effects: np.ndarray
    first_order: np.ndarray

    @classmethod
    def of(cls, table: ComponentTable) -> "ComponentResult":
        """From what our `ComponentAte` returns."""
        named = zip(table.names, table.channels, strict=True)
        return cls(
            parts=tuple(part_name(name, channel) for name, channel in named),
            effects=table.effects,
            first_order=table.first_order,
        )


def part_name(layer: str, channel: int | None) -> str:
    """Of a layer or skip connection (None), or of a channel."""
    return layer if channel is None else f"{layer}/{channel}"
