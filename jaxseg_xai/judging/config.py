"""What can be set about a judgement, from a TOML file, from flags, or in Python."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import tyro

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.fields import setting
from jaxseg_xai.explainers import EXPLAINERS
from jaxseg_xai.judging.entries import MetricEntry, make_metrics
from jaxseg_xai.judging.result import Published
from jaxseg_xai.sweeps.config import Job, SweepConfig, SweepSettings, make_job
from jaxseg_xai.sweeps.regions import Region

_OUT = Path("runs/judge")


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgeSettings(SweepSettings):
    """Everything of a judgement but its methods and metrics; see `SweepSettings`.

    Attributes:
      stores: of sweeps that are judged as they are; without them, a sweep is made for each model.
      models: bundled models or folders with model.json; with one alone, `model` does.
      all: beside the entries of `explain` and `metrics`, take all other methods and metrics, with
        their usual settings, that would be taken without entries.
      parquet: write the tables as Parquet, too; needs the extra `parquet`.
      num_resamples: of the bootstrap.
      published: figures to show beside those found here, [[published]] tables in a file.
    """

    stores: tyro.conf.Positional[tuple[Path, ...]] = ()
    models: tuple[str, ...] = ()
    all: bool = False
    parquet: bool = False
    num_resamples: int = setting(2000, at_least=1)
    published: tyro.conf.Suppress[tuple[Published, ...]] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgeConfig(JudgeSettings, SweepConfig):
    """Which explanation to believe: methods x models x metrics on the same images.

    Explains (or takes the stores of sweeps), scores every explanation with every metric, and writes
    tables of means with bootstrap intervals over images, paired tests between methods, and what an
    explanation costs: Markdown, CSV, Parquet. The same command continues where it stopped.

    All methods explain what `roi` says, a box of side 32 in the class and of it the ground truth
    where there is one, so that they answer one question; an entry with a region or a target of its
    own explains that.

    Attributes:
      out: folder to write: a store a model, scores and tables.
      explain: the methods; where empty, all whose maps speak for or against the segment.
      metrics: with which to judge; where empty, all that do not explain again.
    """

    settings: ClassVar[type] = JudgeSettings
    entries: ClassVar[Mapping[str, Callable[[Iterable[Any]], tuple]]] = {
        **SweepConfig.entries,
        "metrics": make_metrics,
    }
    out: Path = setting(_OUT, idle=True)
    metrics: tuple[MetricEntry, ...] = ()

    def check_together(self) -> None:
        """Raise `ConfigError` for what contradicts, or says nothing."""
        if self.stores and (self.model or self.models):
            raise ConfigError("stores name their models themselves; leave out model and models")
        if self.model and self.models:
            raise ConfigError("model and models are both set; name all of them in models")
        if not self.stores and not (self.model or self.models):
            raise ConfigError("no model to judge with; set models, or name stores of sweeps")

    def sweeps(self) -> list[SweepConfig]:
        """The sweeps that it asks for, one a model."""
        names = {field.name for field in dataclasses.fields(SweepConfig)}
        rest = {name: getattr(self, name) for name in names}
        jobs = self.explain
        if self.all or not jobs:
            named = {job.explainer.name for job in jobs}
            jobs += tuple(job for job in relevance_methods() if job.label not in named)
        rest["explain"] = tuple(
            dataclasses.replace(job, region=job.region or Region(kind="roi")) for job in jobs
        )
        return [
            SweepConfig(**rest | {"model": model, "out": self.out / f"{Path(model).name}.zarr"})
            for model in self.models or (self.model,)
        ]

    def judges(self) -> tuple[MetricEntry, ...]:
        """The metrics with which it judges."""
        named = {entry.metric.name for entry in self.metrics}
        if not self.all and named:
            return self.metrics
        return (*self.metrics, *(one for one in make_metrics() if one.label not in named))


def relevance_methods() -> tuple[Job, ...]:
    """All methods whose maps speak for or against the segment, with their usual settings."""
    return tuple(
        make_job(name)
        for name, cls in EXPLAINERS.usable()
        if cls.meta.high != "neither" and cls.meta.figure != "parts"
    )
