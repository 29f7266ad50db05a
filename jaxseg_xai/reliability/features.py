"""From the store of a sweep to a table: numbers of each explanation, and its true Dice.

No feature looks at ground truth: all are there for unlabelled images too.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg_xai.core.errors import ConfigError, DataError
from jaxseg_xai.core.types import Status
from jaxseg_xai.reliability.truth import true_dice
from jaxseg_xai.report.common import class_name
from jaxseg_xai.store.records import PlanRow
from jaxseg_xai.store.store import PENDING, ExplanationStore

#: Explainers whose scores say something about a whole predicted segment; the first ones are MiSuRe.
_MISURE = ("misure", "misure_paper")
SOURCES = (*_MISURE, "confidence")
#: Settings that say how it is computed, not what; a sweep may go on with others
#: (`SweepConfig.identity`).
_IDLE = ("lanes", "windows", "region_side")
#: Statuses whose scores are defined.
_USABLE = (Status.OK, Status.NOT_REACHED)
#: Fields of `FeatureTable` that have a row per explanation.
_ROWS = ("image_ids", "class_names", "statuses", "values", "true_dice")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
    """What made a sweep's numbers: only numbers of one origin may be put together.

    Attributes:
      model: name of the model.
      weights_checksum: of its weights.
      class_names: that it segments.
      dtype: that it computes in.
      pad: what it does with sizes that its stride does not divide.
      parameters: explainer -> its settings.
    """

    model: str
    weights_checksum: int
    class_names: tuple[str, ...]
    dtype: str
    pad: str
    parameters: dict[str, dict[str, Any]]

    def differences(self, other: "Origin") -> list[str]:
        """What differs in `other`, in words; explainers that it has in addition do not count."""
        pairs: dict[str, tuple[Any, Any]] = {
            "model": (self.model, other.model),
            "weights checksum": (self.weights_checksum, other.weights_checksum),
            "class names": (self.class_names, other.class_names),
            "dtype": (self.dtype, other.dtype),
            "pad": (self.pad, other.pad),
        }
        for explainer, ours in self.parameters.items():
            theirs = other.parameters.get(explainer, {})
            for name in ours | theirs:
                pairs[f"{explainer}.{name}"] = (ours.get(name), theirs.get(name))
        return [f"{name} {a} and {b}" for name, (a, b) in pairs.items() if a != b]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Omitted:
    """An explanation without features: its image and class, and why ("PENDING", "FAILED", ...)."""

    image_id: str
    class_name: str
    why: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureTable:
    """N explanations and their F features.

    Attributes:
      image_ids: str [N]; explanations of one image belong together.
      class_names: str [N], the class explained.
      statuses: str [N], the first explainer's, "OK" or "NOT_REACHED".
      names: of the features, length F, "misure.num_dilations".
      values: float64 [N, F], NaN where a feature is not defined.
      true_dice: float64 [N], of the predicted segment against the label map; NaN without one.
      origin: what made them.
      omitted: explanations that have no features.
    """

    image_ids: np.ndarray
    class_names: np.ndarray
    statuses: np.ndarray
    names: tuple[str, ...]
    values: np.ndarray
    true_dice: np.ndarray
    origin: Origin
    omitted: tuple[Omitted, ...]

    def __len__(self) -> int:
        """N."""
        return len(self.values)

    @property
    def sources(self) -> tuple[str, ...]:
        """Explainers that the features come from."""
        return tuple(self.origin.parameters)

    def of_sources(self, sources: Sequence[str]) -> "FeatureTable":
        """Only the features of some of its explainers."""
        names = tuple(name for name in self.names if name.partition(".")[0] in sources)
        parameters = {name: self.origin.parameters[name] for name in sources}
        origin = dataclasses.replace(self.origin, parameters=parameters)
        return dataclasses.replace(self, names=names, values=self.columns(names), origin=origin)

    def columns(self, names: Sequence[str]) -> np.ndarray:
        """Some features, float64 [N, len(names)]."""
        return self.values[:, [self.names.index(name) for name in names]]

    def defined(self) -> "FeatureTable":
        """Without the features that no explanation has."""
        kept = np.flatnonzero(np.isfinite(self.values).any(axis=0))
        names = tuple(self.names[column] for column in kept)
        return dataclasses.replace(self, names=names, values=self.values[:, kept])

    def labelled(self) -> "FeatureTable":
        """The explanations whose true Dice is known."""
        known = np.isfinite(self.true_dice)
        return dataclasses.replace(self, **{name: getattr(self, name)[known] for name in _ROWS})

    def counts_omitted(self) -> dict[str, int]:
        """Why explanations have no features -> how many."""
        why, numbers = np.unique([item.why for item in self.omitted], return_counts=True)
        return dict(zip(why.tolist(), numbers.tolist(), strict=True))


def read_features(path: Path, sources: Sequence[str] = ()) -> FeatureTable:
    """The features of a sweep; an unfinished one gives those that are there.

    Args:
      path: the store.
      sources: explainers to take features of, of `SOURCES`; where empty, all that the sweep has.

    Raises:
      ConfigError: another explainer.
      DataError: the sweep has no results of an explainer.
      JaxsegError: not a store.
    """
    if unknown := [name for name in sources if name not in SOURCES]:
        raise ConfigError(f"no features of {', '.join(unknown)}; there are {', '.join(SOURCES)}")
    store = ExplanationStore.open(path)
    if not sources:
        sources = tuple(name for name in SOURCES if name in store.explainers) or SOURCES[:1]
    for name in sources:
        if name not in store.explainers:
            raise DataError(
                f"{path}: the sweep has no {name} results, only {', '.join(store.explainers)}; "
                f"sweep with --explainers {' '.join(sources)}"
            )
    names, columns = [], []
    rows = _common_rows(store, sources)
    for source in sources:
        # Sorted: the order on disk is the file system's.
        for name, column in sorted(_features_of(store, source).items()):
            names.append(f"{source}.{name}")
            columns.append(column[[row[source] for row in rows.values()]])
    statuses = {source: store.statuses(source) for source in sources}
    usable, plans, kept_statuses, omitted = [], [], [], []
    for number, (plan, row) in enumerate(rows.items()):
        states = [int(statuses[source][row[source]]) for source in sources]
        bad = next((state for state in states if state not in _USABLE), None)
        if bad is None:
            usable.append(number)
            plans.append(plan)
            kept_statuses.append(Status(states[0]).name)
            continue
        why = "PENDING" if bad == PENDING else Status(bad).name
        name = class_name(plan.class_index, store.class_names)
        omitted.append(Omitted(image_id=plan.image_id, class_name=name, why=why))
    values = np.array(columns, np.float64).T.reshape(len(rows), len(names))[usable]
    config = store.attrs["config"]
    return FeatureTable(
        image_ids=np.array([plan.image_id for plan in plans], str),
        class_names=np.array([class_name(p.class_index, store.class_names) for p in plans], str),
        statuses=np.array(kept_statuses, str),
        names=tuple(names),
        values=np.where(np.isfinite(values), values, np.nan),
        true_dice=true_dice(store, plans),
        origin=Origin(
            model=str(store.attrs.get("model", "")),
            weights_checksum=int(config.get("weights_checksum", 0)),
            class_names=store.class_names,
            dtype=str(config.get("dtype", "")),
            pad=str(config.get("pad", "")),
            parameters={
                source: {k: v for k, v in store.parameters(source).items() if k not in _IDLE}
                for source in sources
            },
        ),
        omitted=tuple(omitted),
    )


def join(tables: Sequence[FeatureTable], paths: Sequence[Path]) -> FeatureTable:
    """One table of several sweeps; `DataError` where they are not of one origin."""
    first = tables[0]
    for table, path in zip(tables, paths, strict=True):
        different = first.origin.differences(table.origin) + table.origin.differences(first.origin)
        if different or table.names != first.names:
            different += sorted(set(table.names) ^ set(first.names))
            raise DataError(
                f"{path} is another kind of sweep than {paths[0]} ({different[0]}); use sweeps of "
                "one model with the same explainers and settings"
            )
    joined = {name: np.concatenate([getattr(t, name) for t in tables]) for name in _ROWS}
    omitted = tuple(item for table in tables for item in table.omitted)
    return dataclasses.replace(first, **joined, omitted=omitted)


def _common_rows(store: ExplanationStore, sources: Sequence[str]) -> dict[PlanRow, dict[str, int]]:
    """What is explained, by all of the explainers -> explainer -> its row."""
    rows: dict[PlanRow, dict[str, int]] = {}
    for source in sources:
        for row in range(store.num_rows(source)):
            rows.setdefault(store.plan_row(source, row), {})[source] = row
    return {plan: found for plan, found in rows.items() if len(found) == len(sources)}


def _features_of(store: ExplanationStore, source: str) -> dict[str, np.ndarray]:
    """Name -> column [explanation]: every score, and what MiSuRe's Dice trace says."""
    found = store.scores(source)
    if source in _MISURE and "dice" in (traces := store.traces(source)):
        trace = traces["dice"].astype(np.float64)
        found["dice_start"] = trace[:, 0]
        # By trapezoids, over the dilations that were made: the padding is NaN.
        found["dice_trace_area"] = np.nansum((trace[:, 1:] + trace[:, :-1]) / 2, axis=1)
    return found
