"""Which parts of a model carry which class: a table and a picture from a data set."""

import dataclasses
from pathlib import Path
from urllib.parse import quote

import jax
import numpy as np

from jaxseg_xai.core.errors import ConfigError, DataError, JaxsegError
from jaxseg_xai.core.types import Source, Sample
from jaxseg_xai.data import image_id
from jaxseg_xai.devices.mesh import device_mesh, pad_batch
from jaxseg_xai.explainers.parts.components import ComponentAte
from jaxseg_xai.explainers.parts.table import ComponentTable, write_csv
from jaxseg_xai.models.bundle import load_model
from jaxseg_xai.models.predict import Dtype, Pad
from jaxseg_xai.program.predict import predict_labels
from jaxseg_xai.report import panels
from jaxseg_xai.report.components import components_figure
from jaxseg_xai.sweep.config import DataConfig, RoiConfig, SweepConfig
from jaxseg_xai.sweep.inputs import check_classes, class_indices
from jaxseg_xai.sweep.targets import make_target


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComponentsConfig:
    """Effects of a model's channels, layers and skip connections: a CSV and a PNG per class.

    Attributes:
      out: folder to write: `components.csv` and `components-CLASS.png`.
      model: a bundled model (see `jaxseg-xai models`) or a folder with model.json.
      data: which images, all of one size.
      classes: names of the classes to explain; all but the background where empty.
      components: what is replaced, and by what.
      roi: the region that the outcome is about.
      num_others: other images whose activations are put in, for each image; an image of the same
        volume does not count as another where there are enough volumes.
      others_source: data set that gives them; that of the images where empty.
      pad: what to do with sizes that the model's stride does not divide.
      dtype: what the model computes in.
      seed: of the choice of the other images.
    """

    out: Path = Path("runs/components")
    model: str = "brain"
    data: DataConfig = dataclasses.field(default_factory=lambda: DataConfig(limit=4))
    classes: tuple[str, ...] = ()
    components: ComponentAte = dataclasses.field(default_factory=ComponentAte)
    roi: RoiConfig = dataclasses.field(default_factory=RoiConfig)
    num_others: int = 4
    others_source: str = ""
    pad: Pad = "refuse"
    dtype: Dtype = "float32"
    seed: int = 0

    def sweep(self) -> SweepConfig:
        """The sweep of the ATE of input blocks that sees the same images, classes and regions."""
        return SweepConfig(
            model=self.model,
            data=self.data,
            classes=self.classes,
            explainers=("ate",),
            roi=self.roi,
            seed=self.seed,
        )

    def validate(self) -> None:
        """Raise `ConfigError` naming the first value out of its range."""
        self.sweep().validate()
        self.components.validate()
        if self.num_others < 1:
            raise ConfigError(f"num_others is {self.num_others}; it must be at least 1")


def run_components(config: ComponentsConfig) -> dict[str, ComponentTable]:
    """Compute what `config` names, and write the CSV and the pictures.

    Returns:
      Name of a class -> its table; classes that no image has are left out.

    Raises:
      JaxsegError: the model, an image or the configuration cannot be used, no image has any of the
        classes, or the folder cannot be written.
    """
    config.validate()
    bundle = load_model(config.model, pad=config.pad, dtype=config.dtype)
    channels = bundle.card.architecture_config().in_channels
    dataset, chosen = config.data.open(
        bundle.card.class_names, channels, read_labels=config.sweep().needs_labels
    )
    classes = class_indices(config.sweep(), bundle)
    check_classes(config.sweep(), bundle, dataset)
    samples = _read(dataset, chosen, channels)
    others = None
    if config.components.needs_others:
        source = config.others_source
        pool = config.data.open_pool(source, channels) if source else dataset
        others = np.stack([_other_images(sample, pool, config) for sample in samples])
    mesh = device_mesh()
    images = np.stack([sample.image for sample in samples])
    padded = pad_batch(images, mesh.size)
    predictions = np.asarray(predict_labels(bundle.predict, bundle.variables, padded, mesh)[0])
    tables: dict[str, ComponentTable] = {}
    for class_index in classes:
        found = [
            make_target("ate", class_index, prediction, sample.labels, config.roi)
            for sample, prediction in zip(samples, predictions, strict=False)
        ]
        rows = [i for i, target in enumerate(found) if target is not None]
        if not rows:
            continue
        targets = jax.tree.map(lambda *leaves: np.stack(leaves), *[found[i] for i in rows])
        tables[bundle.card.class_names[class_index]] = config.components.explain(
            bundle.predict,
            bundle.variables,
            images[rows],
            targets,
            None if others is None else others[rows],
            mesh,
        )
    if not tables:
        raise DataError("no image has any of the classes; choose others with data or classes")
    _write(config, bundle.name, tables)
    return tables


def _read(dataset: Source, chosen: list[int], channels: int) -> list[Sample]:
    samples = [dataset[index] for index in chosen]
    if not samples:
        raise DataError("the data set has no image to explain")
    for sample in samples:
        if sample.image.shape != samples[0].image.shape or sample.image.shape[-1] != channels:
            raise DataError(
                f"{sample.id} is {sample.image.shape}, {samples[0].id} {samples[0].image.shape} "
                f"and the model takes {channels} channels; choose images of one size with "
                "data.items, and convert their channels"
            )
    return samples


def _other_images(sample: Sample, pool: Source, config: ComponentsConfig) -> np.ndarray:
    """[num_others, H, W, C]; they depend on the seed and the image's id, not on the other items."""
    rng = np.random.default_rng([config.seed, image_id(sample.id)])
    names = [(index, pool.ids[index]) for index in map(int, rng.permutation(len(pool)))]
    names = [(index, name) for index, name in names if name != sample.id]
    # Other volumes first: neighbouring slices are nearly the same image.
    volume = sample.id.split("#")[0]
    names.sort(key=lambda item: item[1].split("#")[0] == volume)
    found: list[np.ndarray] = []
    for index, _ in names:
        try:
            image = pool[index].image
        except DataError:  # another one will do
            continue
        if image.shape == sample.image.shape:
            found.append(image)
        if len(found) == config.num_others:
            return np.stack(found)
    raise DataError(
        f"{sample.id}: {len(found)} other images of its size, num_others={config.num_others} are "
        "needed; lower num_others, name another others_source, or set components.intervention to "
        "zero"
    )


def _write(config: ComponentsConfig, model: str, tables: dict[str, ComponentTable]) -> None:
    try:
        config.out.mkdir(parents=True, exist_ok=True)
        for name, table in tables.items():
            how = {
                "resample": "resampled from other images",
                "mean": "set to their mean over other images",
                "zero": "set to zero",
            }[config.components.intervention]
            title = f"{model}: the parts that carry {name} ({config.components.outcome}, {how})"
            path = config.out / f"components-{quote(name, safe=' ')}.png"
            path.write_bytes(panels.to_png(components_figure(table, title)))
    except OSError as error:
        raise JaxsegError(f"{config.out}: cannot be written ({error.strerror})") from error
    write_csv(config.out / "components.csv", tables)
