"""A model, images and settings small enough to run whole sweeps in a test."""

import os

import numpy as np
import zarr
from flax import nnx
from PIL import Image

from jaxseg_xai.core.output_spec import OutputSpec
from jaxseg_xai.core.types import Sample
from jaxseg_xai.explainers.ate.ate import Ate
from jaxseg_xai.explainers.misure.search import Misure
from jaxseg_xai.models.bundle import ModelCard
from jaxseg_xai.models.folder import save_model
from jaxseg_xai.models.zoo.unet import UNetConfig
from jaxseg_xai.sweeps.config import RoiConfig, SweepConfig, make_job
from jaxseg_xai.sweeps.data import DataConfig

SIZE = 32
CLASS_NAMES = ("background", "bright", "never")
OUTPUT = OutputSpec(class_names=CLASS_NAMES)
MISURE = Misure(num_iterations=3, max_dilations=4)
ATE = Ate(block_size=8, num_patches=3, num_screen=1, batch_size=4)
_FLAGS = {
    "misure": ["--misure.num-iterations", "3", "--misure.max-dilations", "4"],
    "ate": [
        *("--ate.block-size", "8", "--ate.num-patches", "3", "--ate.num-screen", "1"),
        *("--ate.batch-size", "4"),
    ],
}
#: What a run says of itself: two runs of the same sweep differ in it.
RUN = ("/run_index", "/seconds")


def flags(explain=("misure", "ate")):
    """Flags of a small sweep with some methods."""
    found = [flag for name in explain for flag in _FLAGS.get(name, ())]
    return [*found, "--num-patches", "40", "--batch-size", "4", "--roi.side", "8"]


#: Of a small sweep with two methods.
FLAGS = [*flags(), "--explain", "misure", "ate"]


def picture(seed, size=SIZE):
    """A bright disc on noise, uint8 [H, W, 3], and where it is, uint8 [H, W]."""
    height, width = (size, size) if isinstance(size, int) else size
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    cy, cx = rng.uniform(10, height - 10), rng.uniform(10, width - 10)
    disc = (y - cy) ** 2 + (x - cx) ** 2 < 60
    image = rng.integers(0, 90, (height, width, 3)) + 150 * disc[..., None]
    return image.astype(np.uint8), disc.astype(np.uint8)


class Bytes:
    """Somebody's data set, whose pixels are not scaled."""

    class_names = CLASS_NAMES
    ids = ("s0", "s1")

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        image, labels = picture(index)
        return Sample(id=self.ids[index], image=image, labels=labels)


def write_images(folder, names, size=SIZE, labels=True):
    """PNG images, and label maps beside them, named after their seeds."""
    for part in ("images", "labels") if labels else ("images",):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for name in names:
        image, disc = picture(int(name[1:]), size)
        Image.fromarray(image).save(folder / "images" / f"{name}.png")
        if labels:
            Image.fromarray(disc).save(folder / "labels" / f"{name}.png")
    return folder


def write_model(
    folder, *, width=2, depth=1, seed=0, upsample="bilinear", class_names=CLASS_NAMES, channels=3
):
    """A random U-Net.

    The class "bright" is wherever its last features add up to more than they usually do; those
    after it are never predicted.
    """
    config = UNetConfig.of_width(
        width,
        depth,
        in_channels=channels,
        num_logits=len(class_names),
        norm="none",
        upsample=upsample,
    )
    model = config.build(nnx.Rngs(seed))
    kernel = np.zeros(model.head.kernel.shape, np.float32)
    kernel[..., 1] = 1
    model.head.kernel.set_value(kernel)
    pictures = np.stack([picture(i)[0] for i in range(4)])[..., :channels]
    logits = model(pictures / np.float32(255))
    threshold = np.quantile(logits[..., 1], 0.7)
    never = [-1e3] * (len(class_names) - 2)
    model.head.bias.set_value(np.array([0, -threshold, *never], np.float32))
    about = {"data": "noise", "dice": {"mean": 0.5}}
    card = ModelCard(
        architecture="unet",
        config={
            "in_channels": channels,
            "num_logits": len(class_names),
            "norm": "none",
            "upsample": upsample,
            "encoder_channels": config.encoder_channels,
            "decoder_channels": config.decoder_channels,
        },
        class_names=class_names,
        name_map={},
        about=about,
    )
    save_model(folder, model, card)
    return folder


def sweep_config(out, model, source, *, data=None, explain=(MISURE, ATE), **options):
    settings = {"roi": RoiConfig(side=8), "num_patches": 40, "batch_size": 4}
    settings |= {"classes": ("bright",)}
    return SweepConfig(
        out=out,
        model=str(model),
        data=DataConfig(source=str(source), **(data or {})),
        explain=tuple(map(make_job, explain)),
        **(settings | options),
    )


def arrays(path):
    """Every array of a store, by its path."""
    root = zarr.open_group(str(path), mode="r", use_consolidated=False)
    return {
        f"{group}/{name}": array[...]
        for group, members in root.groups()
        for name, array in members.arrays()
    }


def assert_same_store(one, other):
    """Bit by bit, but for the name of the run and its time."""
    a, b = arrays(one), arrays(other)
    assert a.keys() == b.keys()
    for name, value in a.items():
        if name.endswith(RUN):
            continue
        np.testing.assert_array_equal(value, b[name], err_msg=name)


def environment():
    """For a process that imports this module."""
    return {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}


def sample(name, image, labels):
    return Sample(id=name, image=image, labels=labels)
