"""Images of a sweep as they are read, ahead of what is explained."""

import dataclasses
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from jaxseg_xai.core.errors import JaxsegError
from jaxseg_xai.core.inputs import Prepared, prepare
from jaxseg_xai.core.types import Sample
from jaxseg_xai.data.checks import read_item
from jaxseg_xai.sweeps.targets import as_planes
from jaxseg_xai.sweeps.work import Work


@dataclasses.dataclass(frozen=True, kw_only=True)
class Item:
    """An image that was read: as its file has it, and as the model takes it.

    Attributes:
      position: of the image in the plan.
      sample: with its labels in the form of the model's predictions, or why they have none.
      prepared: the image on the model's grid.
    """

    position: int
    sample: Sample
    prepared: Prepared


def read_ahead(
    work: Work, positions: list[int], size: int
) -> Iterator[list[tuple[int, Item | JaxsegError]]]:
    """Images (or why one cannot be used), `size` at a time, the next ones read meanwhile."""
    groups = [positions[i : i + size] for i in range(0, len(positions), size)]
    # One thread: a source need not be safe to read from two.
    with ThreadPoolExecutor(1) as pool:
        ahead: list[list[tuple[int, Future]]] = []
        for group in groups:
            ahead.append([(position, pool.submit(_read, work, position)) for position in group])
            if len(ahead) == 2:
                yield [(position, future.result()) for position, future in ahead.pop(0)]
        for futures in ahead:
            yield [(position, future.result()) for position, future in futures]


def _read(work: Work, position: int) -> Item | JaxsegError:
    segmenter = work.bundle.segmenter
    try:
        sample = read_item(work.source, work.chosen[position])
        prepared = prepare(sample, segmenter.input)
    except JaxsegError as error:
        return error
    labels, wrong = None, None
    try:
        labels = as_planes(sample, segmenter.output, segmenter.input.rank)
    except JaxsegError as error:  # of who looks at them
        wrong = error
    sample = dataclasses.replace(sample, labels=labels, labels_error=wrong)
    return Item(position=position, sample=sample, prepared=prepared)
