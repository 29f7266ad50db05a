"""Agreement with outputs of published code: `python -m benchmarks agree`.

`tests/reference` holds those that may be shared; `--real` names a folder with third-party ones: a
public retina U-Net (orobix/retina-unet) and DRIVE images, not part of the repository.
"""

import dataclasses
import platform
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.agree.frozen import (
    REFERENCE,
    Reference,
    compare_logits,
    frozen_logits,
    ours_of,
    triangles,
)
from benchmarks.agree.kind import check, logits_of
from benchmarks.agree.verdict import all_of
from benchmarks.arrays import Inputs, even
from benchmarks.harness.timing import timed
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers.ate.ate import Ate
from jaxseg_xai.explainers.misure.paper import MisurePaper
from jaxseg_xai.models import Bundle, load_model
from jaxseg_xai.models.bundle import ModelCard, bundle_of
from jaxseg_xai.models.weights import build_with_weights, read_weights
from jaxseg_xai.ops.dice import hard_dice
from jaxseg_xai.ops.replacements import Draws

#: Side of the region of interest in the references, in pixels.
SIDE = 32
#: Array of the file -> of the result.
_MISURE = {"y": "segment", "m_sr": "sufficient", "m_msr": "mask", "loss": "trace"}
_MISURE |= {"dice_msr": "dice_minimal", "dilations": "dilations", "dice_trace": "dice_trace"}


def agreement(real: Path | None = None, blocks: int | None = None) -> dict[str, Any]:
    """All verdicts, of the retina where its folder is given; `blocks` limits those of the ATE."""
    bundle = load_model(REFERENCE)
    found: dict[str, Any] = {
        "machine": f"{platform.machine()}, {jax.device_count()} x {jax.devices()[0].device_kind}",
        "jax": jax.__version__,
        "unet triangle": dataclasses.asdict(frozen_logits("float32")),
        "misure triangle": compare(misure_triangle(), bundle),
        "occlusion triangle 0": compare(pdcr_triangle(0, "zero"), bundle),
        "pdcr triangle 0": compare(pdcr_triangle(0), bundle, blocks),
        "pdcr triangle 3": compare(pdcr_triangle(3), bundle, blocks),
    }
    if real is not None:
        found["unet retina"] = retina_logits(real)
        found["pdcr retina"] = compare(pdcr_retina(real), load_retina(real), blocks)
    return found


def compare(reference: Reference, bundle: Bundle, num_blocks: int | None = None) -> dict[str, Any]:
    """The verdict on ours as a dict, and its seconds beside those of the published code."""
    expected, inputs = dict(reference.result), reference.inputs
    published = expected.pop("seconds", np.full(1, np.nan))
    if inputs.blocks is not None:
        inputs = inputs.replace(blocks=even(inputs.blocks, num_blocks or inputs.blocks.size))
        expected["ate"] = np.where(inputs.blocks, expected["ate"], 0)
    ours = ours_of(dataclasses.replace(reference, inputs=inputs), bundle, device_mesh())
    found, seconds = timed(ours)
    subject = ours.subject(bundle, "float32")
    verdict = all_of(check(ours, jax.device_get(found), {"published": expected}, subject))
    times = {"seconds": seconds, "published_code_seconds": float(published[0])}
    return dataclasses.asdict(verdict) | times


def misure_triangle() -> Reference:
    """Both stages of MiSuRe on the eight triangles, by PyTorch, one image at a time."""
    whole = np.ones((8, 128, 128), bool)
    targets = SegmentTarget(class_index=np.ones(8, np.int32), region=whole, reference=whole)
    with np.load(REFERENCE / "misure_triangle8.npz") as file:
        result = {name: file[key] for key, name in _MISURE.items()}
    result |= {name: result[name] > 0 for name in ("segment", "sufficient")}
    inputs = Inputs(images=triangles()["images"], targets=targets)
    return Reference(model="", explainer=MisurePaper(), inputs=inputs, result=result)


def pdcr_triangle(index: int, perturbation: Any = "patches") -> Reference:
    """ATE of triangle `index` (0 or 3) with the draws of the published function."""
    data = triangles()
    with np.load(REFERENCE / "pdcr_triangle.npz") as file:
        found = {name.removesuffix(f"_{index}"): file[name] for name in file.files}
    return _pdcr(data["images"][index], data["masks"][index], found, perturbation)


