"""What a figure is about: an explanation read back, its image, and its method in words."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from jaxseg_xai.core.display import class_name
from jaxseg_xai.core.types import Status
from jaxseg_xai.explainers import EXPLAINERS, Meta
from jaxseg_xai.outcomes import OUTCOMES
from jaxseg_xai.store import Entry, Row, StoredExplanation, StoredImage

#: Why an explanation is not what one would expect; shown in every figure and in the report.
STATUS_NOTES: Mapping[Status | None, str] = {
    None: "Pending: this explanation has not been computed yet.",
    Status.OK: "",
    Status.EMPTY_TARGET: "Nothing to explain: what is explained has no pixel of the class.",
    Status.EMPTY_REGION: "Nothing to explain: the region has no pixel.",
    Status.NOT_REACHED: "Not sufficient: no dilation brought the Dice to the threshold; "
    "the region is only the largest tried.",
    Status.NON_FINITE: "No maps: the image, the model's output or the result held NaN or infinity.",
    Status.FAILED: "This explanation failed.",
    Status.REGION_TOO_LARGE: "No maps: the region is larger than the box of side `region_side`.",
    Status.EMPTY_IMAGE: "Nothing to explain: every pixel of the image has the same value.",
    Status.NO_BLOCKS: "No maps: every block touches the region; choose a smaller region or blocks.",
}
#: Of a method that nobody knows any more.
_UNKNOWN = Meta(unit="attribution", signed=True, note="Red: positive; blue: negative.")
#: Planes of a volume [D, H, W] of which nobody knows how it lies in the body.
AXES = ("depth", "height", "width")
_FIELDS = frozenset(field.name for field in dataclasses.fields(Meta))


def meta_of(entry: Entry) -> Meta:
    """What is known of the method: as it was stored, else as the installed method says."""
    if entry.meta:
        known = {name: value for name, value in entry.meta.items() if name in _FIELDS}
        return Meta(**{**known, "needs": frozenset(known.get("needs", ()))})
    return EXPLAINERS.get(entry.method).meta if entry.method in EXPLAINERS else _UNKNOWN


def warning_of(row: Row) -> str:
    """Why an explanation is not what one would expect; "" where it is."""
    return " ".join(filter(None, (STATUS_NOTES[row.status], row.reason)))


class _Number(float):
    """A score in a caption; a dash where it is not defined."""

    def __format__(self, spec: str) -> str:
        return super().__format__(spec) if math.isfinite(self) else "–"


class _Words(dict[str, object]):
    """What a caption may name; a score that was not stored is not defined."""

    def __missing__(self, name: str) -> object:
        return _Number("nan")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """An explanation to draw.

    Attributes:
      stored: the explanation.
      image: its image, or None where there is none.
      class_names: one per class.
      entry: which method with which settings.
      meta: what is known of the method, from `meta_of`.
      axes: of a volume, names of the planes across each of its axes.
    """

    stored: StoredExplanation
    image: StoredImage | None
    class_names: Sequence[str]
    entry: Entry
    meta: Meta
    axes: tuple[str, ...] = AXES

    @property
    def class_index(self) -> int:
        """The class explained."""
        return self.stored.row.class_index

    @property
    def has_result(self) -> bool:
        """Whether its status is one whose maps are worth drawing."""
        return self.stored.row.status in (Status.OK, Status.NOT_REACHED)

    @property
    def image_id(self) -> str:
        """Name of the image, cut to fit a title."""
        return _cut(self.stored.row.image_id, 60)

    @property
    def class_name(self) -> str:
        """Its name, cut to fit a panel."""
        return self.name_of(self.class_index)

    @property
    def outcome(self) -> str:
        """What is explained, in words: "Dice"."""
        name = str(self.entry.settings.get("outcome", "outcome"))
        return OUTCOMES.get(name).words if name in OUTCOMES else name

    @property
    def unit(self) -> str:
        """Of the attribution."""
        name = self.entry.settings.get("outcome", "")
        unit = OUTCOMES.get(name).unit if name in OUTCOMES else "unit of the outcome"
        return self.meta.unit.replace("{outcome}", unit)

    @property
    def warning(self) -> str:
        """Why it is not what one would expect; "" where it is."""
        return warning_of(self.stored.row)

    @property
    def caption(self) -> str:
        """The scores in words, and how to read the map; a line each."""
        words = _Words(outcome=self.outcome, unit=self.unit)
        words |= {name: _Number("nan") for name in self.meta.scores}
        words |= {name: _Number(score) for name, score in self.stored.row.scores.items()}
        lines = [self.meta.caption.format_map(words)]
        lines.append(self.meta.note.replace("{outcome}", self.outcome))
        return "\n".join(filter(None, lines))

    def name_of(self, class_index: int) -> str:
        """Name of a class, cut to fit a panel."""
        return _cut(class_name(class_index, self.class_names), 18)

    def title(self, name: str, otherwise: str) -> str:
        """Title of the panel of a map ("attribution" or one of `maps`)."""
        return self.meta.titles.get(name, otherwise)


def _cut(name: str, length: int) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"
