"""What the cases explain: a model, and images in which it finds something."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.agree.frozen import REFERENCE
from benchmarks.arrays import Inputs
from benchmarks.harness.settings import Settings
from jaxseg_xai.core.errors import ConfigError, DataError
from jaxseg_xai.core.types import Sample, SegmentTarget
from jaxseg_xai.data.pool import build_patch_pool
from jaxseg_xai.data.sources.triangle import TriangleDataset, draw_scene, draw_triangle
from jaxseg_xai.explainers import Explainer
from jaxseg_xai.models import Bundle, load_model
from jaxseg_xai.models.architecture import Architecture
from jaxseg_xai.models.bundle import ModelCard, bundle_of
from jaxseg_xai.models.folder import save_model
from jaxseg_xai.models.registry import MODELS
from jaxseg_xai.models.summary import untrained
from jaxseg_xai.models.zoo.unet import UNetConfig
from jaxseg_xai.ops.patches import PatchPool
from jaxseg_xai.sweeps.regions import Region, find_region

BOX_SIDE = 32
#: A model that is called so is a network of PyTorch: "torch:smp Unet".
TORCH = "torch:"
#: Share of pixels that a random network calls foreground.
_FOREGROUND = 0.3
#: Images tried per image wanted before it is said that the model finds nothing.
_PATIENCE = 4
#: Stream of the scenes with small objects, and the pixels around an object that count.
_SMALL_OBJECTS, _MARGIN = 9, 16


class Pictures(TriangleDataset):
    """Triangle images with as many channels as the model takes."""

    def __init__(self, size: int, channels: int, num: int = 200) -> None:
        super().__init__("test", size=size, num=num)
        self._channels = channels

    def __getitem__(self, index: int) -> Sample:
        """Item `index`: image float32 [S, S, C] in [0, 1]."""
        sample = super().__getitem__(index)
        return dataclasses.replace(sample, image=as_channels(sample.image, self._channels))


def as_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """A colour image [H, W, 3] as [H, W, channels]: one is the mean, further ones repeat them."""
    if channels == 1:
        return image.mean(axis=-1, keepdims=True)
    return image[..., np.arange(channels) % 3]


def open_model(settings: Settings) -> Bundle:
    """The model that the settings name."""
    if settings.width is not None:
        return in_dtype(bundle_of(*random_model(settings.width), "random"), settings)
    if settings.model.startswith(TORCH):
        net = torch_net(settings.model)
        return in_dtype(dataclasses.replace(net.bundle(net.make()), name=settings.model), settings)
    if settings.model in MODELS:
        bundle = untrained(settings.model)
        network = random_network(bundle.card.architecture_config())
        return in_dtype(bundle_of(bundle.card, network, settings.model), settings)
    name = REFERENCE if settings.model == "reference" else settings.model
    return load_model(name, dtype=settings.dtype)


def torch_net(model: str) -> Any:
    """The network of a model that is called "torch:NAME"; `ConfigError` where there is none."""
    from benchmarks.agree.published_nets import PUBLISHED  # PyTorch only where it is needed
    from benchmarks.agree.torch_nets import NETS

    nets, name = {**NETS, **PUBLISHED}, model.removeprefix(TORCH)
    if name not in nets:
        raise ConfigError(f"no network {name!r}; there is {', '.join(nets)}")
    return nets[name]


def in_dtype(bundle: Bundle, settings: Settings) -> Bundle:
    """The bundle computing in the dtype of the settings."""
    return dataclasses.replace(bundle, segmenter=bundle.segmenter.replace(dtype=settings.dtype))


def random_network(config: Architecture) -> Any:
    """A network of an architecture with random weights, as Flax starts with."""
    rng = np.random.default_rng(0)
    # From NumPy: built eagerly, each of some hundred small programs is compiled.
    model = nnx.eval_shape(lambda: config.build(nnx.Rngs(0)))
    for path, leaf in nnx.to_flat_state(nnx.state(model, (nnx.Param, nnx.BatchStat))):
        values = np.full(leaf.shape, float(path[-1] in ("scale", "var")))
        if path[-1] == "kernel":  # of variance 1 / inputs
            values = rng.standard_normal(leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]))
        leaf.set_value(jnp.asarray(values, jnp.float32))
    model.eval()
    return model


def name_of_model(settings: Settings, folder: Path) -> str:
    """What a sweep calls the model of the settings; a random one is written into a folder."""
    if settings.width is None:
        return str(REFERENCE) if settings.model == "reference" else settings.model
    card, network = random_model(settings.width)
    save_model(folder / "model", network, card)
    return str(folder / "model")


def random_model(width: int) -> tuple[ModelCard, nnx.Module]:
    """A U-Net with random weights whose bias makes a share of pixels foreground."""
    config = UNetConfig.of_width(width)
    model = random_network(config)
    # One program for the logits.
    images = np.stack([Pictures(64, config.in_channels)[i].image for i in range(4)])
    logits = nnx.jit(lambda model, images: model(images))(model, images)
    assert model.head.bias is not None
    model.head.bias.set_value(jnp.full(1, -np.quantile(logits, 1 - _FOREGROUND), jnp.float32))
    card = ModelCard(
        architecture="unet",
        config=dataclasses.asdict(config),
        class_names=("background", "triangle"),  # the sweep wants those of its data set
        name_map={},
    )
    return card, model


def predictor(bundle: Bundle) -> Callable[[np.ndarray], np.ndarray]:
    """From an image [*S, C] to its label map [*S]: one small program for any number."""
    predict = jax.jit(lambda v, x: bundle.segmenter.output.prediction(bundle.segmenter(v, x)))
    return lambda image: np.asarray(predict(bundle.variables, image[None])[0])


def choose_images(bundle: Bundle, settings: Settings, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Images [num, S, S, C] in which the model segments something, and which class most, [num]."""
    pictures = Pictures(settings.size, channels_of(bundle), _PATIENCE * num)
    predict = predictor(bundle)

    def find(index: int) -> tuple[np.ndarray, int] | None:
        image = pictures[index].image
        counts = np.bincount(predict(image).ravel(), minlength=2)[1:]
        return (image, int(1 + counts.argmax())) if counts.max() >= BOX_SIDE else None

    images, classes = _collect(find, num, f"{bundle.name} in images of side {settings.size}")
    return images, classes.astype(np.int32)


