"""The contract of a store: a sweep writes to it, figures, reports and tables read from it."""

import abc
import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.types import Explanation, SegmentTarget, Status
from jaxseg_xai.store.records import Entry, Plan, Row, StoredExplanation, StoredImage

#: Status of a row that was not computed yet.
PENDING = -1


class Store(abc.ABC):
    """Explanations of a sweep, row by row, in groups called labels (one an entry of the sweep).

    Writing, by one process:

        store = SINKS.get("zarr").create_or_resume(path, entries=entries, plan=plan, config=config)
        for row in store.pending("ate16"):
            store.write("ate16", row, explanation, target)
        store.close()

    Reading, by any number:

        for row in store.rows("ate16", done_only=True):
            print(row.image_id, row.scores["dice"], store.read(row).attribution.mean())

    Attributes:
      name: what to call it in a title.
      rank: number of axes of its images, 2 or 3.
      attrs: what the sweep said of itself: `config`, `class_names`, seed, versions and so on.
      run: name of the run that writes, for its rows.
      version: of the package that writes, for its rows.
    """

    name: str
    rank: int
    attrs: Mapping[str, Any]
    run: str = ""
    version: str = ""

    @classmethod
    @abc.abstractmethod
    def create_or_resume(
        cls,
        path: str | os.PathLike[str],
        *,
        entries: Sequence[Entry],
        plan: Plan,
        config: Mapping[str, Any],
        attrs: Mapping[str, Any] | None = None,
        rank: int = 2,
        run: str = "",
        version: str = "",
        overwrite: bool = False,
    ) -> Self:
        """Open the store at `path` to continue the same sweep, or create it.

        Args:
          path: where it is; a store in memory is always new, whatever the path.
          entries: methods and their settings.
          plan: label -> its rows, in the order of the entries.
          config: what must be equal for a sweep to be continued; JSON values.
          attrs: further attributes (seed, versions, class_names); the first run's are kept.
          rank: number of axes of the images, 2 or 3.
          run: name of this run, for the rows that it writes.
          version: of the package, for the rows that it writes.
          overwrite: delete an existing store first (never anything that is not one).

        Raises:
          ConfigError: the store at `path` was made from another plan or config, or a label cannot
            be used.
          JaxsegError: `path` cannot be written, or is something else than a store.
        """

    @property
    @abc.abstractmethod
    def labels(self) -> tuple[str, ...]:
        """Names of the entries, in their order."""

    @abc.abstractmethod
    def entry(self, label: str) -> Entry:
        """What was computed under a label, and with which settings."""

    @abc.abstractmethod
    def set_description(self, label: str, describe: Mapping[str, Any]) -> None:
        """Set `Entry.describe`, which only the model can tell; kept with the next `flush`."""

    @abc.abstractmethod
    def set_attribute(self, name: str, value: Any) -> None:
        """Set one of `attrs`, a JSON value that only the run can tell; kept at once."""

    @abc.abstractmethod
    def statuses(self, label: str) -> np.ndarray:
        """Status of every row, int8 [rows], -1 = pending."""

    @abc.abstractmethod
    def write_image(self, index: int, image: StoredImage) -> None:
        """Write image `index` of the plan; kept with the next `flush`.

        Raises:
          ValueError: the picture is not uint8 [*S, 1 or 3].
        """

    @abc.abstractmethod
    def write(
        self,
        label: str,
        row: int,
        explanation: Explanation,
        target: SegmentTarget,
        *,
        seconds: float = 0.0,
    ) -> None:
        """Write one explanation (without a batch axis) and the target it explains.

        It stops being pending for others with the next `flush`; many rows share the cost of one.

        Args:
          label: of the entry.
          row: its number.
          explanation: of the row.
          target: what it explains.
          seconds: its share of the time of its batch; 0 where it is not known.
        """

    @abc.abstractmethod
    def fail(self, label: str, row: int, reason: str, status: Status = Status.FAILED) -> None:
        """Record that a row has no explanation, and why; kept with the next `flush`."""

    @abc.abstractmethod
    def flush(self) -> None:
        """Keep everything that was written so far: a process that is killed loses none of it."""

    def close(self) -> None:
        """`flush`, and put everything where it stays; nothing is written after it."""
        self.flush()

    @abc.abstractmethod
    def rows(self, label: str | None = None, *, done_only: bool = False) -> list[Row]:
        """Rows of an entry, or of all of them, in order; cheap, no arrays are read.

        Args:
          label: of the entry; None for all.
          done_only: leave out those that are pending.
        """

    @abc.abstractmethod
    def read(self, row: Row) -> StoredExplanation:
        """A row with its arrays, of the size that they were written with."""

    @abc.abstractmethod
    def read_image(self, image: Row | int) -> StoredImage | None:
        """The image of a row, or that of an index; None if it was not written."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, where the sweep gave `attrs["class_names"]`."""
        return tuple(self.attrs.get("class_names", ()))

    def pending(self, label: str) -> np.ndarray:
        """Rows not yet written, int [P], ascending."""
        return np.flatnonzero(self.statuses(label) == PENDING)

    def counts(self) -> dict[str, dict[str, int]]:
        """Label -> name of the status (or "PENDING") -> number of rows, zeros left out."""
        result = {}
        for label in self.labels:
            values, numbers = np.unique(self.statuses(label), return_counts=True)
            result[label] = {
                "PENDING" if value == PENDING else Status(value).name: int(number)
                for value, number in zip(values, numbers, strict=True)
            }
        return result

    def _check_label(self, label: str) -> None:
        if label not in self.labels:
            raise ConfigError(f"{self.name} has no {label!r}; it has {', '.join(self.labels)}")


def check_picture(image: StoredImage, rank: int) -> None:
    """Raise `ValueError` unless the picture is uint8 [*S, 1 or 3]."""
    picture = image.image
    if picture.dtype != np.uint8 or picture.ndim != rank + 1 or picture.shape[-1] not in (1, 3):
        axes = "H, W" if rank == 2 else "D, H, W"
        raise ValueError(
            f"image must be uint8 [{axes}, 1 or 3], not {picture.dtype} {picture.shape}"
        )
