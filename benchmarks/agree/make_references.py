"""Make the frozen references anew, with the peers that work one image, one block at a time.

    python -m benchmarks.peers.make_references

Everything is fixed, so the same machine and PyTorch write the same files.
"""

import dataclasses

import jax
import numpy as np

from benchmarks.component_reference import ComponentReference, save_components
from benchmarks.peers import attribution, components, confidence
from benchmarks.peers.ate_gradient import ate_gradient
from benchmarks.peers.misure import explain_original, stable_iterations
from benchmarks.peers.pdcr import ate_original
from benchmarks.peers.results import AttributionResult, ComponentResult
from benchmarks.peers.unet import TorchUNet, torch_unet
from benchmarks.reference_file import FOLDER
from benchmarks.references import (
    GRADIENT_FORMS,
    MAP_METHODS,
    MISURE_METHODS,
    AteReference,
    GradientReference,
    MapReference,
    MisureReference,
    save_ate,
    save_gradient,
    save_map,
    save_misure,
)
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.data.sources.triangle import TriangleDataset
from jaxseg_xai.explainers import Ate, AteGradient, Confidence, IntegratedGradients, Misure
from jaxseg_xai.explainers.ate.ate import Draws
from jaxseg_xai.explainers.parts.components import ComponentAte
from jaxseg_xai.models.bundle import load_model
from jaxseg_xai.ops.blocks import tile_patches
from jaxseg_xai.ops.patches import PatchPool, draw_patches

MODEL, SIZE = "triangle", 64
#: Test items, and the corner of the region that is explained: a part of the triangle.
ATE_ITEMS, REGION_SIDE = {0: (38, 12), 10: (8, 40)}, 16
#: Test items that need 7, 3 and 11 dilations; rounding leaves one of them alone to the end.
MISURE_ITEMS, PATIENCE = (0, 1, 11), 5
#: Test items whose Grad-CAM is not 0 everywhere, and nodes of integrated gradients.
GRADIENT_ITEMS, NUM_NODES = (0, 1, 3), 16
#: Of the ATE's gradient.
NUM_FIELDS = 3
#: Test items, and those whose activations are put in.
COMPONENT_ITEMS = {0: (20, 21), 10: (22, 23)}
#: Test items that give patches.
POOL_ITEMS = range(20, 30)


def make_ate(items: dict[int, tuple[int, int]] = ATE_ITEMS) -> AteReference:
    """ATE of test items, given the corners of their regions."""
    return _with_results(_ate_inputs(items))


def make_occlusion(items: dict[int, tuple[int, int]] = ATE_ITEMS) -> AteReference:
    """The same blocks replaced by 0, once each."""
    inputs = _ate_inputs(items)
    draws, zero = inputs.draws, np.zeros((*inputs.draws.full.shape[:2], 1), np.int64)
    draws = Draws(np.zeros_like(draws.patches[:1]), zero[..., :0], zero)
    settings = Ate(perturbation="zero")
    return _with_results(dataclasses.replace(inputs, settings=settings, draws=draws))