def pdcr_retina(real: Path) -> Reference:
    """The same of a part of a retina image."""
    with np.load(real / "pdcr_retina.npz") as file:
        found = dict(file)
    y, x = found["offset"]
    part = (int(found["image_index"]), slice(y, y + 256), slice(x, x + 256))
    with np.load(real / "retina10.npz") as file:
        image, truth = (file["images_u8"][part] / 255).astype(np.float32), file["masks"][part] > 0
    return _pdcr(image[..., None], truth, found, "patches")


def _pdcr(image: np.ndarray, truth: np.ndarray, found: Any, perturbation: Any) -> Reference:
    side, (top, left) = Ate.block_size, found["roi"]
    region = np.zeros((1, *truth.shape), bool)
    region[:, top : top + SIDE, left : left + SIDE] = True
    rows, columns = (size // side for size in truth.shape)
    y, x = found["blocks"].T // side
    screen, full = (np.zeros((1, rows * columns, k), np.int32) for k in (3, 50))
    screen[0, y * columns + x] = found["screen"]
    full[0, y * columns + x] = np.maximum(found["draws"], 0)
    patches = (found["patches_u8"] / 255).astype(np.float32)
    draws = Draws(patches.reshape(-1, side, side, image.shape[-1]), screen, full)
    if perturbation == "zero":  # one black patch, put into every block once
        draws = Draws(
            np.zeros_like(draws.patches[:1]), screen[..., :0], np.zeros_like(full[..., :1])
        )
    visited = np.zeros((1, rows, columns), bool)
    visited[0, y, x] = True
    passes = 3 * len(y) + 50 * int((found["draws"][:, 0] >= 0).sum())
    result = {
        "ate": found["heat" if perturbation == "patches" else "zero"][None, ::side, ::side],
        "base_dice": np.array([float(found["base"])]),
        "num_interventions": np.array([passes]),
        "seconds": np.array([float(found["seconds"])]),
    }
    targets = SegmentTarget(class_index=np.ones(1, np.int32), region=region, reference=truth[None])
    inputs = Inputs(images=image[None], targets=targets, draws=draws, blocks=visited)
    explainer = Ate(perturbation=perturbation)
    return Reference(model="", explainer=explainer, inputs=inputs, result=result)


def load_retina(real: Path) -> Bundle:
    """The public retina U-Net."""
    blocks = ["encoder/0", "encoder/1", "encoder/2", "decoder/0", "decoder/1"]
    layers = [f"{block}/conv{k}" for block in blocks for k in (1, 2)] + ["head"]
    card = ModelCard(
        architecture="unet",
        config={
            "in_channels": 1,
            "num_logits": 2,
            "encoder_channels": [32, 64, 128],
            "decoder_channels": [64, 32],
            "norm": "none",
            "upsample": "nearest",
            "skip_first": False,
            "head_relu": True,
        },
        class_names=("background", "vessel"),
    )
    arrays = read_weights(real / "retina_unet_weights.npz")
    names = {f"conv{i + 1}": name for i, name in enumerate(layers)}
    build = card.architecture_config().build
    return bundle_of(card, build_with_weights(build, arrays, names), "retina")


def retina_logits(real: Path) -> dict[str, Any]:
    """The verdict on the retina U-Net's logits, and its mean Dice on the ten images."""
    bundle, images = load_retina(real), pdcr_retina(real).inputs.images
    logits, segment_of = logits_of(bundle), bundle.segmenter.output.segment_of
    with np.load(real / "pdcr_retina.npz") as file:
        expected = file["logits_every4"].transpose(1, 2, 0)
    verdict = compare_logits(logits(images)[0, ::4, ::4], expected, "float32")
    with np.load(real / "retina10.npz") as file:
        photos, masks = (file["images_u8"] / 255).astype(np.float32), file["masks"] > 0
    dices = [
        float(hard_dice(segment_of(logits(photo[None, ..., None])[0], 1), jax.numpy.asarray(mask)))
        for photo, mask in zip(photos, masks, strict=True)
    ]
    return dataclasses.asdict(verdict) | {"mean_dice": float(np.mean(dices))}
