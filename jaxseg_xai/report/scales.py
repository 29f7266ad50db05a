"""The colours of a map: which value has which, in figures and in the gallery alike."""

import dataclasses

import numpy as np

from jaxseg_xai.report.overlays import effect_limit
from jaxseg_xai.report.record import Record


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
    """Colours of values; all of them are ones that colour-blind readers can tell apart.

    Attributes:
      low: value of the first colour.
      high: value of the last one.
      colours: name of a colour map of Matplotlib.
      open: whether there may be values past the ends, since a few can outweigh the rest by far.
    """

    low: float
    high: float
    colours: str
    open: bool = False

    @property
    def signed(self) -> bool:
        """Whether zero is in the middle."""
        return self.low < 0


def scale_of(record: Record) -> Scale:
    """The scale of the attribution of a record, by the kind of its figure."""
    kind, values = record.meta.figure, record.stored.attribution
    if kind == "regions":
        return Scale(low=0, high=1, colours="viridis")
    if kind == "uncertainty":
        return Scale(low=0, high=1, colours="magma")
    values = np.zeros(1, np.float32) if values is None else values
    if kind == "effects":  # negative: the outcome falls, so the content helps: red
        limit = effect_limit(values)
        return Scale(low=-limit, high=limit, colours="RdBu", open=True)
    limit = effect_limit(values, 99)
    if record.meta.signed:
        return Scale(low=-limit, high=limit, colours="RdBu_r", open=True)
    return Scale(low=0, high=limit, colours="inferno", open=True)


def scale_of_map(values: np.ndarray) -> Scale:
    """The scale of a further map of numbers, of which nothing is known."""
    limit = effect_limit(values, 99)
    if (values < 0).any():
        return Scale(low=-limit, high=limit, colours="RdBu_r", open=True)
    return Scale(low=0, high=limit, colours="viridis", open=True)
