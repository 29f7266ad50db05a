"""The ATE of volumes: blocks of 16 replaced by the mean, seen through a box around an organ."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from scipy import ndimage

from benchmarks.agree.kind import Ours
from benchmarks.arrays import Inputs
from benchmarks.harness.settings import Settings
from benchmarks.methods.ate import AteCase, drawn, outside
from benchmarks.methods.base import Prepared
from benchmarks.methods.inputs import in_dtype, predictor, random_network
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.explainers.ate.ate import Ate
from jaxseg_xai.models import Bundle
from jaxseg_xai.models.bundle import ModelCard, bundle_of
from jaxseg_xai.models.zoo.unet3d import UNet3DConfig
from jaxseg_xai.sweeps.regions import Region, find_region

_DEPTH, _WIDTH = 4, 16
#: Share of voxels that the random network calls organ, and voxels of the volumes' features.
_ORGAN, _FEATURE = 0.1, 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class AteVolumeCase(AteCase):
    """Blocks of one volume; the peers do a sample of them."""

    peer_blocks: int = 2

    def open(self, settings: Settings) -> Bundle:
        return random_unet3d(settings)

    def prepare(self, settings: Settings, bundle: Bundle, explainer: Any) -> Prepared:
        volume = smooth_volume(settings.size)
        organ = predictor(bundle)(volume) == 1
        box = find_region(organ, Region(kind="box", side=explainer.region_side))
        targets = SegmentTarget(
            class_index=np.ones(1, np.int32), region=box[None], reference=organ[None]
        )
        inputs = drawn(bundle, Inputs(images=volume[None], targets=targets), explainer)
        blocks = outside(inputs, explainer)
        chosen = nearest(blocks, box, explainer.block_size, settings.blocks or blocks.size)
        return {"ours": (explainer, inputs.replace(blocks=chosen))}

    def peer_inputs(self, ours: Ours) -> tuple[Inputs, Inputs]:
        inputs, side = ours.inputs, ours.explainer.block_size
        few = nearest(inputs.blocks, inputs.targets.region[0], side, self.peer_blocks)
        return inputs.replace(blocks=few), inputs.replace(blocks=few)


def nearest(blocks: np.ndarray, box: np.ndarray, side: int, count: int) -> np.ndarray:
    """Those `count` of the marked blocks bool [1, *G] that lie nearest to a box bool [*S]."""
    places = np.argwhere(blocks)
    middle = (np.argwhere(box).mean(0) + 0.5) / side - 0.5
    order = np.argsort(np.linalg.norm(places[:, 1:] - middle, axis=1), kind="stable")
    chosen = np.zeros_like(blocks)
    chosen[tuple(places[order[:count]].T)] = True
    return chosen


def smooth_volume(side: int) -> np.ndarray:
    """Noise with features of some voxels, float32 [side, side, side, 1] in [0, 1]."""
    noise = np.random.default_rng(0).standard_normal((side,) * 3)
    smooth = ndimage.gaussian_filter(noise, _FEATURE / 2)
    low, high = smooth.min(), smooth.max()
    return ((smooth - low) / (high - low)).astype(np.float32)[..., None]


def random_unet3d(settings: Settings) -> Bundle:
    """A U-Net of volumes with random weights and batch norms, that finds some organ."""
    widths = tuple((settings.width or _WIDTH) << level for level in range(_DEPTH + 1))
    config = UNet3DConfig(encoder_channels=widths, decoder_channels=widths[-2::-1], norm="batch")
    model: Any = random_network(config)
    logits = nnx.jit(lambda model, x: model(x))(model, smooth_volume(32)[None])
    lead = np.quantile(logits[..., 1] - logits[..., 0], 1 - _ORGAN)
    model.head.bias.set_value(jnp.array([0, -lead], jnp.float32))
    card = ModelCard(
        architecture=config.name,
        config=dataclasses.asdict(config),
        class_names=("background", "organ"),
        name_map={},
    )
    return in_dtype(bundle_of(card, model, "random"), settings)


ATE_3D = AteVolumeCase(
    name="ate-3d",
    about="the ATE of a volume: 16x16x16 blocks replaced by the mean, a box of side 24",
    defaults=Settings(model="random", size=96, lanes=1, width=_WIDTH),
    quick=Settings(model="random", size=32, lanes=1, width=2, blocks=4),
    explainer=Ate(block_size=16, perturbation="mean", region_side=24),
    shorter={"block_size": 8, "region_side": 8},
)