def small_objects(bundle: Bundle, settings: Settings, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Scenes whose objects are as large as in an image of 128x128, and a box around the triangle.

    Images [num, S, S, C] and boxes bool [num, S, S], in which the model finds something.
    """
    predict = predictor(bundle)

    def find(index: int) -> tuple[np.ndarray, np.ndarray] | None:
        rng = np.random.default_rng([_SMALL_OBJECTS, index])
        scene, triangle, _ = draw_scene(rng, settings.size, draw_triangle, scale=1.0)
        image = as_channels((scene / 255).astype(np.float32), channels_of(bundle))
        places, region = np.argwhere(triangle), np.zeros(triangle.shape, bool)
        (top, left), (bottom, right) = places.min(0) - _MARGIN, places.max(0) + 1 + _MARGIN
        region[max(0, top) : bottom, max(0, left) : right] = True
        enough = ((predict(image) == 1) & region).sum() >= BOX_SIDE
        return (image, region) if enough else None

    return _collect(find, num, f"{bundle.name} in scenes with small objects")


def _collect(
    find: Callable[[int], tuple | None], num: int, who: str
) -> tuple[np.ndarray, np.ndarray]:
    """The first `num` pairs that are found; `DataError` where there are fewer."""
    found = []
    for index in range(_PATIENCE * num):
        if (pair := find(index)) is not None:
            found.append(pair)
        if len(found) == num:
            first, second = zip(*found, strict=True)
            return np.stack(first), np.stack(second)
    raise DataError(
        f"{who} segments something in {len(found)} of {_PATIENCE * num}, {num} are needed; use "
        "--model random, or another --size"
    )


def inputs_of(
    bundle: Bundle,
    images: np.ndarray,
    classes: np.ndarray,
    explainer: Explainer,
    regions: np.ndarray | None = None,
) -> Inputs:
    """Images [N, H, W, C] with the model's own segmentation of a class each as the target.

    In all of the image, where the explainer explains the prediction, else in a box around a pixel
    deep in the class; or in `regions`, bool [N, H, W].
    """
    predict = predictor(bundle)
    planes = np.stack([predict(x) == c for x, c in zip(images, classes, strict=True)])
    if regions is None:
        whole = explainer.meta.target == "prediction"
        kind, side = "image" if whole else "box", min(BOX_SIDE, *images.shape[1:3])
        regions = np.stack([find_region(p, Region(kind=kind, side=side)) for p in planes])
    targets = SegmentTarget(class_index=classes, region=regions, reference=planes)
    return Inputs(images=images, targets=targets)


def make_pool(bundle: Bundle, settings: Settings, block_size: int) -> PatchPool:
    """Patches of 32 images of the stream."""
    pictures = Pictures(settings.size, channels_of(bundle), 32)
    spec = bundle.segmenter.input
    return build_patch_pool(pictures, spec, block_size=block_size, num_patches=1000, seed=0)


def channels_of(bundle: Bundle) -> int:
    """Of the images that the model takes."""
    return bundle.segmenter.input.channels
