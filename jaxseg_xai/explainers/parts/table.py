"""Effects of a network's parts as a table: records, CSV, and the comparison of two models."""

import csv
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg_xai.core.errors import DataError, JaxsegError
from jaxseg_xai.core.types import Status
from jaxseg_xai.metrics.agreement import Agreement, compare_maps

#: Keys of the records.
COLUMNS = ("name", "kind", "channel", "ate", "standard_error", "first_order", "num_images")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComponentTable:
    """Effects of U parts on N images, in points of the outcome; negative: the part helps.

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
    def of_sites(
        cls,
        sites: Sequence[tuple[str, str, int]],
        *,
        statuses: np.ndarray,
        base: np.ndarray,
        outcomes: Sequence[Sequence[np.ndarray]],
        first_order: Sequence[Sequence[np.ndarray]],
    ) -> "ComponentTable":
        """From what is computed per image and site.

        Args:
          sites: name, kind ("layer" or "skip") and number of channels of each.
          statuses: int [N].
          base: [N], outcome without intervention.
          outcomes: per image and site, [channels + 1, samples] of replacing each channel, in the
            last row the whole tensor; or [1, samples], only that.
          first_order: per image and site, [channels].
        """
        parts: list[tuple[str, str, int | None]] = []
        for name, kind, count in sites:
            parts.append((name, kind, None))
            if kind == "layer":
                parts += [(name, "channel", channel) for channel in range(count)]
        shape = (len(statuses), len(parts))
        effects, errors, linear = (np.full(shape, np.nan) for _ in range(3))
        for i in map(int, np.flatnonzero(statuses == Status.OK)):
            position = 0
            for (_, kind, count), found, slopes in zip(
                sites, outcomes[i], first_order[i], strict=True
            ):
                # The whole first, then its channels.
                found = np.concatenate([found[-1:], found[:-1]]).astype(np.float64) - base[i]
                rows = slice(position, position + len(found))
                effects[i, rows] = found.mean(axis=1)
                if found.shape[1] > 1:
                    errors[i, rows] = found.std(axis=1, ddof=1) / np.sqrt(found.shape[1])
                linear[i, position] = np.sum(slopes, dtype=np.float64)
                if kind == "layer":
                    linear[i, position + 1 : position + 1 + count] = slopes
                position += 1 + (count if kind == "layer" else 0)
        names, kinds, channels = zip(*parts, strict=True)
        base = np.where(statuses == Status.OK, base, np.nan)
        return cls(
            names=names,
            kinds=kinds,
            channels=channels,
            statuses=statuses,
            base=base,
            effects=effects,
            errors=errors,
            first_order=linear,
        )


def compare_tables(
    table_a: ComponentTable,
    table_b: ComponentTable,
    *,
    kinds: Sequence[str] = ("layer", "skip"),
    threshold: float = 0.02,
) -> Agreement:
    """Compare two models of one architecture part by part, see `compare_maps`.

    Channels are left out unless `kinds` names them: two networks trained apart number theirs
    differently.

    Raises:
      DataError: the tables have other parts, or parts without an effect.
    """
    chosen = [
        [
            (part, effect)
            for *part, effect in zip(t.names, t.kinds, t.channels, t.ate, strict=True)
            if part[1] in kinds
        ]
        for t in (table_a, table_b)
    ]
    parts_a, parts_b = ([part for part, _ in rows] for rows in chosen)
    if parts_a != parts_b:
        raise DataError("the tables have other parts; compare models of one architecture")
    return compare_maps(*(np.array([e for _, e in rows]) for rows in chosen), threshold=threshold)


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
