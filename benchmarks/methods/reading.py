"""Reading image files for a model, against the quickest method that waits for them."""

import dataclasses
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel
import numpy as np
import tifffile
from jax.sharding import Mesh
from PIL import Image

import jaxseg_xai
from benchmarks.agree.verdict import Bound, judge
from benchmarks.harness.machine import peak_memory
from benchmarks.harness.record import Measurement, Row, Timing
from benchmarks.harness.settings import Settings
from benchmarks.harness.timing import phase
from benchmarks.harness.turns import alone
from benchmarks.methods.base import Case
from benchmarks.methods.inputs import name_of_model
from jaxseg_xai.core.errors import JaxsegError
from jaxseg_xai.data import MemorySource
from jaxseg_xai.sweeps.config import DataConfig, SweepConfig
from jaxseg_xai.sweeps.items import Item, read_ahead
from jaxseg_xai.sweeps.run import work_of

_IMAGES, _QUICK_IMAGES = 256, 16
_METHOD = "confidence"
#: Formats that give back what was written.
_LOSSLESS = ("png", "tiff", "npz")

Images = Sequence[np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadingCase(Case):
    """A folder of each format with as many images, read and prepared as a sweep does it.

    The rate of the method is that of images which are in memory already.
    """

    def run(self, settings: Settings, mesh: Mesh) -> Measurement:
        """See `Case.run`."""
        count = _QUICK_IMAGES if settings.quick else _IMAGES
        made = jaxseg_xai.open_dataset("triangle", size=settings.size, num=count)
        samples = [made[index] for index in range(count)]
        images = [np.rint(sample.image * 255).astype(np.uint8) for sample in samples]
        labels = [np.asarray(sample.labels, np.uint8) for sample in samples]
        phase("timing")
        rows: list[Row] = []
        worst = 0.0
        with tempfile.TemporaryDirectory() as name:
            model = name_of_model(settings, Path(name))
            for kind, write in _FORMATS.items():
                folder = Path(name) / kind
                folder.mkdir()
                data = write(folder, images, labels)
                work = work_of(SweepConfig(model=model, data=data))
                seconds, items = [], []
                for _ in range(settings.repetitions):
                    with alone():
                        start = time.perf_counter()
                        groups = read_ahead(work, list(range(count)), settings.lanes)
                        items = [item for group in groups for _, item in group]
                        seconds.append(time.perf_counter() - start)
                if kind in _LOSSLESS:
                    worst = max(worst, *map(_difference, items, images))
                rows.append({"format": kind, "images_per_s": count / float(np.median(seconds))})
            needed = _rate(model, images, settings)
        for row in rows:
            row["times_what_is_needed"] = float(row["images_per_s"] or 0) / needed
        slowest = min(float(row["images_per_s"] or 0) for row in rows)
        return Measurement(
            compile_seconds=0.0,
            timings={"ours": Timing.of([count / slowest])},
            work={"images": float(count)},
            flops=None,
            flops_of="not counted",
            memory=peak_memory(None, mesh),
            validation=judge(
                Bound("of the values in [0, 1]", worst, 1e-6),
                why=f"what is read from {', '.join(_LOSSLESS)} is what was written",
            ),
            series={"reading": [*rows, {"format": _METHOD, "images_per_s": needed}]},
        )


def _rate(model: str, images: Sequence[np.ndarray], settings: Settings) -> float:
    """Images a second of the method, from memory to memory, without compiling."""
    bundle = jaxseg_xai.load_model(model)
    source = MemorySource([image / np.float32(255) for image in images])

    def explain() -> float:
        start = time.perf_counter()
        jaxseg_xai.explain(bundle, source, 1, _METHOD, batch_size=settings.lanes)
        return time.perf_counter() - start

    explain()
    with alone():
        return len(images) / float(np.median([explain() for _ in range(settings.repetitions)]))


def _difference(item: Item | JaxsegError, written: np.ndarray) -> float:
    if isinstance(item, JaxsegError):
        raise item
    return float(np.max(np.abs(item.sample.image - written / np.float32(255))))


def _files(ending: str, save: Callable[[Path, np.ndarray], object]) -> Callable[..., DataConfig]:
    """A picture a file, and label maps in PNG beside them."""

    def write(folder: Path, images: Images, labels: Images) -> DataConfig:
        (folder / "images").mkdir()
        (folder / "labels").mkdir()
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            save(folder / "images" / f"{number:04d}.{ending}", image)
            Image.fromarray(label).save(folder / "labels" / f"{number:04d}.png")
        return DataConfig(source=str(folder / "images"), labels=folder / "labels")

    return write


def _npz(folder: Path, images: Images, labels: Images) -> DataConfig:
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        np.savez_compressed(folder / f"{number:04d}.npz", image=image, label=label)
    return DataConfig(source=str(folder))


def _nifti(folder: Path, images: Images, labels: Images) -> DataConfig:
    """The slices of one volume; the colours are its contrasts."""
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    for name, planes in (("images", images), ("labels", labels)):
        volume = np.stack(planes, axis=2)
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), folder / name / "a.nii.gz")
    return DataConfig(source=str(folder / "images"), labels=folder / "labels", plane="axial")


_FORMATS: dict[str, Callable[[Path, Images, Images], DataConfig]] = {
    "png": _files("png", lambda path, image: Image.fromarray(image).save(path)),
    "jpeg": _files("jpg", lambda path, image: Image.fromarray(image).save(path)),
    "tiff": _files("tif", lambda path, image: tifffile.imwrite(path, image, compression="zlib")),
    "npz": _npz,
    "nifti slices": _nifti,
}

READING = ReadingCase(
    name="reading",
    about="files of five formats, read for a model, against what `confidence` needs",
    defaults=Settings(model="reference", size=64, lanes=8),
    quick=Settings(model="triangle", size=32, lanes=4),
    has_peers=False,
    all_devices=True,
)
