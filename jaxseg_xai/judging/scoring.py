"""Scores explanations of a store with metrics, in batches, and keeps what is there already."""

import dataclasses
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxseg_xai.core.errors import JaxsegError
from jaxseg_xai.core.progress import progress_bar
from jaxseg_xai.core.types import Explanation, SegmentTarget, Status
from jaxseg_xai.data.others import read_others
from jaxseg_xai.devices.mesh import deal_batch, device_mesh, replicate
from jaxseg_xai.explainers import Batch, Meta, Problem
from jaxseg_xai.judging.entries import MetricEntry
from jaxseg_xai.judging.explained import Explained, explainer_of
from jaxseg_xai.judging.scored import Scored, ScoreFile
from jaxseg_xai.metrics import score_all
from jaxseg_xai.ops.random import image_id, make_key
from jaxseg_xai.report.record import meta_of
from jaxseg_xai.store import Row
from jaxseg_xai.sweeps.asked import Asked, on_tile
from jaxseg_xai.sweeps.items import Item, read_ahead
from jaxseg_xai.sweeps.tiles import Tile

#: Explanations that wait for others of their size, in batches.
_MAX_WAITING = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Rated:
    """An explanation on the model's grid.

    Attributes:
      row: of the store.
      asked: image and target.
      attribution: float32 [*S].
      known: bool [*S], the known cause; what is explained where nobody knows.
      others: float32 [N, *S, C], other images, where the method needs them to explain again.
    """

    row: Row
    asked: Asked
    attribution: np.ndarray
    known: np.ndarray
    others: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Asking:
    """A batch of explanations as metrics take it, leaves [B, ...].

    Attributes:
      batch: what was explained.
      explanations: without the further maps and scores of methods, which would make each method's
        program another one.
      known: the pixels that are known to matter.
    """

    batch: Batch
    explanations: Explanation
    known: np.ndarray


