"""Numbers of explanations as a table, and what made them."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg_xai.core.errors import DataError

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
      sizes: what is done with images of many sizes, see `DataConfig.sizes`.
      settings: label -> what was computed under it: method, its revision and its settings, but
        for those that do not change the numbers.
    """

    model: str
    weights_checksum: int
    class_names: tuple[str, ...]
    dtype: str
    pad: str
    sizes: str = "native"
    settings: dict[str, dict[str, Any]]

    def differences(self, other: "Origin") -> list[str]:
        """What differs in `other`, in words; labels that it has in addition do not count."""
        pairs: dict[str, tuple[Any, Any]] = {
            "model": (self.model, other.model),
            "weights checksum": (self.weights_checksum, other.weights_checksum),
            "class names": (self.class_names, other.class_names),
            "dtype": (self.dtype, other.dtype),
            "pad": (self.pad, other.pad),
            "sizes": (self.sizes, other.sizes),
        }
        for label, ours in self.settings.items():
            if label not in other.settings:
                pairs[f"label {label}"] = ("present", "absent")
                continue
            theirs = other.settings[label]
            for name in ours | theirs:
                pairs[f"{label}.{name}"] = (ours.get(name), theirs.get(name))
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
      statuses: str [N], of the first label, "OK" or "NOT_REACHED".
      names: of the features, length F, "misure.num_dilations".
      values: float64 [N, F], NaN where a feature is not defined.
      true_dice: float64 [N], of the predicted segment against the ground truth; NaN without one.
      sureness: features that tell by themselves how sure the model is -> 1 where they rise with its
        confidence, -1 where they fall.
      origin: what made them.
      omitted: explanations that have no features.
    """

    image_ids: np.ndarray
    class_names: np.ndarray
    statuses: np.ndarray
    names: tuple[str, ...]
    values: np.ndarray
    true_dice: np.ndarray
    sureness: Mapping[str, int]
    origin: Origin
    omitted: tuple[Omitted, ...]

    def __len__(self) -> int:
        """N."""
        return len(self.values)

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels that the features come from."""
        return tuple(self.origin.settings)

    def of_labels(self, labels: Sequence[str]) -> "FeatureTable":
        """Only the features of some of its labels."""
        names = tuple(name for name in self.names if name.partition(".")[0] in labels)
        settings = {label: self.origin.settings[label] for label in labels}
        return dataclasses.replace(
            self,
            names=names,
            values=self.columns(names),
            sureness={name: sign for name, sign in self.sureness.items() if name in names},
            origin=dataclasses.replace(self.origin, settings=settings),
        )

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


def join(tables: Sequence[FeatureTable], paths: Sequence[Path]) -> FeatureTable:
    """One table of several sweeps; `DataError` where they are not of one origin."""
    first = tables[0]
    for table, path in zip(tables, paths, strict=True):
        different = first.origin.differences(table.origin) + table.origin.differences(first.origin)
        if different or table.names != first.names:
            different += sorted(set(table.names) ^ set(first.names))
            raise DataError(
                f"{path} is another kind of sweep than {paths[0]} ({different[0]}); use sweeps of "
                "one model with the same methods and settings"
            )
    joined = {name: np.concatenate([getattr(t, name) for t in tables]) for name in _ROWS}
    omitted = tuple(item for table in tables for item in table.omitted)
    return dataclasses.replace(first, **joined, omitted=omitted)
