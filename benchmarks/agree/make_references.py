"""Make the frozen references anew, with the peers that work one image, one block at a time.

    python -m benchmarks.agree.make_references [NAME...]

Everything is fixed, so the same machine and PyTorch write the same files.
"""

import dataclasses
import sys
from typing import Any

import jax
import numpy as np

from benchmarks.agree.frozen import KINDS
from benchmarks.agree.reference import Reference, save
from benchmarks.arrays import Inputs, ids_of, pool_of_nobody
from benchmarks.peers import components, misure
from benchmarks.peers.unet import torch_unet, tuned_copy
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.data.sources.triangle import TriangleDataset
from jaxseg_xai.explainers import EXPLAINERS
from jaxseg_xai.models import load_model
from jaxseg_xai.ops.patches import draw_patches
from jaxseg_xai.ops.random import make_key
from jaxseg_xai.ops.replacements import Draws

MODEL, SIZE = "triangle", 64
#: Test items, and the corner of the region that is explained: a part of the triangle.
ATE_ITEMS, REGION_SIDE = {0: (38, 12), 10: (8, 40)}, 16
#: Test items that need 7, 3 and 11 dilations; rounding leaves one of them alone to the end.
MISURE_ITEMS = (0, 1, 11)
#: Test items whose Grad-CAM is not 0 everywhere.
MAP_ITEMS = (0, 1, 3)
#: Test items, and those whose activations are put in.
COMPONENT_ITEMS = {0: (20, 21), 10: (22, 23)}
#: Test items that give patches, and how many: interventions a block, in the screening and in all.
POOL_ITEMS, NUM_PATCHES, NUM_DRAWS = range(20, 30), 40, (3, 13)
_MISURE = ("misure", "misure_paper")
#: Name of a reference -> its explainer (where it has another name), and settings of it.
EXPLAINER_OF = {"occlusion": "ate", "ate_gradient_path": "ate_gradient"}
SETTINGS: dict[str, dict[str, Any]] = {
    "ate": {"num_patches": NUM_DRAWS[1] - NUM_DRAWS[0]},
    "occlusion": {"perturbation": "zero"},
    "ate_gradient": {"num_fields": 3},
    "ate_gradient_path": {"num_fields": 3, "num_nodes": 3},
    "components": {"outcome": "soft_dice", "num_others": 2},
    "misure": {"num_iterations": 40, "max_dilations": 24, "patience": 5},  # it ends by itself, too
    "misure_paper": {"num_iterations": 40, "max_dilations": 24},
    "integrated_gradients": {"num_nodes": 16},
    "grad_cam": {},
    "confidence": {},
}


def make(name: str, count: int | None = None) -> Reference:
    """What the peer finds on the inputs of a name, or on the first `count` of them."""
    explainer = EXPLAINERS.get(EXPLAINER_OF.get(name, name))(**SETTINGS[name])
    inputs, bundle = _inputs(name, explainer), load_model(MODEL)
    inputs = inputs.some(slice(count))
    model = torch_unet(bundle.card.architecture_config(), bundle.variables)
    result = KINDS[explainer.name].module().original(model, inputs, explainer)
    if explainer.name in _MISURE:
        result |= misure.rounding(tuned_copy(model), inputs, explainer)._asdict()
    if name == "components":
        result["first_order"] = components.first_order(model, inputs)
    return Reference(model=MODEL, explainer=explainer, inputs=inputs, result=result)


def _inputs(name: str, explainer: Any) -> Inputs:
    if explainer.name in ("ate", "ate_gradient"):
        return _with_draws(name, explainer, _images(ATE_ITEMS))
    if name == "components":
        inputs, dataset = _images(COMPONENT_ITEMS), TriangleDataset("test", SIZE)
        others = [[dataset[item].image for item in items] for items in COMPONENT_ITEMS.values()]
        return _whole(inputs).replace(others=np.stack(others))
    return _whole(_images(MISURE_ITEMS if explainer.name in _MISURE else MAP_ITEMS))


def _images(items: Any) -> Inputs:
    """Test items without a region; the reference is the ground truth."""
    samples = [TriangleDataset("test", SIZE)[item] for item in items]
    labels = np.stack([np.asarray(sample.labels) for sample in samples])
    targets = SegmentTarget(
        class_index=np.ones(len(samples), np.int32),
        region=np.zeros(labels.shape, bool),
        reference=labels == 1,
    )
    return Inputs(images=np.stack([sample.image for sample in samples]), targets=targets)


def _whole(inputs: Inputs) -> Inputs:
    """All of the images is explained."""
    region = np.ones_like(inputs.targets.region)
    return inputs.replace(targets=dataclasses.replace(inputs.targets, region=region))


def _with_draws(name: str, explainer: Any, inputs: Inputs) -> Inputs:
    """Boxes as regions, and patches for every block."""
    side, dataset = explainer.block_size, TriangleDataset("test", SIZE)
    for one, (y, x) in zip(inputs.targets.region, ATE_ITEMS.values(), strict=True):
        one[y : y + REGION_SIDE, x : x + REGION_SIDE] = True
    pool = np.stack([dataset[item].image for item in POOL_ITEMS])
    tiles = pool.reshape(len(pool), SIZE // side, side, SIZE // side, side, 3).swapaxes(2, 3)
    patches = np.random.default_rng(0).permutation(tiles.reshape(-1, side, side, 3))[:NUM_PATCHES]
    blocks = (SIZE // side) ** 2
    if name == "occlusion":
        zero = np.zeros((len(inputs.images), blocks, 1), np.int64)
        return inputs.replace(draws=Draws(np.zeros_like(patches[:1]), zero[..., :0], zero))
    if name == "ate":
        # Seeded by the item, so that one image's draws do not depend on the others.
        rngs, size = map(np.random.default_rng, ATE_ITEMS), (blocks, NUM_DRAWS[1])
        drawn = np.stack([rng.integers(NUM_PATCHES, size=size) for rng in rngs])
        return inputs.replace(draws=Draws(patches, *np.split(drawn, [NUM_DRAWS[0]], axis=-1)))
    # What ours draws from a pool that no image is in.
    key = jax.random.fold_in(make_key(0), 1)
    drawn = [
        np.asarray(draw_patches(key, i, pool_of_nobody(patches), blocks, explainer.num_fields))
        for i in ids_of(len(inputs.images))
    ]
    full = np.stack(drawn)
    return inputs.replace(draws=Draws(patches, full[..., :0], full))


def main(names: list[str]) -> None:
    """Write the files of these names, or all."""
    for name in names or SETTINGS:
        save(name, make(name))


if __name__ == "__main__":
    main(sys.argv[1:])
