"""RISE and KernelSHAP: hundreds of masks of an image, of which the outcome in a region counts."""

import dataclasses
from typing import Any

import jax
import numpy as np

from benchmarks.agree.kind import Kind, Ours
from benchmarks.arrays import Inputs
from benchmarks.harness.machine import flops_of
from benchmarks.harness.settings import Settings
from benchmarks.methods.ate import plan_of
from benchmarks.methods.base import MethodCase, Prepared
from benchmarks.methods.inputs import BOX_SIDE, choose_images, inputs_of
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers.perturbation.base import Perturbation
from jaxseg_xai.explainers.perturbation.kernel_shap import KernelShap
from jaxseg_xai.explainers.perturbation.rise import Rise
from jaxseg_xai.explainers.runner import example_of
from jaxseg_xai.models import Bundle
from jaxseg_xai.ops.random import one_stream
from jaxseg_xai.sweeps.regions import Region, find_region


def drawn(bundle: Bundle, inputs: Inputs, explainer: Any) -> Inputs:
    """With the masks that the method draws: see `benchmarks.arrays.Inputs`."""
    mesh = device_mesh(jax.devices()[:1])
    _, problem, batch = Kind().arguments(explainer, bundle, inputs, mesh)

    @jax.jit
    def draw(image: Any, target: Any, image_id: Any) -> Any:
        example = example_of(problem, image, target, image_id)
        with one_stream():
            if isinstance(explainer, KernelShap):
                game = explainer.game(mesh, problem, example)
                return explainer.draw(game.matters, example.key), game.matters, game.players
            keys = jax.vmap(jax.random.fold_in, (None, 0))(
                example.key, np.arange(explainer.num_masks)
            )
            return jax.vmap(lambda key: explainer.draw(image.shape[:-1], key))(keys)

    found = []
    for i in range(len(inputs.images)):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], (batch.images, batch.targets))
        found.append(jax.device_get(draw(*one, batch.image_ids[i])))
    return inputs.replace(masks=tuple(np.stack(part) for part in zip(*found, strict=True)))


def _flops(ours: Ours) -> float | None:
    explainer, problem, batch = ours.arguments
    each = explainer.num_passes(batch.images.shape[1:])
    if explainer.region_side is not None:
        size = batch.images.shape[1]
        plan = plan_of(ours.bundle, size, size, explainer.region_side)
        return float(len(batch.images) * (each * plan.flops + plan.dense_flops))
    forward = flops_of(problem.segmenter, problem.variables, batch.images[:1])
    return None if forward is None else len(batch.images) * (each + 1) * forward


@dataclasses.dataclass(frozen=True, kw_only=True)
class MasksCase(MethodCase):
    """Masks of `lanes` images; the peers are given ours, and the published way does one image."""

    explainer: Perturbation
    split_lanes: bool = False  # it is the masks that are dealt out
    peer_images: int | None = 1

    def prepare(self, settings: Settings, bundle: Bundle, explainer: Any) -> Prepared:
        images, classes = choose_images(bundle, settings, settings.lanes)
        inputs = inputs_of(bundle, images, classes, explainer)
        if side := explainer.region_side:
            planes, box = inputs.targets.reference, Region(kind="box", side=side)
            regions = np.stack([find_region(plane, box) for plane in planes])
            inputs = inputs.replace(targets=dataclasses.replace(inputs.targets, region=regions))
        return {"ours": (explainer, drawn(bundle, inputs, explainer))}


RISE = MasksCase(
    name="rise",
    about="RISE of a segment: 256 masks of the whole image",
    defaults=Settings(model="reference", size=256, lanes=2),
    quick=Settings(model="reference", size=128, lanes=2),
    explainer=Rise(num_masks=256),
    shorter={"num_masks": 24},
    per_image=lambda explainer: {"masks": explainer.num_passes((1, 1, 1))},
    flops=_flops,
    flops_of="forward passes, or what of them the region sees, of every mask and the image",
)
RISE_REGION = dataclasses.replace(
    RISE,
    name="rise-region",
    about="the same on a region of side 32",
    explainer=dataclasses.replace(RISE.explainer, region_side=BOX_SIDE),
)
KERNEL_SHAP = dataclasses.replace(
    RISE,
    name="kernel-shap",
    about="KernelSHAP of a segment: 256 coalitions of blocks of side 32",
    explainer=KernelShap(num_samples=256),
    shorter={"block_size": 16},
    per_image=lambda explainer: {"masks": explainer.num_samples + 1},
)
KERNEL_SHAP_REGION = dataclasses.replace(
    KERNEL_SHAP,
    name="kernel-shap-region",
    about="the same on a region of side 32",
    explainer=dataclasses.replace(KERNEL_SHAP.explainer, region_side=BOX_SIDE),
)
