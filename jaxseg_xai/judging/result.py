"""A judgement: methods by their scores, with intervals over images, and tests between methods."""

import dataclasses
import functools
import itertools
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg_xai.judging.entries import MetricEntry
from jaxseg_xai.judging.statistics import difference, estimate, holm

Record = dict[str, Any]
#: Corrected p values below it count as a difference.
LEVEL = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
    """A figure that somebody published, to stand beside the one found here.

    Attributes:
      model: name of the model in the table.
      label: of the method.
      metric: label of the metric.
      score: of the metric; "" is its headline.
      value: the figure.
      source: where it stands: "arXiv 2602.20511, table 2".
    """

    model: str
    label: str
    metric: str
    score: str = ""
    value: float
    source: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judgement:
    """Methods x models x metrics on the same images.

    Its tables are lists of records. An image counts once: where several of its classes or regions
    are explained, their scores are averaged first.

    Attributes:
      metrics: with which it was judged.
      methods: model, label, method; explanations and how many of them are usable; seconds and model
        evaluations (at most; NaN where nobody says) of one; statuses, in words.
      scores: model, label, image_id, class_name, region, metric, score, value, seconds.
      notes: what could not be judged, a line each.
      num_resamples: of the bootstrap.
      seed: of the bootstrap.
      published: figures to show beside those found here.
    """

    metrics: tuple[MetricEntry, ...]
    methods: list[Record]
    scores: list[Record]
    notes: tuple[str, ...] = ()
    num_resamples: int = 2000
    seed: int = 0
    published: tuple[Published, ...] = ()

    @functools.cached_property
    def table(self) -> list[Record]:
        """A record for each model, method, metric and score: means over images.

        Keys: model, label, metric, score, better ("higher" or "lower"), mean, low, high (95 %
        interval), num_images, num_undefined (images without a value), status ("ok", "not defined"
        or "not judged"), and published, where figures are given.
        """
        found = []
        given = {(p.model, p.label, p.metric, p.score): p.value for p in self.published}
        for method, entry in itertools.product(self.methods, self.metrics):
            meta = entry.metric.meta
            for score in meta.scores:
                key = (method["model"], method["label"], entry.label, score)
                values = self._by_image[key]
                one = self._estimate(np.array(list(values.values()), np.float64))
                status = "ok" if one.num_images else "not defined" if values else "not judged"
                record = dict(zip(("model", "label", "metric", "score"), key, strict=True))
                record |= {"better": meta.better, "mean": one.mean, "low": one.low}
                record |= {"high": one.high, "num_images": one.num_images}
                record |= {"num_undefined": len(values) - one.num_images, "status": status}
                if self.published:
                    headline = "" if score == meta.headline else score
                    record["published"] = given.get((*key[:3], headline), given.get(key, np.nan))
                found.append(record)
        return found

    @functools.cached_property
    def pairs(self) -> list[Record]:
        """Every two methods compared image by image, by the metrics' headlines.

        Keys: model, metric, label_a, label_b, num_images (that both have), difference (a - b) with
        low and high, p_value of Wilcoxon's signed-rank test, and p_holm, corrected for all pairs of
        the model and metric.
        """
        found = []
        for model, entry in itertools.product(self.models, self.metrics):
            judged = {
                label: values
                for label in self.labels(model)
                if (values := self._by_image[model, label, entry.label, entry.metric.meta.headline])
            }
            rows = []
            for a, b in itertools.combinations(judged, 2):
                images = [name for name in judged[a] if name in judged[b]]
                one, other = (np.array([judged[x][name] for name in images]) for x in (a, b))
                compared = difference(one, other, num_resamples=self.num_resamples, seed=self.seed)
                mean = compared.mean
                record = {"model": model, "metric": entry.label, "label_a": a, "label_b": b}
                record |= {"num_images": mean.num_images, "difference": mean.mean}
                record |= {"low": mean.low, "high": mean.high, "p_value": compared.p_value}
                rows.append(record)
            corrected = holm([row["p_value"] for row in rows])
            found += [row | {"p_holm": float(p)} for row, p in zip(rows, corrected, strict=True)]
        return found

    @property
    def models(self) -> list[str]:
        """Their names."""
        return list(dict.fromkeys(row["model"] for row in self.methods))

    def labels(self, model: str) -> list[str]:
        """The methods of a model."""
        return [row["label"] for row in self.methods if row["model"] == model]

    def best(self, model: str, metric: str) -> list[str]:
        """The method of the best mean, and those that the tests do not tell from it.

        A method that has a value on half of the images or fewer takes no part: hardly anything
        could be told from it.

        Args:
          model: name of the model.
          metric: label of the metric.
        """
        (entry,) = (entry for entry in self.metrics if entry.label == metric)
        meta = entry.metric.meta
        sign = 1 if meta.better == "higher" else -1
        rows = [
            row
            for row in self.table
            if (row["model"], row["metric"], row["score"]) == (model, metric, meta.headline)
        ]
        most = max(row["num_images"] for row in rows)
        means = {r["label"]: sign * r["mean"] for r in rows if 2 * r["num_images"] > most}
        if not means:
            return []
        first = max(means, key=lambda label: means[label])
        told_apart = {
            label
            for row in self.pairs
            if (row["model"], row["metric"]) == (model, metric) and row["p_holm"] < LEVEL
            if first in (pair := (row["label_a"], row["label_b"]))
            for label in pair
        }
        return [first, *(n for n in means if n != first and n not in told_apart)]

    def save(self, folder: str | os.PathLike[str], *, parquet: bool = False) -> Path:
        """Write `judgement.md` and the tables as CSV: table, methods, pairs, scores.

        Args:
          folder: made if it is missing.
          parquet: write the tables as Parquet, too.

        Returns:
          The page, in Markdown.

        Raises:
          MissingExtraError: Parquet without the extra `parquet`.
          JaxsegError: the folder cannot be written.
        """
        from jaxseg_xai.judging.files import write

        return write(self, Path(folder), parquet=parquet)

    def __str__(self) -> str:
        """The tables of the page."""
        from jaxseg_xai.judging.files import markdown

        return markdown(self)

    @functools.cached_property
    def _by_image(self) -> Mapping[tuple[str, str, str, str], dict[str, float]]:
        """(model, label, metric, score) -> image -> mean over what is explained in it."""
        found: dict[Any, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for row in self.scores:
            key = (row["model"], row["label"], row["metric"], row["score"])
            found[key][row["image_id"]].append(row["value"])
        means = {
            key: {name: _mean(values) for name, values in images.items()}
            for key, images in found.items()
        }
        return defaultdict(dict, means)

    def _estimate(self, values: np.ndarray):
        return estimate(values, num_resamples=self.num_resamples, seed=self.seed)


def _mean(values: Sequence[float]) -> float:
    """Of the values that are defined; NaN where there is none."""
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else np.nan
