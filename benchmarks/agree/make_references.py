"""Make the frozen references anew, with the peers that work one image, one block at a time.

    python -m benchmarks.agree.make_references [NAME...]

Everything is fixed, so the same machine and PyTorch write the same files.
"""

import sys
from typing import Any

import numpy as np

from benchmarks.agree.frozen import KINDS, Reference, save
from benchmarks.arrays import Inputs, pool_of_nobody
from benchmarks.methods.ate import drawn
from benchmarks.peers import components, misure
from benchmarks.peers.unet import torch_unet, tuned_copy
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.data.sources.brain_volume import BrainVolumeDataset
from jaxseg_xai.data.sources.triangle import TriangleDataset
from jaxseg_xai.explainers import EXPLAINERS
from jaxseg_xai.explainers.ate.ate import Ate
from jaxseg_xai.models import Bundle, load_model

MODEL, SIZE = "triangle", 64
#: Of volumes: a cube of the test brain, a box in it, and the class that is explained.
VOLUME_MODEL = "brain-volume"
CUBE, BOX = (slice(48, 80), slice(16, 48), slice(48, 80)), (slice(12, 20),) * 3
TISSUE = "white matter"
#: Test items, and the corner of the region that is explained: a part of the triangle.
ATE_ITEMS, REGION_SIDE = {0: (38, 12), 10: (8, 40)}, 16
#: Test items that need 7, 3 and 11 dilations; rounding leaves one of them alone to the end.
MISURE_ITEMS = (0, 1, 11)
#: Test items whose Grad-CAM is not 0 everywhere.
MAP_ITEMS = (0, 1, 3)
#: Test items, and those whose activations are put in.
COMPONENT_ITEMS = {0: (20, 21), 10: (22, 23)}
#: Test items that give patches, and how many.
POOL_ITEMS, NUM_PATCHES = range(20, 30), 40
#: Name of a reference -> its explainer (where it has another name), and settings of it.
EXPLAINER_OF = {
    "occlusion": "ate",
    "occlusion_volume": "ate",
    "misure_paper_volume": "misure_paper",
    "ate_gradient_path": "ate_gradient",
}
SETTINGS: dict[str, dict[str, Any]] = {
    "ate": {"num_patches": 10},
    "occlusion": {"perturbation": "zero"},
    "occlusion_volume": {"perturbation": "zero", "block_size": 4},
    "ate_gradient": {"num_fields": 3},
    "ate_gradient_path": {"num_fields": 3, "num_nodes": 3},
    "components": {"outcome": "soft_dice", "num_others": 2},
    "misure": {"num_iterations": 40, "max_dilations": 24, "patience": 5},  # it ends by itself, too
    "misure_paper": {"num_iterations": 40, "max_dilations": 24},
    "misure_paper_volume": {"num_iterations": 12, "max_dilations": 12},
    "integrated_gradients": {"num_nodes": 16},
    "grad_cam": {},
    "confidence": {},
}


def make(name: str, count: int | None = None, every: int = 1) -> Reference:
    """What the peer finds on the inputs of a name, or on the first `count`, of every so many."""
    explainer: Any = EXPLAINERS.get(EXPLAINER_OF.get(name, name))(**SETTINGS[name])
    of_volume = name.endswith("_volume")
    bundle = load_model(VOLUME_MODEL if of_volume else MODEL)
    if of_volume:
        inputs = _cube(bundle)
        inputs = drawn(bundle, inputs, explainer) if explainer.name == "ate" else inputs
    elif explainer.name in ("ate", "ate_gradient"):
        inputs = _inputs(ATE_ITEMS).replace(pool=pool_of_nobody(_patches(explainer.block_size)))
        # The fields' patches are those that the ATE without a screening draws.
        like = Ate(num_screen=0, num_patches=getattr(explainer, "num_fields", 1))
        inputs = drawn(bundle, inputs, explainer if explainer.name == "ate" else like)
    elif name == "components":
        others = [_images(items) for items in COMPONENT_ITEMS.values()]
        inputs = _inputs(COMPONENT_ITEMS).replace(others=np.stack(others))
    else:
        inputs = _inputs(MISURE_ITEMS if name.startswith("misure") else MAP_ITEMS)
    inputs = inputs.some(slice(count)).replace(every=every)
    model = torch_unet(bundle.card.architecture_config(), bundle.variables)
    result = KINDS[explainer.name].module().original(model, inputs, explainer)
    if name.startswith("misure") and count is None:
        result |= misure.rounding(tuned_copy(model), inputs, explainer)
    if name == "components":
        result["first_order"] = components.first_order(model, inputs)
    return Reference(model=bundle.name, explainer=explainer, inputs=inputs, result=result)


def _images(items: Any) -> np.ndarray:
    return np.stack([TriangleDataset("test", SIZE)[item].image for item in items])


def _inputs(items: Any) -> Inputs:
    """All of an image is explained, or for the ATE a box; the reference is the ground truth."""
    labels = np.stack([np.asarray(TriangleDataset("test", SIZE)[i].labels) for i in items])
    region = np.ones(labels.shape, bool)
    if items is ATE_ITEMS:
        region[:] = False
        for one, (y, x) in zip(region, ATE_ITEMS.values(), strict=True):
            one[y : y + REGION_SIDE, x : x + REGION_SIDE] = True
    classes = np.ones(len(labels), np.int32)
    targets = SegmentTarget(class_index=classes, region=region, reference=labels == 1)
    return Inputs(images=_images(items), targets=targets)


def _cube(bundle: Bundle) -> Inputs:
    """A cube of a brain, of which a tissue in a box is explained."""
    sample = BrainVolumeDataset("test")[0]
    region = np.zeros((1, *sample.image[CUBE].shape[:-1]), bool)
    region[0][BOX] = True
    label = bundle.card.class_names.index(TISSUE)
    reference = np.asarray(sample.labels)[CUBE][None] == label
    classes = np.array([label], np.int32)
    targets = SegmentTarget(class_index=classes, region=region, reference=reference)
    return Inputs(images=sample.image[CUBE][None], targets=targets)


def _patches(side: int) -> np.ndarray:
    tiles = _images(POOL_ITEMS).reshape(-1, SIZE // side, side, SIZE // side, side, 3)
    tiles = tiles.swapaxes(2, 3).reshape(-1, side, side, 3)
    return np.random.default_rng(0).permutation(tiles)[:NUM_PATCHES]


def main(names: list[str]) -> None:
    """Write the files of these names, or all."""
    for name in names or SETTINGS:
        save(name, make(name))


if __name__ == "__main__":
    main(sys.argv[1:])