def _ate_inputs(items: dict[int, tuple[int, int]]) -> AteReference:
    """All but the results."""
    dataset, settings = TriangleDataset("test", SIZE), Ate(num_patches=10)
    samples = [dataset[item] for item in items]
    region = np.zeros((len(items), SIZE, SIZE), bool)
    for one, (y, x) in zip(region, items.values(), strict=True):
        one[y : y + REGION_SIDE, x : x + REGION_SIDE] = True
    targets = SegmentTarget(
        class_index=np.ones(len(items), np.int32),
        region=region,
        reference=np.stack([sample.labels == 1 for sample in samples]),
    )
    side, rng = settings.block_size, np.random.default_rng(0)
    pool = np.stack([dataset[item].image for item in POOL_ITEMS])
    tiles = pool.reshape(len(pool), SIZE // side, side, SIZE // side, side, 3).swapaxes(2, 3)
    patches = rng.permutation(tiles.reshape(-1, side, side, 3))[:40]
    # Seeded by the item, so that one image's draws do not depend on the others.
    drawn = [
        np.random.default_rng(item).integers(len(patches), size=((SIZE // side) ** 2, 13))
        for item in items
    ]
    draws = Draws(patches, *np.split(np.stack(drawn), [settings.num_screen], axis=-1))
    return AteReference(
        model=MODEL,
        settings=settings,
        images=np.stack([sample.image for sample in samples]),
        targets=targets,
        draws=draws,
        results=(),
    )


def _with_results(reference: AteReference) -> AteReference:
    model, settings = _model(), reference.settings
    results = [
        ate_original(model, *reference.one(i), settings) for i in range(len(reference.images))
    ]
    return dataclasses.replace(reference, results=tuple(results))


def make_misure(method: str, items: tuple[int, ...] = MISURE_ITEMS) -> MisureReference:
    """MiSuRe of test items."""
    dataset = TriangleDataset("test", SIZE)
    settings = MISURE_METHODS[method](num_iterations=40, max_dilations=24)
    if isinstance(settings, Misure):  # it shall end by itself, too
        settings = dataclasses.replace(settings, patience=PATIENCE)
    images = np.stack([dataset[item].image for item in items])
    class_indices = np.ones(len(items), np.int32)
    arguments = (_model(), images, class_indices, settings)
    return MisureReference(
        model=MODEL,
        settings=settings,
        images=images,
        class_indices=class_indices,
        result=explain_original(*arguments),
        stable=stable_iterations(*arguments),
    )


def make_map(method: str, items: tuple[int, ...] = GRADIENT_ITEMS) -> MapReference:
    """A method of `MAP_METHODS` of test items."""
    dataset = TriangleDataset("test", SIZE)
    settings = MAP_METHODS[method]()
    if isinstance(settings, IntegratedGradients):
        settings = dataclasses.replace(settings, num_nodes=NUM_NODES)
    images = np.stack([dataset[item].image for item in items])
    class_indices = np.ones(len(items), np.int32)
    if isinstance(settings, Confidence):
        result = confidence.explain_original(_model(), images, class_indices, settings)
    else:
        result = attribution.explain_original(_model(), images, class_indices, settings)
    return MapReference(
        model=MODEL,
        settings=settings,
        images=images,
        class_indices=class_indices,
        result=result,
    )


def make_gradient(name: str, items: dict[int, tuple[int, int]] = ATE_ITEMS) -> GradientReference:
    """A form of the ATE's gradient, of the images, regions and patches of the ATE."""
    inputs, model = _ate_inputs(items), _model()
    settings = AteGradient(num_fields=NUM_FIELDS, num_nodes=GRADIENT_FORMS[name])
    patches, (height, width) = inputs.draws.patches, inputs.images.shape[1:3]
    # Numbers that no image has: every patch is another image's.
    pool = PatchPool(patches=patches, sources=np.full(len(patches), len(items), np.uint32))
    patch_of, results = [], []
    for i, image in enumerate(inputs.images):
        target = inputs.one(i)[1]
        key = jax.random.fold_in(jax.random.key(0), target.class_index)
        blocks = len(inputs.draws.full[i])
        patch_of.append(np.asarray(draw_patches(key, i, pool, blocks, NUM_FIELDS)))
        fields = [np.asarray(tile_patches(patches[p], height, width)) for p in patch_of[-1].T]
        results.append(ate_gradient(model, image, target, np.stack(fields), settings))
    return GradientReference(
        model=MODEL,
        settings=settings,
        images=inputs.images,
        targets=inputs.targets,
        patches=patches,
        patch_of=np.stack(patch_of),
        result=AttributionResult(
            attribution=np.concatenate([result.attribution for result in results]),
            segment=np.concatenate([result.segment for result in results]),
        ),
    )


def make_components(items: dict[int, tuple[int, ...]] = COMPONENT_ITEMS) -> ComponentReference:
    """Effects of all parts of the network on test items."""
    dataset = TriangleDataset("test", SIZE)
    samples = [dataset[item] for item in items]
    images = np.stack([sample.image for sample in samples])
    others = np.stack([[dataset[item].image for item in others] for others in items.values()])
    targets = SegmentTarget(
        class_index=np.ones(len(items), np.int32),
        region=np.ones(images.shape[:3], bool),
        reference=np.stack([sample.labels == 1 for sample in samples]),
    )
    model = _model()
    return ComponentReference(
        model=MODEL,
        settings=ComponentAte(outcome="soft_dice"),
        images=images,
        targets=targets,
        others=others,
        result=ComponentResult(
            parts=components.part_names(model),
            effects=components.effects_original(model, images, targets, others),
            first_order=components.first_order(model, images, targets, others),
        ),
    )


def _model() -> TorchUNet:
    bundle = load_model(MODEL)
    return torch_unet(bundle.card.architecture_config(), bundle.variables)


def main() -> None:
    """Write all files."""
    save_ate(FOLDER, "ate", make_ate())
    save_ate(FOLDER, "occlusion", make_occlusion())
    for method in MISURE_METHODS:
        save_misure(FOLDER, make_misure(method))
    for method in MAP_METHODS:
        save_map(FOLDER, make_map(method))
    for name in GRADIENT_FORMS:
        save_gradient(FOLDER, name, make_gradient(name))
    save_components(FOLDER, make_components())


if __name__ == "__main__":
    main()
