"""What can be set about a sweep, from a TOML file, from flags, or in Python."""

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.fields import check, idle_fields, setting
from jaxseg_xai.core.input_spec import Grey, Pad
from jaxseg_xai.core.parse import from_table, json_value, toml_of
from jaxseg_xai.core.segmenter import Dtype
from jaxseg_xai.data.label_values import LabelValues
from jaxseg_xai.explainers import EXPLAINERS, Explainer
from jaxseg_xai.store.leases import EXPIRY
from jaxseg_xai.store.precision import Storage
from jaxseg_xai.sweeps.data import DataConfig
from jaxseg_xai.sweeps.regions import Region, parse_region
from jaxseg_xai.sweeps.targets import Reference, check_reference

_OUT = Path("runs/sweep.zarr")
#: Side of the box that is explained.
_SIDE = 32
#: Settings of version 0.1 -> what they are called now.
RENAMED = {
    "explainers": "explain",
    "pool_source": "others_source",
    "pool_patches": "num_patches",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """A method with its settings, under a label; a sweep may have one method several times.

    Attributes:
      label: names the results: a group of the store, a column of the report.
      explainer: the method and its settings.
      region: what it is about; None for the method's usual region.
      target: which pixels of the class; None for the method's usual ones.
      given: settings that somebody has chosen, and volumes do not change; None: all of them.
    """

    label: str
    explainer: Explainer
    region: Region | None = None
    target: Reference | None = None
    given: frozenset[str] | None = None

    def for_rank(self, rank: int) -> Self:
        """The same for images of a rank: volumes have other defaults."""
        usual = self.explainer.in_volumes if rank == 3 and self.given is not None else {}
        changes = {name: value for name, value in usual.items() if name not in (self.given or ())}
        explainer: Any = self.explainer
        return dataclasses.replace(self, explainer=dataclasses.replace(explainer, **changes))

    def identity(self) -> dict[str, Any]:
        """What must be equal for its results to be continued, as JSON values."""
        settings: dict[str, Any] = dataclasses.asdict(self.explainer)  # pyright: ignore[reportArgumentType]
        for name in idle_fields(self.explainer):
            settings.pop(name, None)
        found: dict[str, Any] = {
            "method": self.explainer.name,
            "revision": self.explainer.meta.revision,
        }
        if self.region is not None:
            found["region"] = self.region.identity()
        if self.target is not None:
            found["target"] = self.target
        return found | settings


@dataclasses.dataclass(frozen=True, kw_only=True)
class RoiConfig:
    """The region of methods that explain a region, where an entry does not say its own.

    Attributes:
      kind: "box" around the innermost pixel of the class's largest component, or that "component";
        None: a box in images, the component in volumes, unless side, corner or file are set.
      side: of the box in pixels; in an image that is smaller the box is as large as the image.
      corner: first pixel of the box along each axis, to put it elsewhere.
      file: list of corners, a line IMAGE TOP LEFT for each image as PdCR's code reads it, in pixels
        of the image as the model sees it. Only the images that it names are explained.
      reference: the segmentation that Dice is measured against: "truth" where there are label maps
        (else the prediction), or always the "prediction".
    """

    kind: Literal["box", "component"] | None = None
    side: int = setting(_SIDE, at_least=1)
    corner: tuple[int, ...] | None = None
    file: Path | None = None
    reference: Literal["truth", "prediction"] = "truth"

    def region(self) -> Region:
        """As a region."""
        return Region(kind=self.kind or "box", side=self.side, corner=self.corner)

    def for_rank(self, rank: int) -> Self:
        """The same with the kind that it stands for in images of a rank."""
        is_box = rank != 3 or self.side != _SIDE or self.corner is not None or self.file is not None
        return dataclasses.replace(self, kind=self.kind or ("box" if is_box else "component"))

    def check_together(self) -> None:
        """Raise `ConfigError` for a list of boxes beside another way to say where they are."""
        if self.file is not None and (self.kind == "component" or self.corner is not None):
            raise ConfigError("roi.file lists where boxes are; leave out roi.kind and roi.corner")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepSettings:
    """Everything of a sweep but its methods.

    Attributes:
      out: the store to write (Zarr); the same configuration continues where it stopped.
      model: a bundled model (see `jaxseg-xai models`) or a folder with model.json.
      data: which images.
      labels: what the values of label maps in files mean, where they are no class numbers.
      classes: names of the classes to explain; all but the background where empty.
      roi: the region of methods that explain a region.
      others_source: data set that gives the patches and whole images which methods put in the place
        of others; that of the images where empty.
      num_patches: how many patches such a pool has.
      patches: folder of patches (PNG of 8 bits, IMAGE_ROW_COLUMN.png) from which to draw instead,
        such as PdCR's `intervention_patches`; all of them, but those of the image itself.
      batch_size: explanations at a time, over all devices.
      readers: processes that read and decode images ahead; 0: a thread of this process does.
      pad: what to do with sizes that the model does not take: "refuse" them, or pad them; None:
        what the model's card says.
      channels: what to do with grey images for a model of more channels: "refuse" or "repeat";
        None: what the model's card says.
      dtype: what the model computes in.
      store_labels: read label maps into the store even where no method looks at them, for
        `jaxseg-xai reliability`. (Those of the generated data sets always are there.)
      storage: how exactly and how tightly maps are stored.
      seed: of all draws.
      overwrite: delete an existing store first.
      max_hours: a sweep of volumes that would take longer is refused, see `--dry-run`.
      retry_failed: try the images again that an earlier run recorded as failed.
      workers: processes that explain; more of them may join at any time, on any machine that sees
        `out`, by the same command. 0: this one, alone.
      ray: cluster of Ray whose devices the workers get: its address, "auto" for the one that is
        running, "local" for one that begins and ends with this process. Empty: processes of this
        machine, without Ray.
      lease_seconds: a worker that is silent for so long is taken for dead.
      dry_run: say what the command would do and what it would take, and store nothing.
      warm_up: seconds in which a dry run measures: it compiles every program and runs a batch, and
        begins none when they are over; 0: it measures nothing.
      log_json: file to which a line of JSON is added for every batch and every failure.
    """

    out: Path = setting(_OUT, idle=True)
    model: str = ""
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    labels: LabelValues = dataclasses.field(default_factory=LabelValues)
    classes: tuple[str, ...] = ()
    roi: RoiConfig = dataclasses.field(default_factory=RoiConfig)
    others_source: str = ""
    num_patches: int = setting(1000, at_least=2)
    patches: Path | None = None
    batch_size: int = setting(8, idle=True, at_least=1)
    readers: int = setting(0, idle=True, at_least=0)
    pad: Pad | None = None
    channels: Grey | None = None
    dtype: Dtype = "float32"
    store_labels: bool = False
    storage: Storage = dataclasses.field(default_factory=Storage)
    seed: int = setting(0, at_least=0, below=2**32)
    overwrite: bool = setting(False, idle=True)
    max_hours: float = setting(24.0, idle=True, above=0)
    retry_failed: bool = setting(False, idle=True)
    workers: int = setting(0, idle=True, at_least=0, at_most=256)
    ray: str = setting("", idle=True)
    lease_seconds: float = setting(EXPIRY, idle=True, above=0)
    dry_run: bool = setting(False, idle=True)
    warm_up: float = setting(60.0, idle=True, at_least=0)
    log_json: Path | None = setting(None, idle=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepConfig(SweepSettings):
    """A model, the images and classes to explain, and how.

    Attributes:
      explain: the methods, each under a label of its own.
    """

    #: What can be set beside the entries.
    settings: ClassVar[type] = SweepSettings
    #: Fields that are lists of tables -> what makes their values of what a person writes.
    entries: ClassVar[Mapping[str, Callable[[Iterable[Any]], tuple]]] = {
        "explain": lambda values: tuple(map(make_job, values))
    }
    explain: tuple[Job, ...] = ()

    def check_together(self) -> None:
        """Raise `ConfigError` for entries that cannot stand together, or out of their bounds."""
        check_jobs(self.explain)
        if self.ray and not self.workers:
            raise ConfigError("ray is set, and workers is 0; say how many workers, one a device")

    @property
    def starts_others(self) -> bool:
        """Whether this process explains nothing itself, but starts workers that do."""
        return self.workers > 1 or bool(self.ray)

    def identity(self) -> dict[str, Any]:
        """What must be equal for a sweep to be continued, as JSON values."""
        names = {field.name for field in dataclasses.fields(SweepSettings)}
        found = {name: getattr(self, name) for name in names.difference(idle_fields(self))}
        found |= {name: dataclasses.asdict(found[name]) for name in ("data", "labels", "roi")}
        found["storage"] = {"precision": self.storage.precision}
        found["explain"] = {job.label: job.identity() for job in self.explain}
        return json.loads(json.dumps(found, default=json_value, sort_keys=True))


def check_jobs(jobs: Sequence[Job]) -> None:
    """Raise `ConfigError` for no job at all, a label used twice, or a setting out of its bounds."""
    if not jobs:
        raise ConfigError(
            f"no method to explain with; name one or more of {', '.join(EXPLAINERS.names())}"
        )
    labels = [job.label for job in jobs]
    for job in jobs:
        if labels.count(job.label) > 1:
            raise ConfigError(
                f"two entries are labelled {job.label!r}; give one another label "
                f'(label = "{job.label}2", or {job.label}2={job.explainer.name})'
            )
        check(job.explainer, job.label)


def make_job(value: Any) -> Job:
    """A job from what a person writes.

    Args:
      value: the name of a method ("ate"), a label and a name ("ate16=ate"), an explainer, a pair
        (label, explainer), a table {"method": "ate", "label": "ate16", "block_size": 16,
        "region": "box 48", "target": "prediction"}, or a `Job`.

    Raises:
      ConfigError: an unknown method or setting, or something else.
    """
    match value:
        case Job():
            return value
        case Explainer():
            return Job(label=value.name, explainer=value)
        case (str() as label, Explainer() as explainer):
            return Job(label=label, explainer=explainer)
        case str():
            label, _, name = value.rpartition("=")
            return Job(label=label or name, explainer=EXPLAINERS.get(name)(), given=frozenset())
        case Mapping():
            return _job_of_table(value)
    raise ConfigError(
        f"explain holds {value!r}; give names of methods, explainers, (label, explainer) or tables "
        "with method = ..."
    )


def read_config(path: Path, cls: type[SweepConfig] = SweepConfig) -> Any:
    """Read a sweep, or what is derived from it, from TOML; unknown keys and types are errors."""
    table = toml_of(path)
    try:
        return config_of(table, cls)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def config_of(table: Mapping[str, Any], cls: type[SweepConfig]) -> Any:
    """A `cls` from a parsed TOML table."""
    for key in table:
        if spelling := _new_spelling(key, table[key]):
            raise ConfigError(spelling)
    rest = {key: value for key, value in table.items() if key not in cls.entries}
    made = {}
    for name, make in cls.entries.items():
        values = table.get(name, [])
        if not isinstance(values, list):
            raise ConfigError(f"{name} is {values!r}; write [[{name}]] tables")
        if values:
            made[name] = make(values)
    settings = from_table(cls.settings, rest)
    return cls(**{name: getattr(settings, name) for name in rest}, **made)


def _job_of_table(table: Mapping[str, Any]) -> Job:
    rest = dict(table)
    name, label = rest.pop("method", None), rest.pop("label", None)
    if not isinstance(name, str):
        raise ConfigError(
            f"an [[explain]] table has no method; write method = one of "
            f"{', '.join(EXPLAINERS.names())}"
        )
    region, target = rest.pop("region", None), rest.pop("target", None)
    if target is not None:
        check_reference(target)
    cls = EXPLAINERS.get(name)
    try:
        explainer = from_table(cls, rest)
    except ConfigError as error:
        raise ConfigError(f"{label or name}: {error}") from None
    return Job(
        label=label or name,
        explainer=explainer,
        region=None if region is None else parse_region(region),
        target=target,
        given=frozenset(rest),
    )


def _new_spelling(key: str, value: Any) -> str | None:
    """What to write instead of a key of version 0.1, in one line; None for any other key."""
    if key == "explainers":
        names: Iterable[Any] = value if isinstance(value, list) else [value]
        tables = " ".join(f'[[explain]] method = "{name}"' for name in names)
        return f"explainers is now a list of tables; write {tables}"
    if key in EXPLAINERS and isinstance(value, dict):
        settings = ", ".join(f"{name} = {item!r}" for name, item in value.items())
        return f'[{key}] is now an entry of explain; write [[explain]] with method = "{key}"' + (
            f", {settings}" if settings else ""
        )
    return f"{key} is now {RENAMED[key]}; rename it" if key in RENAMED else None
