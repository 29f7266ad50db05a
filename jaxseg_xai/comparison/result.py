"""Models compared by their maps of effects: shares, histograms, agreement, rank correlation."""

import dataclasses
import functools
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxseg_xai.comparison import parts
from jaxseg_xai.comparison.maps import BlockMap, ModelMaps
from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.metrics.agreement import compare_maps, histogram, shares

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Record = dict[str, Any]
#: What two maps are compared by, see `metrics.agreement.Agreement`.
MEASURES = ("same_sign", "same_sign_nonzero", "pearson", "spearman")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """M models on the maps that all of them have.

    Its tables are lists of records. `class_name` is "" in the rows over all classes; where there is
    more than one, rows for each follow.

    Attributes:
      models: name, maps and parts of each.
      threshold: effects below it count as none.
      unit: of the effects.
      notes: what was left out, what differs, what is not defined; a line each.
    """

    models: tuple[ModelMaps, ...]
    threshold: float
    unit: str
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Of the models."""
        return [model.name for model in self.models]

    @property
    def class_names(self) -> list[str]:
        """Of the classes that are explained."""
        return list(dict.fromkeys(one.class_name for one in self.models[0].maps))

    @functools.cached_property
    def per_model(self) -> list[Record]:
        """Shares and histogram of each model, over the blocks of all its maps.

        Keys: model, class_name, num_maps, num_blocks; positive, negative and zero, shares that add
        up to 1; lowest and highest effect; base, mean outcome of the images; histogram, blocks in
        each of the nine bins.
        """
        return [
            {"model": model.name, "class_name": name, "num_maps": len(maps)} | self._summary(maps)
            for name in self._classes
            for model, maps in zip(self.models, self._maps(name), strict=True)
        ]

    @functools.cached_property
    def per_map(self) -> list[Record]:
        """The same of each map: model, image_id, class_name, region, and so on."""
        return [
            {"model": model.name, "image_id": one.image_id, "class_name": one.class_name}
            | {"region": one.region}
            | self._summary([one])
            for model in self.models
            for one in model.maps
        ]

    @functools.cached_property
    def pairs_per_map(self) -> list[Record]:
        """Agreement of each two models on each map; NaN where it is not defined.

        Keys: model_a, model_b, image_id, class_name, region, num_blocks, and those of `MEASURES`.
        """
        found = []
        for a, b in itertools.combinations(self.models, 2):
            for one, other in zip(a.maps, b.maps, strict=True):
                where = one.outside & other.outside
                agreement = compare_maps(
                    one.effects, other.effects, threshold=self.threshold, where=where
                )
                record = {"model_a": a.name, "model_b": b.name, "image_id": one.image_id}
                record |= {"class_name": one.class_name, "region": one.region}
                record |= {"num_blocks": agreement.num_effects}
                found.append(record | {name: getattr(agreement, name) for name in MEASURES})
        return found

    @functools.cached_property
    def pairs(self) -> list[Record]:
        """Agreement of each two models: means over the maps on which it is defined.

        Keys: model_a, model_b, class_name, num_maps, those of `MEASURES`, and for each of them
        num_..., the maps on which it is defined (no mean is defined over none).
        """
        found = []
        for name in self._classes:
            for a, b in itertools.combinations(self.names, 2):
                rows = [
                    row
                    for row in self.pairs_per_map
                    if (row["model_a"], row["model_b"]) == (a, b)
                    and name in ("", row["class_name"])
                ]
                record: Record = {"model_a": a, "model_b": b, "class_name": name}
                record["num_maps"] = len(rows)
                for measure in MEASURES:
                    values = np.array([row[measure] for row in rows], np.float64)
                    values = values[np.isfinite(values)]
                    record[measure] = float(values.mean()) if values.size else np.nan
                    record[f"num_{measure}"] = values.size
                found.append(record)
        return found

    def matrix(self, measure: str, class_name: str = "") -> np.ndarray:
        """One of `MEASURES` for each two models, float64 [M, M]; NaN where it is not defined.

        Args:
          measure: its name.
          class_name: of one class; "" is all of them.
        """
        if measure not in MEASURES:
            raise ConfigError(f"measure is {measure!r}; use {', '.join(MEASURES)}")
        found = np.full((len(self.models), len(self.models)), np.nan)
        np.fill_diagonal(found, 1)
        for row in self.pairs:
            if row["class_name"] == class_name:
                i, j = (self.names.index(row[key]) for key in ("model_a", "model_b"))
                found[i, j] = found[j, i] = row[measure]
        return found

    @functools.cached_property
    def parts(self) -> list[Record]:
        """Effects of the layers and skip connections of those models that have them."""
        return parts.effects(self.models)

    @functools.cached_property
    def part_shares(self) -> list[Record]:
        """Shares of positive, negative and zero layers, channels and skip connections."""
        return parts.shares_of_kinds(self.models, self.threshold)

    @functools.cached_property
    def part_pairs(self) -> list[Record]:
        """Agreement of each two models of one architecture on their parts."""
        return parts.agreement(self.models, self.threshold)

    def plot(self, what: str = "agreement", *, max_items: int = 4) -> "Figure":
        """One of the pictures of the page.

        Args:
          what: "shares" (pies), "histogram", "agreement" or "maps".
          max_items: so many maps, evenly spaced.

        Raises:
          MissingExtraError: without the extra `report`.
          ConfigError: another name, or maps of volumes.
        """
        from jaxseg_xai.comparison import figures

        match what:
            case "shares":
                return figures.pies(self)
            case "histogram":
                return figures.histograms(self)
            case "agreement":
                return figures.matrices(self)
            case "maps" if (found := figures.maps(self, max_items)) is not None:
                return found
            case "maps":
                raise ConfigError("maps of volumes, or none; `jaxseg-xai report` draws volumes")
        raise ConfigError(f"no picture {what!r}; there is shares, histogram, agreement, maps")

    def save(self, folder: str | os.PathLike[str], *, max_items: int = 4) -> Path:
        """Write tables (CSV, JSON), pictures (PNG) and a page (HTML) that shows them.

        Args:
          folder: made if it is missing.
          max_items: so many maps are drawn, evenly spaced.

        Returns:
          The page.

        Raises:
          MissingExtraError: without the extra `report`.
          JaxsegError: the folder cannot be written.
        """
        from jaxseg_xai.comparison.page import write_page

        return write_page(self, Path(folder), max_items=max_items)

    def __str__(self) -> str:
        """The shares of the models and the agreement of each two, as two tables."""
        width = max(map(len, self.names))
        lines = [f"{'':{width}}  positive  negative      zero   maps  blocks"]
        for row in self.per_model[: len(self.models)]:
            cells = "".join(f"{row[name]:10.1%}" for name in ("positive", "negative", "zero"))
            lines.append(f"{row['model']:{width}}{cells}{row['num_maps']:7}{row['num_blocks']:8}")
        if len(self.models) > 1:
            lines += ["", "agreement (not zero in both) and rank correlation of two models"]
        for row in self.pairs[: len(self.models) * (len(self.models) - 1) // 2]:
            numbers = f"{row['same_sign_nonzero']:6.3f}  {row['spearman']:6.3f}"
            lines.append(f"{numbers}  {row['model_a']}, {row['model_b']}")
        return "\n".join(lines)

    @property
    def _classes(self) -> list[str]:
        return ["", *self.class_names] if len(self.class_names) > 1 else [""]

    def _maps(self, class_name: str) -> list[list[BlockMap]]:
        return [
            [one for one in model.maps if class_name in ("", one.class_name)]
            for model in self.models
        ]

    def _summary(self, maps: Sequence[BlockMap]) -> Record:
        values = np.concatenate([one.values for one in maps])
        bases = [one.base for one in maps if np.isfinite(one.base)]
        return {
            "num_blocks": values.size,
            **dataclasses.asdict(shares(values, threshold=self.threshold)),
            "lowest": float(values.min()),
            "highest": float(values.max()),
            "base": float(np.mean(bases)) if bases else np.nan,
            "histogram": histogram(values, threshold=self.threshold).tolist(),
        }
