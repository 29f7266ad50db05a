"""From stores of sweeps to a judgement."""

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg_xai.core.display import class_name
from jaxseg_xai.core.errors import ConfigError, JaxsegError
from jaxseg_xai.core.types import Source, Status
from jaxseg_xai.judging.entries import MetricEntry, make_metrics
from jaxseg_xai.judging.explained import Explained, explainer_of, open_explained
from jaxseg_xai.judging.result import Judgement, Record
from jaxseg_xai.judging.scored import ScoreFile
from jaxseg_xai.judging.scoring import Scoring
from jaxseg_xai.models import Bundle
from jaxseg_xai.report.record import meta_of
from jaxseg_xai.store import Store, ZarrStore
from jaxseg_xai.store.writer import sole_writer

#: The file with all scores and curves, in the folder of a judgement.
SCORES = "scores.jsonl"


def judge_stores(
    stores: Sequence[str | os.PathLike[str] | Store],
    folder: Path,
    *,
    metrics: Any = (),
    bundle: Bundle | None = None,
    source: Source | None = None,
    progress: bool = True,
    **settings: Any,
) -> Judgement:
    """Score every explanation of some stores, one a model, and compare the methods.

    What is scored already is not scored again; what cannot be judged is a note.

    Args:
      stores: of sweeps, open or by their paths.
      folder: where the scores are kept.
      metrics: see `entries.make_metrics`.
      bundle: the model of all stores; None: each names its own.
      source: their images; None: each names its own.
      progress: show a bar.
      **settings: of the `Judgement`.

    Raises:
      JaxsegError: no store can be judged; or a metric or the folder cannot be used.
    """
    if not stores:
        raise ConfigError("no store to judge; name those of one sweep or more")
    entries = make_metrics(metrics)
    opened = [one if isinstance(one, Store) else ZarrStore.open(one) for one in stores]
    notes: list[str] = []
    methods: list[Record] = []
    scores: list[Record] = []
    with sole_writer(folder / SCORES):
        folder.mkdir(parents=True, exist_ok=True)
        file = ScoreFile(folder / SCORES)
        for name, store in zip(_names(opened), opened, strict=True):
            try:
                explained = open_explained(name, store, bundle=bundle, source=source)
            except JaxsegError as error:
                if len(opened) == 1:
                    raise
                notes.append(f"{name} is left out: {error}")
                continue
            scoring = Scoring(explained, entries, file, progress=progress)
            scoring.run()
            notes += _notes(name, store, scoring)
            methods += _methods(explained)
            scores += _scores(explained, entries, file)
    if not methods:
        raise ConfigError(f"no store can be judged; {notes[0]}")
    return Judgement(
        metrics=entries, methods=methods, scores=scores, notes=tuple(notes), **settings
    )


def _names(stores: Sequence[Store]) -> list[str]:
    """Names of the models; with that of the store where two are the same."""
    names = [Path(str(store.attrs.get("model") or store.name)).name for store in stores]
    counts = Counter(names)
    found = [
        f"{name} ({store.name.removesuffix('.zarr')})" if counts[name] > 1 else name
        for name, store in zip(names, stores, strict=True)
    ]
    if len(set(found)) < len(found):
        raise ConfigError(f"two stores are called {Counter(found).most_common(1)[0][0]}")
    return found


def _asked(store: Store) -> dict[str, list[str]]:
    """What is explained -> the entries that explain it."""
    config = store.attrs["config"]
    reference = config.get("roi", {}).get("reference", "truth")
    found: dict[str, list[str]] = defaultdict(list)
    for label in store.labels:
        settings: Mapping[str, Any] = config.get("explain", {}).get(label, {})
        by_itself = meta_of(store.entry(label)).target == "prediction"
        by_roi = settings.get("region", {}).get("kind") == "roi"
        usual = "prediction" if by_itself and not by_roi else reference
        regions = " ".join(sorted({row.region_name for row in store.rows(label)}))
        found[f"{settings.get('target', usual)}, {regions}"].append(label)
    return found


def _notes(name: str, store: Store, scoring: Scoring) -> list[str]:
    """What could not be judged, a line for all metrics of one reason."""
    found = [f"{name}: {image}: {why}" for image, why in scoring.failed.items()]
    if len(asked := _asked(store)) > 1:
        words = "; ".join(f"{', '.join(labels)}: {what}" for what, labels in asked.items())
        found.append(f"{name}: methods explain different things, and their scores too ({words})")
    together: dict[tuple[str, str], list[str]] = defaultdict(list)
    for (label, metric), why in scoring.refused.items():
        together[label, why].append(metric)
    return found + [
        f"{name}: {label} is not judged by {', '.join(metrics)}: {why}"
        for (label, why), metrics in together.items()
    ]


def _methods(explained: Explained) -> list[Record]:
    """What an explanation of each method costs, and how many there are, by status."""
    store, shape = explained.store, explained.work.image_shape
    times: Mapping[str, Mapping[str, float]] = store.attrs.get("times", {})
    found = []
    for label in store.labels:
        entry, counts = store.entry(label), store.counts()[label]
        explainer, time = explainer_of(entry), times.get(label, {})
        passes = None if explainer is None or shape is None else explainer.num_passes(shape)
        found.append(
            {
                "model": explained.name,
                "label": label,
                "method": entry.method,
                "explanations": sum(counts.values()),
                "usable": sum(counts.get(s.name, 0) for s in (Status.OK, Status.NOT_REACHED)),
                "seconds": time["seconds"] / time["explanations"]
                if time.get("explanations")
                else np.nan,
                "evaluations": np.nan if passes is None else float(passes),
                "statuses": ", ".join(f"{number} {status}" for status, number in counts.items()),
            }
        )
    return found


def _scores(explained: Explained, entries: Sequence[MetricEntry], file: ScoreFile) -> list[Record]:
    """All scores of a store, a record an explanation, metric and score."""
    store, found = explained.store, []
    for row in store.rows(done_only=True):
        for entry in entries:
            scored = file.get(explained.name, row, entry)
            if scored is None:
                continue
            record = {
                "model": explained.name,
                "label": row.label,
                "image_id": row.image_id,
                "class_name": class_name(row.class_index, store.class_names),
                "region": row.region_name,
                "metric": entry.label,
            }
            seconds = np.nan if scored.seconds is None else scored.seconds
            found += [
                record | {"score": name, "value": value, "seconds": seconds}
                for name, value in scored.scores.items()
            ]
    return found
