"""Files of settings, lists, and what PdCR's code and ours write."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from jaxseg_xai.cli.command import read_toml
from jaxseg_xai.cli.inspect import InspectConfig
from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.fields import check
from jaxseg_xai.data.pdcr import (
    Statistics,
    read_map,
    read_patches,
    read_regions,
    read_statistics,
    write_statistics,
)
from jaxseg_xai.reliability.model_file import ReliabilityClassifier
from jaxseg_xai.reliability.table import Origin
from jaxseg_xai.sweeps.config import read_config
from tests.fuzz.target import Target

PIXELS = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)


def classifier(folder: Path) -> None:
    number = dict.fromkeys(("threshold", "clip", "intercept", "share_good"), 0.5)
    pair = dict.fromkeys(("medians", "means", "scales", "coefficients"), (1.0, 2.0))
    origin = Origin(
        model="triangle",
        weights_checksum=7,
        class_names=("background", "triangle"),
        dtype="float32",
        pad="refuse",
        settings={"ate": {"block_size": 8}},
    )
    ReliabilityClassifier(
        **number,
        **pair,
        features=("ate_a", "ate_b"),
        degree=1,
        origin=origin,
        num_explanations=7,
        seen=(3, 9),
    ).save(folder / "c.json")


def statistics(folder: Path) -> None:
    counts = dict.fromkeys(("num_positive", "num_negative", "num_zero", "num_region"), 2)
    found = Statistics(base=90.5, histogram=(0, 0, 1, 1, 2, 0, 0, 1, 1), **counts)
    write_statistics(folder / "s.txt", found)


SWEEP = """# a sweep
model = "triangle"
out = "runs/a.zarr"
classes = ["triangle"]
seed = 3
num_patches = 40
batch_size = 4
[data]
source = "triangle"
window = [0.0, 255.0]
sizes = [64, 64]
[labels]
map = { 255 = 1 }
colours = {}
[roi]
side = 16
corner = [3, 4]
[[explain]]
method = "ate"
label = "ate16"
block_size = 16
region = "box 48"
target = "prediction"
[[explain]]
method = "misure"
num_iterations = 30
"""
LOOK = 'source = "scans"\nnum = 4\nout = "a.png"\n[data]\nlimit = 3\nwindow = [0, 1]\n'


def text(name: str, content: str, read: Callable[[Path], object]) -> Target:
    return Target(
        lambda folder: (folder / name).write_text(content), lambda folder: read(folder / name)
    )


def settings(read: Callable[[Path], object]) -> Callable[[Path], None]:
    """A file of settings, which are then checked together; that names the key, not the file."""

    def read_and_check(path: Path) -> None:
        found = read(path)
        try:
            check(found)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None

    return read_and_check


TABLES: dict[str, Target] = {
    "sweep": text("sweep.toml", SWEEP, settings(read_config)),
    "inspect": text("inspect.toml", LOOK, settings(lambda path: read_toml(path, InspectConfig))),
    "regions": text("regions.txt", "a 3 4\nISIC_0033556 72 88\n", read_regions),
    "patches": Target(
        lambda folder: Image.fromarray(PIXELS).save(folder / "a_0_1.png"), read_patches
    ),
    "map": Target(
        lambda folder: np.save(folder / "m.npy", PIXELS[..., 0].astype(np.float32)),
        lambda folder: read_map(folder / "m.npy"),
    ),
    "statistics": Target(statistics, lambda folder: read_statistics(folder / "s.txt")),
    "classifier": Target(classifier, lambda folder: ReliabilityClassifier.load(folder / "c.json")),
}
