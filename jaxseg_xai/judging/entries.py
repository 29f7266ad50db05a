"""Metrics as a person names them: with their settings, under a label."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.fields import check
from jaxseg_xai.core.parse import from_table, json_value
from jaxseg_xai.metrics import METRICS, Metric


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetricEntry:
    """A metric with its settings; a judgement may have one metric several times.

    Attributes:
      label: names the scores.
      metric: the metric and its settings.
    """

    label: str
    metric: Metric

    @property
    def identity(self) -> dict[str, Any]:
        """What must be equal for its scores to be used again, as JSON values."""
        settings: dict[str, Any] = dataclasses.asdict(self.metric)  # pyright: ignore[reportArgumentType]
        found = {"metric": self.metric.name, "revision": self.metric.meta.revision, **settings}
        return json.loads(json.dumps(found, default=json_value))


def make_metrics(values: Any = ()) -> tuple[MetricEntry, ...]:
    """Metrics from what a person writes; where nothing is written, all that do not explain again.

    Args:
      values: a metric or several of them: a name ("deletion"), a label and a name
        ("fine=deletion"), a `Metric`, a pair (label, `Metric`), or a table {"metric": "deletion",
        "label": "fine", "block_size": 4}.

    Raises:
      ConfigError: an unknown metric or setting, a setting out of its bounds, a label used twice.
    """
    one = isinstance(values, str | Metric | Mapping)
    entries = [_entry(value) for value in ([values] if one else values)]
    if not entries:
        entries = [
            MetricEntry(label=name, metric=cls())
            for name, cls in METRICS.usable()
            if "explain" not in cls.meta.needs
        ]
    labels = [entry.label for entry in entries]
    for entry in entries:
        if labels.count(entry.label) > 1:
            raise ConfigError(f"two metrics are labelled {entry.label!r}; give one another label")
        check(entry.metric, entry.label)
    return tuple(entries)


def _entry(value: Any) -> MetricEntry:
    match value:
        case MetricEntry():
            return value
        case Metric():
            return MetricEntry(label=value.name, metric=value)
        case (str() as label, Metric() as metric):
            return MetricEntry(label=label, metric=metric)
        case str():
            label, _, name = value.rpartition("=")
            return MetricEntry(label=label or name, metric=METRICS.get(name)())
        case Mapping():
            return _of_table(dict(value))
    raise ConfigError(
        f"metrics holds {value!r}; give names of metrics ({', '.join(METRICS.names())}), metrics, "
        "(label, metric) or tables with metric = ..."
    )


def _of_table(table: dict[str, Any]) -> MetricEntry:
    name, label = table.pop("metric", None), table.pop("label", None)
    if not isinstance(name, str):
        names: Iterable[str] = METRICS.names()
        raise ConfigError(
            f"a [[metrics]] table has no metric; write metric = one of {', '.join(names)}"
        )
    try:
        metric = from_table(METRICS.get(name), table)
    except ConfigError as error:
        raise ConfigError(f"{label or name}: {error}") from None
    return MetricEntry(label=label or name, metric=metric)
