"""What can be set about a sweep, from a TOML file or from flags; both are validated here."""

import dataclasses
import tomllib
from pathlib import Path
from typing import Any, Literal

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.parse import from_table
from jaxseg_xai.core.types import Source
from jaxseg_xai.data import DegradedDataset, open_dataset
from jaxseg_xai.data.degraded import Degradation
from jaxseg_xai.explainers import (
    EXPLAINERS,
    Ate,
    AteGradient,
    Confidence,
    Explainer,
    GradCam,
    IntegratedGradients,
    Misure,
    MisurePaper,
)
from jaxseg_xai.models.predict import Dtype, Pad

_BUILT_IN = ("brain", "triangle", "triangle-cue", "shapes")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images.

    Attributes:
      source: brain, triangle, triangle-cue, shapes, a folder of images, or one image file (its
        siblings in the folder then give the patches for the ATE).
      split: train, validation or test, where the data set has splits.
      items: names of the only images to explain; all where empty.
      limit: at most so many images, evenly spaced; 0 means all.
      labels: folder of label maps, for a folder of images.
      window: two intensities that become 0 and 1, for a folder of images.
      size: side of the generated images; 0 means the usual one (triangle data sets, shapes).
      num: how many images are generated; 0 means the usual number (triangle data sets, shapes).
      degrade: make every image worse, see `jaxseg_xai.data.degraded`: by noise, blur, loss of
        contrast, or one of them per image (mixed).
      severity: how much worse, 1 to 5; mixed draws from 0 to this for each image.
    """

    source: str = "brain"
    split: Literal["train", "validation", "test"] = "test"
    items: tuple[str, ...] = ()
    limit: int = 0
    labels: Path | None = None
    window: tuple[float, float] | None = None
    size: int = 0
    num: int = 0
    degrade: Degradation | Literal["none"] = "none"
    severity: int = 3

    def open(
        self, class_names: tuple[str, ...], channels: int, *, read_labels: bool = True
    ) -> tuple[Source, list[int]]:
        """The data set for a model of these classes and channels, and which of its items to use."""
        source, items = Path(self.source).expanduser(), self.items
        if source.is_file():
            name = source.name.removesuffix(".gz")
            source, items = source.parent, (*items, Path(name).stem)
            if source.name == "images":  # its label maps are in labels/ beside it
                source = source.parent
        options: dict[str, Any] = {}
        if self.labels is not None:
            options["labels"] = self.labels
        if self.window is not None:
            options["window"] = self.window
        if self.size:
            options["size"] = self.size
        if self.num:
            options["num"] = self.num
        if source.is_dir() and self.source not in _BUILT_IN:
            options |= {"class_names": class_names, "channels": channels}
            options["read_labels"] = read_labels
            source = source.absolute()  # a Path forgets the "./" of "./brain"
        dataset = self._degraded(open_dataset(str(source), self.split, **options))
        return dataset, self._select(dataset, items)

    def open_pool(self, source: str, channels: int) -> Source:
        """Another data set that only gives patches, its images read as these are."""
        if source in _BUILT_IN:
            return self._degraded(open_dataset(source, self.split))
        unset = {"labels": None, "items": (), "limit": 0, "size": 0, "num": 0}
        pool = dataclasses.replace(self, source=source, **unset)
        return pool.open((), channels, read_labels=False)[0]

    def _degraded(self, dataset: Source) -> Source:
        if self.degrade == "none":
            return dataset
        return DegradedDataset(dataset, self.degrade, self.severity)

    def _select(self, dataset: Source, items: tuple[str, ...]) -> list[int]:
        chosen = list(range(len(dataset)))
        if items:
            known = {name: index for index, name in enumerate(dataset.ids)}
            # A volume's slices are named volume#017: its name alone means all of them.
            families = {
                item: [i for n, i in known.items() if n.split("#")[0] == item] for item in items
            }
            unknown = [item for item in items if item not in known and not families[item]]
            if unknown:
                raise ConfigError(
                    f"no item {', '.join(unknown)} in {self.source}; it has "
                    f"{', '.join(dataset.ids[:3])}, ... ({len(dataset)} items)"
                )
            named = [[known[item]] if item in known else families[item] for item in items]
            # Once each, however often it was named.
            chosen = list(dict.fromkeys(i for group in named for i in group))
        if self.limit and self.limit < len(chosen):
            step = len(chosen) / self.limit
            chosen = [chosen[int((k + 0.5) * step)] for k in range(self.limit)]
        return chosen


@dataclasses.dataclass(frozen=True, kw_only=True)
class RoiConfig:
    """The region R of the output whose Dice the ATE is about.

    Attributes:
      kind: "box" around the innermost pixel of the class's largest component, or that "component".
      side: of the box in pixels.
      corner: top and left of the box, to put it elsewhere.
      reference: the segmentation T that Dice is measured against: "truth" where there are label
        maps (else the prediction), or always the "prediction".
    """

    kind: Literal["box", "component"] = "box"
    side: int = 32
    corner: tuple[int, int] | None = None
    reference: Literal["truth", "prediction"] = "truth"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """A model, the images and classes to explain, and how.

    Attributes:
      out: the store to write (Zarr); the same configuration continues where it stopped.
      model: a bundled model (see `jaxseg-xai models`) or a folder with model.json.
      data: which images.
      classes: names of the classes to explain; all but the background where empty.
      explainers: which methods (see `jaxseg-xai explainers`).
      misure: settings of MiSuRe.
      misure_paper: settings of MiSuRe with the published loss.
      ate: settings of the ATE.
      ate_gradient: settings of its gradient form.
      integrated_gradients: settings of integrated gradients.
      grad_cam: settings of Grad-CAM.
      confidence: settings of the confidence scores.
      roi: the region the ATE is about.
      pool_source: data set that gives the patches; that of the images where empty.
      pool_patches: patches in the pool.
      batch_size: explanations at a time, over all devices.
      pad: what to do with sizes that the model's stride does not divide.
      dtype: what the model computes in.
      store_labels: read label maps into the store even where no explainer looks at them, for
        `jaxseg-xai reliability`. (Those of the generated data sets always are there.)
      seed: of the patches and their draws.
      overwrite: delete an existing store first.
      retry_failed: try the images again that an earlier run recorded as failed.
    """

    out: Path = Path("runs/sweep.zarr")
    model: str = "brain"
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    classes: tuple[str, ...] = ()
    explainers: tuple[str, ...] = ("misure", "ate")
    misure: Misure = dataclasses.field(default_factory=Misure)
    misure_paper: MisurePaper = dataclasses.field(default_factory=MisurePaper)
    ate: Ate = dataclasses.field(default_factory=Ate)
    ate_gradient: AteGradient = dataclasses.field(default_factory=AteGradient)
    integrated_gradients: IntegratedGradients = dataclasses.field(
        default_factory=IntegratedGradients
    )
    grad_cam: GradCam = dataclasses.field(default_factory=GradCam)
    confidence: Confidence = dataclasses.field(default_factory=Confidence)
    roi: RoiConfig = dataclasses.field(default_factory=RoiConfig)
    pool_source: str = ""
    pool_patches: int = 1000
    batch_size: int = 8
    pad: Pad = "refuse"
    dtype: Dtype = "float32"
    store_labels: bool = False
    seed: int = 0
    overwrite: bool = False
    retry_failed: bool = False

    def validate(self) -> None:
        """Raise `ConfigError` naming the first value out of its range."""
        unknown = [name for name in self.explainers if name not in EXPLAINERS]
        if unknown or not self.explainers:
            raise ConfigError(
                f"unknown explainer {', '.join(unknown) or '(none given)'}; "
                f"there is {', '.join(EXPLAINERS)}"
            )
        for name in self.explainers:
            getattr(self, name).validate()
        sizes = (self.ate.block_size, self.ate_gradient.block_size)
        if {"ate", "ate_gradient"} <= set(self.explainers) and sizes[0] != sizes[1]:
            raise ConfigError(
                f"ate.block_size is {sizes[0]} and ate_gradient.block_size {sizes[1]}; one sweep "
                "has patches of one size"
            )
        if self.batch_size < 1 or self.roi.side < 1 or self.pool_patches < 2:
            raise ConfigError(
                f"batch_size={self.batch_size}, roi.side={self.roi.side}, "
                f"pool_patches={self.pool_patches}: at least 1, 1 and 2"
            )
        if self.data.limit < 0 or self.data.size < 0 or not 0 <= self.seed < 2**32:
            raise ConfigError("data.limit and data.size must not be negative, seed in [0, 2**32)")

    def explainer(self, name: str) -> Explainer:
        """An explainer with its settings; the ATE need not look beyond the region's box."""
        if name == "ate" and self.roi.kind == "box":
            return dataclasses.replace(self.ate, region_side=self.roi.side)
        return getattr(self, name)

    def settings(self, name: str) -> dict[str, Any]:
        """Name -> value of an explainer's settings."""
        explainer: Any = self.explainer(name)
        return dataclasses.asdict(explainer)

    @property
    def needs_labels(self) -> bool:
        """Whether ground truth is looked at, or kept."""
        regional = any(not EXPLAINERS[name].whole_image for name in self.explainers)
        return self.store_labels or (regional and self.roi.reference == "truth")

    @property
    def block_size(self) -> int:
        """Of the patches, for the explainers that need any."""
        return next(
            (
                getattr(self, name).block_size
                for name in self.explainers
                if getattr(self, name).needs_pool
            ),
            self.ate.block_size,
        )

    def identity(self) -> dict[str, Any]:
        """What must be equal for a sweep to be continued, as JSON values."""
        fields = dataclasses.asdict(self)
        # Neither where the results go nor which or how many are computed at once changes them.
        for name in ("out", "overwrite", "retry_failed", "batch_size"):
            del fields[name]
        del fields["ate"]["batch_size"]
        for name in ("misure", "misure_paper"):
            for idle in ("lanes", "windows", "region_side"):
                del fields[name][idle]
        # Settings of methods that are not run may change.
        for name in EXPLAINERS.keys() - set(self.explainers):
            del fields[name]
        return _as_json(fields)


def read_toml(path: Path, cls: type) -> Any:
    """Read a configuration dataclass from TOML; unknown keys and wrong types are errors."""
    try:
        return from_table(cls, tomllib.loads(path.read_text()))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; check the path of --config") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_json(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_as_json(item) for item in value]
    return str(value) if isinstance(value, Path) else value
