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
from jaxseg_xai.core.types import Status
from jaxseg_xai.devices.mesh import device_mesh, replicate
from jaxseg_xai.explainers import Meta, Problem
from jaxseg_xai.judging.entries import MetricEntry
from jaxseg_xai.judging.explained import Explained, explainer_of
from jaxseg_xai.judging.rated import Rated, RatedBatch, rated_batch, rated_of
from jaxseg_xai.judging.scored import Scored, ScoreFile
from jaxseg_xai.metrics import score_all
from jaxseg_xai.ops.random import make_key
from jaxseg_xai.report.record import meta_of
from jaxseg_xai.store import Row
from jaxseg_xai.sweeps.items import Item, read_ahead

#: Explanations that wait for others of their size, in batches.
_MAX_WAITING = 8


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
        self._queues: dict[tuple[str, tuple[int, ...]], list[Rated]] = defaultdict(list)
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

    def _rated(self, row: Row, item: Item) -> Rated:
        again = any(map(_explains, self._todo[row.label, row.id]))
        explainer = self._explainers[row.label] if again else None
        return rated_of(self._explained, row, item, explainer)

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
        padded = self._problem.segmenter.input.pads
        asked = rated_batch(waiting, self._size, self._mesh, padded=padded)
        lacking = [
            entry
            for entry in self._metrics
            if any(entry in self._todo[label, row.id] for row in asked.rows.values())
        ]
        # One program for all; but a method that explains again has programs of its own.
        self._score([e for e in lacking if not _explains(e)], label, asked)
        for entry in filter(_explains, lacking):
            self._score([entry], label, asked)

    def _score(self, entries: Sequence[MetricEntry], label: str, asked: RatedBatch) -> None:
        """Score a batch with some metrics at once."""
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
                    self._score([entry], label, asked)
            return
        seconds = (time.perf_counter() - start) / len(asked.rows) / len(entries)
        names = tuple(entry.label for entry in entries)
        program = (names, asked.batch.images.shape, label if again else "")
        compiled = program in self._seen
        self._seen.add(program)
        for entry in entries:
            self._keep(entry, label, asked.rows, found[entry.label], seconds if compiled else None)

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