class Scoring:
    """One run over the explanations of one store.

    Attributes:
      refused: (label of the entry, label of the metric) -> why that metric cannot judge it.
      failed: image -> why its explanations have no scores.
    """

    def __init__(
        self,
        explained: Explained,
        metrics: Sequence[MetricEntry],
        scores: ScoreFile,
        *,
        progress: bool = True,
    ) -> None:
        """Find out what there is to do.

        Args:
          explained: the store, its model and images.
          metrics: with which to judge.
          scores: those that are there are not computed again.
          progress: show a bar.
        """
        self.refused: dict[tuple[str, str], str] = {}
        self.failed: dict[str, str] = {}
        self._explained, self._metrics, self._scores = explained, metrics, scores
        self._shown = progress
        work, store = explained.work, explained.store
        self._mesh = device_mesh()
        size = max(1, work.batch_size)
        self._size = -(-size // self._mesh.size) * self._mesh.size
        self._problem = Problem(
            segmenter=work.bundle.segmenter,
            variables=replicate(work.bundle.variables, self._mesh),
            key=make_key(work.seed),
        )
        entries = {label: store.entry(label) for label in store.labels}
        self._explainers = {label: explainer_of(entry) for label, entry in entries.items()}
        self._metas: Mapping[str, Meta] = {n: meta_of(entry) for n, entry in entries.items()}
        self._queues: dict[tuple[str, tuple[int, ...]], list[_Rated]] = defaultdict(list)
        self._pools: dict[int, Any] = {}
        #: What was compiled, so that only the other batches are timed.
        self._seen: set[Any] = set()
        for label, meta in self._metas.items():
            if meta.high == "neither" or meta.figure == "parts":
                why = "its maps say nothing for or against the segment"
                self.refused |= {(label, entry.label): why for entry in metrics}
        # Image -> its rows; id of a row -> the metrics that lack it.
        self._rows: dict[int, list[Row]] = defaultdict(list)
        self._todo: dict[tuple[str, str], list[MetricEntry]] = {}
        for row in store.rows(done_only=True):
            if row.status not in (Status.OK, Status.NOT_REACHED):
                continue
            lacking = [
                entry
                for entry in metrics
                if (row.label, entry.label) not in self.refused
                and scores.get(explained.name, row, entry) is None
            ]
            if not lacking:
                continue
            if row.image_id in explained.missing:
                self.failed[row.image_id] = "the data set does not have this image any more"
                continue
            self._todo[row.label, row.id] = lacking
            self._rows[row.image_index].append(row)

    def run(self) -> None:
        """Score what is not scored yet."""
        total = sum(map(len, self._todo.values()))
        name = f"judge {self._explained.name}"
        with progress_bar(total=total, unit="score", desc=name, shown=self._shown) as self._bar:
            for group in read_ahead(self._explained.work, sorted(self._rows), self._size):
                for position, item in group:
                    self._take(position, item)
            for key in list(self._queues):
                self._compute(key)

    def _take(self, position: int, item: Item | JaxsegError) -> None:
        """Queue the explanations of an image."""
        for row in self._rows[position]:
            if isinstance(item, JaxsegError):
                self.failed[row.image_id] = str(item)
                continue
            try:
                rated = self._rated(row, item)
            except JaxsegError as error:
                self.failed[row.image_id] = str(error)
                continue
            key = (row.label, rated.asked.item.image.shape)
            self._queues[key].append(rated)
            if len(self._queues[key]) == self._size:
                self._compute(key)
        while sum(map(len, self._queues.values())) > _MAX_WAITING * self._size * len(self._metas):
            self._compute(max(self._queues, key=lambda key: len(self._queues[key])))

    def _rated(self, row: Row, item: Item) -> _Rated:
        """A stored explanation on the grid on which the model sees the image."""
        work, store = self._explained.work, self._explained.store
        stored, grid = store.read(row), item.grid
        assert not isinstance(grid, Tile)
        target = SegmentTarget(
            class_index=np.int32(row.class_index),
            region=grid.forward(np.asarray(stored.region, bool)),
            reference=grid.forward(np.asarray(stored.reference, bool)),
        )
        maps = {"attribution": grid.forward(np.asarray(stored.attribution, np.float32))}
        cause = item.sample.cause
        maps["known"] = target.segment if cause is None else grid.forward(np.asarray(cause, bool))
        asked = Asked(row=row.number, item=item, target=target)
        if work.tile or work.is_too_large(grid.prepared):
            side = int(store.entry(row.label).settings.get("block_size", 1))
            asked = on_tile(work, asked, grid, side)
        if isinstance(tile := asked.item.grid, Tile):
            maps = {name: values[tile.place].copy() for name, values in maps.items()}
        return _Rated(row=row, asked=asked, others=self._others(row, asked.item), **maps)

    def _others(self, row: Row, item: Item) -> np.ndarray | None:
        """Other images, where a metric lets a method that needs them explain again."""
        explainer = self._explainers[row.label]
        again = any(map(_explains, self._todo[row.label, row.id]))
        if not again or explainer is None or "others" not in explainer.needs:
            return None
        work, grid = self._explained.work, item.grid
        size = grid.whole.prepared if isinstance(grid, Tile) else grid.prepared
        found = read_others(
            self._explained.others or work.source,
            work.bundle.segmenter.input,
            item.sample,
            size,
            count=explainer.num_others,
            seed=work.seed,
        )
        return found[:, *grid.place] if isinstance(grid, Tile) else found

    def _problem_of(self, label: str) -> Problem:
        """With the patches that a method needs to explain again."""
        explainer = self._explainers[label]
        if explainer is None or "patches" not in explainer.needs:
            return self._problem
        side = explainer.patch_side
        if side not in self._pools:
            self._pools[side] = replicate(self._explained.pool(side), self._mesh)
        return dataclasses.replace(self._problem, pool=self._pools[side])

    def _compute(self, key: tuple[str, tuple[int, ...]]) -> None:
        """Score what is queued with every metric that some of it lacks."""
        waiting, label = self._queues.pop(key), key[0]
        asked = [one.asked for one in waiting]
        examples: dict[str, Any] = {
            "images": np.stack([one.item.image for one in asked]),
            "targets": jax.tree.map(lambda *x: np.stack(x), *[one.target for one in asked]),
            "image_ids": np.stack([image_id(one.item.sample.id) for one in asked]),
            "groups": np.stack([image_id(one.item.sample.belongs_to) for one in asked]),
        }
        others = [one.others for one in waiting]
        if all(one is not None for one in others):
            examples["others"] = np.stack(others)  # pyright: ignore[reportArgumentType, reportCallIssue]
        if self._problem.segmenter.input.pads:
            examples["sizes"] = np.array([one.item.grid.resized for one in asked], np.int32)
        explanations = {
            "attribution": np.stack([one.attribution for one in waiting]),
            "status": np.array([one.row.status for one in waiting], np.int32),
        }
        known = np.stack([one.known for one in waiting])
        (dealt, explanations, known), which = deal_batch(
            (examples, explanations, known), self._size, self._mesh
        )
        batch = Batch(**dealt, valid=which < len(waiting))
        asking = _Asking(batch=batch, explanations=Explanation(**explanations), known=known)
        rows = {
            int(place): one.row
            for place, one in zip(np.argsort(which, kind="stable"), waiting, strict=False)
        }
        lacking = [
            entry
            for entry in self._metrics
            if any(entry in self._todo[label, row.id] for row in rows.values())
        ]
        # One program for all; but a method that explains again has programs of its own.
        self._score([e for e in lacking if not _explains(e)], label, asking, rows)
        for entry in filter(_explains, lacking):
            self._score([entry], label, asking, rows)

    def _score(
        self,
        entries: Sequence[MetricEntry],
        label: str,
        asked: _Asking,
        rows: Mapping[int, Row],
    ) -> None:
        """Score a batch, the rows at some of its places, with some metrics at once."""
        entries = [entry for entry in entries if (label, entry.label) not in self.refused]
        if not entries:
            return
        again = any(map(_explains, entries))
        start = time.perf_counter()
        try:
            found = jax.device_get(
                score_all(
                    {entry.label: entry.metric for entry in entries},
                    self._problem_of(label) if again else self._problem,
                    asked.batch if again else dataclasses.replace(asked.batch, others=None),
                    asked.explanations,
                    meta=self._metas[label],
                    mesh=self._mesh,
                    known=asked.known,
                    explainer=self._explainers[label],
                )
            )
        except JaxsegError as error:
            if len(entries) == 1:
                self.refused[label, entries[0].label] = str(error)
            else:  # which of them?
                for entry in entries:
                    self._score([entry], label, asked, rows)
            return
        seconds = (time.perf_counter() - start) / len(rows) / len(entries)
        names = tuple(entry.label for entry in entries)
        program = (names, asked.batch.images.shape, label if again else "")
        compiled = program in self._seen
        self._seen.add(program)
        for entry in entries:
            self._keep(entry, label, rows, found[entry.label], seconds if compiled else None)

    def _keep(
        self,
        entry: MetricEntry,
        label: str,
        rows: Mapping[int, Row],
        found: Mapping[str, np.ndarray],
        seconds: float | None,
    ) -> None:
        """Keep the scores of those rows that lack them."""
        meta = entry.metric.meta
        scored = [
            (
                row,
                Scored(
                    scores={name: float(found[name][place]) for name in meta.scores},
                    curves={name: found[name][place].tolist() for name in meta.curves},
                    seconds=seconds,
                ),
            )
            for place, row in rows.items()
            if entry in self._todo[label, row.id]
        ]
        self._scores.add(self._explained.name, entry, scored)
        self._bar.update(len(scored))


def _explains(entry: MetricEntry) -> bool:
    """Whether a metric explains again."""
    return "explain" in entry.metric.meta.needs
