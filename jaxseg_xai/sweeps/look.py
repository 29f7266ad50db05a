"""What a model will see of a data set: some items, read and prepared, before any work is done."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from jaxseg_xai.core.errors import EmptyImageError, JaxsegError
from jaxseg_xai.core.inputs import Prepared, prepare
from jaxseg_xai.core.segmenter import Segmenter
from jaxseg_xai.core.types import IGNORED, Sample, Source, known_pixels, plane_of
from jaxseg_xai.data.checks import read_item
from jaxseg_xai.sweeps.targets import as_planes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Look:
    """An item of a data set.

    Attributes:
      id: its name.
      sample: as its source gives it; None where it cannot be read.
      prepared: as the model takes it; None without a model, or where the model does not take it.
      problem: why it cannot be explained; "" where it can.
      labels_problem: why its labels cannot be used by what needs them; "" where they can.
      is_empty: whether that is because every pixel has the same value.
    """

    id: str
    sample: Sample | None = None
    prepared: Prepared | None = None
    problem: str = ""
    labels_problem: str = ""
    is_empty: bool = False


def look(source: Source, chosen: Iterable[int], segmenter: Segmenter | None) -> list[Look]:
    """Read items, and prepare them for a model where there is one."""
    return [_look(source, index, segmenter) for index in chosen]


def _look(source: Source, index: int, segmenter: Segmenter | None) -> Look:
    name, sample = source.ids[index], None
    try:
        sample = read_item(source, index)
        prepared = None if segmenter is None else prepare(sample, segmenter.input)
    except JaxsegError as error:
        is_empty = isinstance(error, EmptyImageError)
        return Look(id=name, sample=sample, problem=str(error), is_empty=is_empty)
    about_labels = _problem_of_labels(sample, segmenter)
    return Look(id=name, sample=sample, prepared=prepared, labels_problem=about_labels)


def _problem_of_labels(sample: Sample, segmenter: Segmenter | None) -> str:
    if segmenter is None:
        return str(sample.labels_error or "")
    try:
        as_planes(sample, segmenter.output, segmenter.input.rank)
    except JaxsegError as error:
        return str(error)
    return ""


def sizes_of(looks: Iterable[Look]) -> Counter[tuple[int, ...]]:
    """Size S of what is computed on -> how many items have it; each size is a compilation."""
    found: Counter[tuple[int, ...]] = Counter()
    for one in looks:
        if one.prepared is not None:
            found[one.prepared.grid.prepared] += 1
        elif one.sample is not None and not one.problem:
            found[one.sample.image.shape[:-1]] += 1
    return found


def shares_of(sample: Sample, class_names: Sequence[str]) -> dict[str, float]:
    """Label -> its share of the pixels; labels without a name are called by their number."""
    labels = sample.labels
    if labels is None:
        return {}
    rank = sample.image.ndim - 1

    def name(number: int) -> str:
        if number == IGNORED:
            return "ignored"
        return class_names[number] if 0 <= number < len(class_names) else str(number)

    if labels.ndim > rank:
        shares = {name(k): plane_of(labels, k, rank).mean() for k in range(labels.shape[-1])}
        unknown = 1 - known_pixels(labels, rank).mean()
        shares |= {name(IGNORED): unknown} if unknown else {}
        return {one: float(share) for one, share in shares.items()}
    numbers, counts = np.unique(labels, return_counts=True)
    return {
        name(int(n)): int(count) / labels.size for n, count in zip(numbers, counts, strict=True)
    }
