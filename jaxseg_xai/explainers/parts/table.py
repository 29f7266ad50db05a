"""Effects of a network's parts as a table over several images: records and CSV."""

import csv
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg_xai.core.errors import DataError, JaxsegError
from jaxseg_xai.core.types import Status

#: Keys of the records.
COLUMNS = ("name", "kind", "channel", "ate", "standard_error", "first_order", "num_images")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComponentTable:
    """Effects of U parts on N images, in units of the outcome; negative: the part helps.

    Attributes:
      names: layer or skip connection of each part, length U.
      kinds: "layer" (all channels of it), "channel" or "skip", length U.
      channels: number of the channel, None for a layer or a skip connection.
      statuses: int [N], a `Status` each; the numbers of an image that is not OK are NaN.
      base: float64 [N], outcome without intervention.
      effects: float64 [N, U], mean over replacements; NaN for channels that were not intervened on.
      errors: float64 [N, U], standard error of that mean; NaN with one replacement.
      first_order: float64 [N, U], gradient x difference.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    channels: tuple[int | None, ...]
    statuses: np.ndarray
    base: np.ndarray
    effects: np.ndarray
    errors: np.ndarray
    first_order: np.ndarray

    @property
    def ate(self) -> np.ndarray:
        """Mean effect over the images, [U]; NaN where no image is OK."""
        return self._mean(self.effects)

    @property
    def mean_first_order(self) -> np.ndarray:
        """Mean first-order effect over the images, [U]; NaN where no image is OK."""
        return self._mean(self.first_order)

    @property
    def standard_error(self) -> np.ndarray:
        """Of the mean effect, [U].

        Over images where there are several (an image's replacements are not independent of each
        other), over the replacements of the only one; NaN with one replacement of one image.
        """
        usable = self.effects[self._usable]
        if len(usable) < 2:
            return self._mean(self.errors)
        return np.std(usable, axis=0, ddof=1) / np.sqrt(len(usable))

    def records(self) -> list[dict[str, Any]]:
        """A row per part, keys `COLUMNS`; numbers are float, NaN where there is none."""
        count = int(self._usable.sum())
        columns = (self.names, self.kinds, self.channels)
        numbers = (self.ate, self.standard_error, self.mean_first_order)
        rows = zip(*columns, *(map(float, values) for values in numbers), strict=True)
        return [dict(zip(COLUMNS, (*row, count), strict=True)) for row in rows]

    def of_images(self, chosen: Sequence[int] | np.ndarray) -> "ComponentTable":
        """The table of some of its images (indices, or bool [N])."""
        names = ("statuses", "base", "effects", "errors", "first_order")
        picked = {name: getattr(self, name)[np.asarray(chosen)] for name in names}
        return dataclasses.replace(self, **picked)

    @property
    def _usable(self) -> np.ndarray:
        return self.statuses == Status.OK

    def _mean(self, values: np.ndarray) -> np.ndarray:
        usable = values[self._usable]
        return usable.mean(axis=0) if len(usable) else np.full(values.shape[1], np.nan)

    @classmethod
    def of_results(
        cls,
        parts: Mapping[str, Sequence[Any]],
        statuses: Sequence[int] | np.ndarray,
        base: Sequence[float] | np.ndarray,
        traces: Mapping[str, np.ndarray],
    ) -> "ComponentTable":
        """From the results of N images.

        Args:
          parts: what `ComponentAte.describe` says: `names`, `kinds` and `channels`, length U each.
          statuses: int [N].
          base: [N], the score `base_outcome`.
          traces: `ate`, `standard_error` and `first_order`, [N, U] each.

        Raises:
          DataError: the traces are of another number of parts.
        """
        wanted = (len(statuses), len(parts["names"]))
        for name in ("ate", "standard_error", "first_order"):
            if np.shape(traces[name]) != wanted:
                raise DataError(
                    f"trace {name} is {np.shape(traces[name])} for {wanted[0]} images and "
                    f"{wanted[1]} parts; read the parts of the same run"
                )
        return cls(
            names=tuple(parts["names"]),
            kinds=tuple(parts["kinds"]),
            channels=tuple(parts["channels"]),
            statuses=np.asarray(statuses),
            base=np.asarray(base, np.float64),
            effects=np.asarray(traces["ate"], np.float64),
            errors=np.asarray(traces["standard_error"], np.float64),
            first_order=np.asarray(traces["first_order"], np.float64),
        )


def write_csv(path: str | os.PathLike[str], tables: Mapping[str, ComponentTable]) -> Path:
    """Write the records of the tables of some classes; empty cells where there is no number.

    Args:
      path: the file.
      tables: name of a class -> its table; the name goes into the first column, `class_name`.

    Raises:
      JaxsegError: it cannot be written.
    """
    try:
        with open(path, "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("class_name", *COLUMNS))
            for class_name, table in tables.items():
                for row in table.records():
                    cells = ["" if cell != cell else cell for cell in row.values()]
                    writer.writerow([class_name, *cells])
    except OSError as error:
        raise JaxsegError(f"{path}: cannot be written ({error.strerror})") from error
    return Path(path)
