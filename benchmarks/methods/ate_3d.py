"""The ATE of volumes: blocks of 16 replaced by the mean, seen through a box around an organ."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from scipy import ndimage

from benchmarks.agree.kind import Ours
from benchmarks.agree.verdict import Validation, all_of
from benchmarks.arrays import Inputs
from benchmarks.harness.settings import Settings
from benchmarks.methods.ate import AteCase, drawn, outside, plan_of
from benchmarks.methods.base import Prepared, Ran
from benchmarks.methods.inputs import in_dtype, predictor, random_network
from benchmarks.methods.windows import WHOLE, WholeAte, against_whole, same_effects
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
        inputs = drawn(bundle, organ_in_box(settings, bundle, explainer.region_side), explainer)
        blocks, box = outside(inputs, explainer), inputs.targets.region[0]
        chosen = nearest(blocks, box, explainer.block_size, settings.blocks or blocks.size)
        few = nearest(blocks, box, explainer.block_size, 1)
        whole = WholeAte(**vars(explainer))
        return {
            "ours": (explainer, inputs.replace(blocks=chosen)),
            WHOLE: (whole, inputs.replace(blocks=few)),
        }

    def figures(self, ran: Ran) -> dict[str, Any]:
        """Also ours in windows against ours through the whole model, in the same run."""
        found, explainer = super().figures(ran), ran.main.explainer
        sides = explainer.block_size, explainer.region_side
        plan = plan_of(ran.main.bundle, ran.settings.size, *sides)
        return found | {"series": found["series"] | {"windows": [against_whole(ran, plan)]}}

    def validate(self, ran: Ran, mesh: Mesh) -> Validation:
        """Also windows against the whole model."""
        voxel = 2 * 100 / max(1, int(ran.main.inputs.targets.segment.sum()))
        same = same_effects(ran, tolerance=1.01 * voxel)  # one on the threshold
        return all_of({"peers": super().validate(ran, mesh), "whole volumes": same})

    def peer_inputs(self, ours: Ours) -> tuple[Inputs, Inputs]:
        inputs, side = ours.inputs, ours.explainer.block_size
        few = nearest(inputs.blocks, inputs.targets.region[0], side, self.peer_blocks)
        return inputs.replace(blocks=few), inputs.replace(blocks=few)


def organ_in_box(settings: Settings, bundle: Bundle, side: int, count: int = 1) -> Inputs:
    """So many volumes, and what the model segments in a box of each."""
    volumes = np.stack([smooth_volume(settings.size, seed) for seed in range(count)])
    predict, box = predictor(bundle), Region(kind="box", side=side)
    organs = np.stack([predict(volume) == 1 for volume in volumes])
    targets = SegmentTarget(
        class_index=np.ones(count, np.int32),
        region=np.stack([find_region(organ, box) for organ in organs]),
        reference=organs,
    )
    return Inputs(images=volumes, targets=targets)


def nearest(blocks: np.ndarray, box: np.ndarray, side: int, count: int) -> np.ndarray:
    """Those `count` of the marked blocks bool [1, *G] that lie nearest to a box bool [*S]."""
    places = np.argwhere(blocks)
    middle = (np.argwhere(box).mean(0) + 0.5) / side - 0.5
    order = np.argsort(np.linalg.norm(places[:, 1:] - middle, axis=1), kind="stable")
    chosen = np.zeros_like(blocks)
    chosen[tuple(places[order[:count]].T)] = True
    return chosen


def smooth_volume(side: int, seed: int = 0) -> np.ndarray:
    """Noise with features of some voxels, float32 [side, side, side, 1] in [0, 1]."""
    noise = np.random.default_rng(seed).standard_normal((side,) * 3)
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


_EXPLAINER = Ate(block_size=16, perturbation="mean", region_side=24)
_SHORTER = {"block_size": 8, "region_side": 8}
ATE_3D = AteVolumeCase(
    references=("occlusion_volume",),
    name="ate-3d",
    about="the ATE of a volume: 16x16x16 blocks replaced by the mean, a box of side 24",
    defaults=Settings(model="random", size=96, lanes=1, width=_WIDTH),
    quick=Settings(model="random", size=32, lanes=1, width=2, blocks=4),
    explainer=_EXPLAINER,
    shorter=_SHORTER,
)
ATE_3D_DRAWN = dataclasses.replace(
    ATE_3D,
    name="ate-3d-drawn",
    about="the same, 3 + 50 interventions of noise on each of the 200 blocks nearest to the box",
    defaults=dataclasses.replace(ATE_3D.defaults, blocks=200),
    explainer=dataclasses.replace(_EXPLAINER, perturbation="noise", num_screen=3, num_patches=50),
    shorter=_SHORTER | {"num_screen": 1, "num_patches": 2},
)
