"""A store in memory, for results that are looked at and let go."""

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from jaxseg_xai.core.types import IGNORED, Explanation, SegmentTarget, Status
from jaxseg_xai.store.base import PENDING, Store, check_picture
from jaxseg_xai.store.records import (
    Entry,
    Plan,
    Row,
    StoredExplanation,
    StoredImage,
    as_stored,
    check_plan,
    image_ids,
)


class MemoryStore(Store):
    """Keeps what is written as long as the process lives."""

    name = "memory"

    def __init__(
        self,
        *,
        entries: Sequence[Entry],
        plan: Plan,
        config: Mapping[str, Any] | None = None,
        attrs: Mapping[str, Any] | None = None,
        rank: int = 2,
    ) -> None:
        check_plan(entries, plan)
        self.attrs = dict(attrs or {}) | {"config": dict(config or {})}
        self.rank = rank
        self._entries = {entry.label: entry for entry in entries}
        self._ids = image_ids(plan)
        self._images: dict[int, StoredImage] = {}
        self._names: dict[str, list[str]] = {label: [] for label in plan}  # of scores
        #: Label -> its rows as they are known, and the arrays of those that have any.
        self._rows = {
            label: [
                Row(
                    **{f.name: getattr(row, f.name) for f in dataclasses.fields(row)},
                    label=label,
                    method=self._entries[label].method,
                    number=number,
                    status=None,
                    reason="",
                    scores={},
                    run="",
                    version="",
                    settings=self._entries[label].settings,
                    seconds=0.0,
                )
                for number, row in enumerate(rows)
            ]
            for label, rows in plan.items()
        }
        self._found: dict[tuple[str, int], StoredExplanation] = {}

    @classmethod
    def create_or_resume(
        cls,
        path: str | os.PathLike[str] = "",
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
        """See `Store.create_or_resume`; always a new store."""
        del path, overwrite
        store = cls(entries=entries, plan=plan, config=config, attrs=attrs, rank=rank)
        store.run, store.version = run, version
        return store

    @property
    def labels(self) -> tuple[str, ...]:
        """See `Store.labels`."""
        return tuple(self._entries)

    def entry(self, label: str) -> Entry:
        """See `Store.entry`."""
        self._check_label(label)
        return self._entries[label]

    def set_description(self, label: str, describe: Mapping[str, Any]) -> None:
        """See `Store.set_description`."""
        self._entries[label] = dataclasses.replace(self.entry(label), describe=dict(describe))

    def set_attribute(self, name: str, value: Any) -> None:
        """See `Store.set_attribute`."""
        self.attrs = {**self.attrs, name: value}

    def statuses(self, label: str) -> np.ndarray:
        """See `Store.statuses`."""
        self._check_label(label)
        found = [PENDING if row.status is None else row.status for row in self._rows[label]]
        return np.array(found, np.int8)

    def write_image(self, index: int, image: StoredImage) -> None:
        """See `Store.write_image`."""
        check_picture(image, self.rank)
        self._images[index] = StoredImage(
            id=self._ids[index],
            image=np.broadcast_to(image.image, (*image.image.shape[:-1], 3)),
            labels=self._segmentation(image.labels),
            prediction=self._segmentation(image.prediction),
            affine=image.affine,
            stamp=image.stamp,
            content=image.content,
        )

    def write(
        self,
        label: str,
        row: int,
        explanation: Explanation,
        target: SegmentTarget,
        *,
        seconds: float = 0.0,
    ) -> None:
        """See `Store.write`."""
        self._check_label(label)
        scores = {name: float(np.float32(value)) for name, value in explanation.scores.items()}
        self._names[label] += [name for name in scores if name not in self._names[label]]
        status = Status(int(explanation.status))
        self._finish(label, row, status, scores=scores, seconds=seconds)
        attribution = explanation.attribution
        self._found[label, row] = StoredExplanation(
            row=self._rows[label][row],
            attribution=None if attribution is None else as_stored(attribution),
            region=as_stored(target.region),
            reference=as_stored(target.reference),
            maps={name: as_stored(value) for name, value in explanation.maps.items()},
            traces={name: as_stored(value) for name, value in explanation.traces.items()},
        )

    def fail(self, label: str, row: int, reason: str, status: Status = Status.FAILED) -> None:
        """See `Store.fail`."""
        self._check_label(label)
        self._finish(label, row, status, reason=" ".join(reason.split()))

    def flush(self) -> None:
        """Nothing: what is written is there."""

    def rows(self, label: str | None = None, *, done_only: bool = False) -> list[Row]:
        """See `Store.rows`."""
        if label is not None:
            self._check_label(label)
        labels = self.labels if label is None else (label,)
        rows = [row for name in labels for row in self._rows[name]]
        return [self._with_scores(row) for row in rows if row.status is not None or not done_only]

    def read(self, row: Row) -> StoredExplanation:
        """See `Store.read`."""
        self._check_label(row.label)
        nothing = StoredExplanation(
            row=row, attribution=None, region=None, reference=None, maps={}, traces={}
        )
        found = self._found.get((row.label, row.number), nothing)
        known = self._with_scores(self._rows[row.label][row.number])
        return dataclasses.replace(found, row=known)

    def read_image(self, image: Row | int) -> StoredImage | None:
        """See `Store.read_image`."""
        return self._images.get(image.image_index if isinstance(image, Row) else image)

    def _finish(self, label: str, row: int, status: Status, **known: Any) -> None:
        new = {"status": status, "reason": "", "run": self.run, "version": self.version} | known
        self._rows[label][row] = dataclasses.replace(self._rows[label][row], **new)

    def _with_scores(self, row: Row) -> Row:
        """With every score of its entry, NaN where it has none."""
        if row.status is None:
            return row
        scores = {name: row.scores.get(name, math.nan) for name in self._names[row.label]}
        return dataclasses.replace(row, scores=scores)

    def _segmentation(self, value: np.ndarray | None) -> np.ndarray | None:
        if value is None:
            return None
        if np.ndim(value) == self.rank:
            return np.array(value, np.int16)
        return np.array(value, np.int8 if (value == IGNORED).any() else bool)
