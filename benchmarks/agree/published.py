"""Agreement with reference outputs of independent implementations, and the speed on the way.

    python -m benchmarks.agreement [--real FOLDER] [--blocks N] [--peer-blocks N] [--json FILE]

`tests/reference` holds the references that may be shared. `--real` names a folder with the
third-party ones (a public retina U-Net and DRIVE images, not part of the repository); `--blocks`
takes that many evenly spaced blocks of its 1008 instead of all; `--peer-blocks` also times the
PyTorch peers on that many of them, in turns with ours.

Every function returns plain numbers; the tests put bounds on the same functions.
"""

import argparse
import functools
import json
import platform
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.flips import bundle_logits, distance_to_half
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.devices.mesh import device_mesh, use_cpu_cores
from jaxseg_xai.explainers import Ate, Batch, MisurePaper, explain
from jaxseg_xai.explainers.ate.ate import Draws
from jaxseg_xai.models.bundle import Bundle, load_model

REFERENCE = Path(__file__).resolve().parents[1] / "tests" / "reference"
#: Dice points; a block that differs by more must have such a pixel in one of its interventions.
TOLERANCE = 1e-3
#: Side of the region of interest in the references, in pixels.
SIDE = 32


def triangles() -> dict[str, np.ndarray]:
    """Images float32 [8, 128, 128, 3], masks bool and logits float32 [8, 128, 128]."""
    with np.load(REFERENCE / "triangle8.npz") as file:
        images = (file["images_u8"] / 255).astype(np.float32)
        return {"images": images, "masks": file["masks"] > 0, "logits": file["logits"]}


def triangle_logits() -> dict[str, float]:
    """Our U-Net with the imported PyTorch weights against PyTorch's logits."""
    bundle, data = load_model(REFERENCE), triangles()
    logits = jax.jit(bundle.predict)(bundle.variables, data["images"])
    return {"max_abs_diff": max_abs(logits[..., 1] - data["logits"])}


def misure_triangle() -> dict[str, Any]:
    """Both stages of MiSuRe on the eight triangles against PyTorch, one image at a time."""
    bundle, data = load_model(REFERENCE), triangles()
    with np.load(REFERENCE / "misure_triangle8.npz") as file:
        reference = dict(file)
    everywhere = np.ones(data["masks"].shape, bool)
    batch = Batch(
        images=data["images"],
        targets=SegmentTarget(
            class_index=np.ones(8, np.int32), region=everywhere, reference=data["masks"]
        ),
        valid=np.ones(8, bool),
        image_ids=np.arange(8, dtype=np.uint32),
        pool=None,
        key=jax.random.key(0),
    )
    found, seconds = _timed(
        explain, MisurePaper(), bundle.variables, batch, predict=bundle.predict, mesh=device_mesh()
    )
    mask_diff = np.abs(found.attribution - reference["m_msr"])
    return {
        "dilations_equal": bool((found.scores["num_dilations"] == reference["dilations"]).all()),
        "region_pixels_differing": int(
            (found.maps["sufficient_region"] != reference["m_sr"].astype(bool)).sum()
        ),
        "dice_trace_max_diff": float(
            np.nanmax(np.abs(found.traces["dice"] - reference["dice_trace"]))
        ),
        "loss_max_relative_diff": max_abs(found.traces["loss"] / reference["loss"] - 1),
        "mask_max_diff": max_abs(mask_diff),
        "mask_share_above_0.01": float((mask_diff > 1e-2).mean()),
        "dice_minimal_max_diff": max_abs(found.scores["dice_minimal"] - reference["dice_msr"]),
        "explanations_per_second": 8 / seconds,
    }


def pdcr_triangle(index: int, num_blocks: int | None = None) -> dict[str, Any]:
    """ATE of triangle `index` (0 or 3) with the draws of the published function."""
    bundle, data = load_model(REFERENCE), triangles()
    with np.load(REFERENCE / "pdcr_triangle.npz") as file:
        reference = {
            name.removesuffix(f"_{index}"): file[name]
            for name in file.files
            if name == "patches_u8" or name.endswith(f"_{index}")
        }
    image, truth = data["images"][index], data["masks"][index]
    result = compare_pdcr(bundle, image, truth, reference, num_blocks)
    zero = Ate(perturbation="zero", region_side=SIDE)
    batch = batch_of(image, truth, reference["roi"])
    found, _ = _timed(
        explain, zero, bundle.variables, batch, predict=bundle.predict, mesh=device_mesh()
    )
    result["zero_max_diff"] = max_abs(found.attribution[0] - reference["zero"])
    return result


def compare_pdcr(
    bundle: Bundle,
    image: np.ndarray,
    truth: np.ndarray,
    reference: dict[str, np.ndarray],
    num_blocks: int | None,
) -> dict[str, Any]:
    """Our ATE with the draws of the published function, against its map."""
    ate = Ate(region_side=SIDE)
    draws, blocks = reference_draws(ate, image, truth, reference, num_blocks)
    batch = batch_of(image, truth, reference["roi"])
    run = jax.jit(functools.partial(ate.explain, bundle.predict, mesh=device_mesh()))
    found, seconds = _timed(
        run, bundle.variables, batch.images, batch.targets, draws, blocks=blocks
    )
    diff = np.abs(found.attribution[0] - reference["heat"])[:: ate.block_size, :: ate.block_size]
    differing = np.argwhere((diff > TOLERANCE) & blocks[0])
    margins = [
        _flip_margin(
            bundle,
            batch,
            draws.patches[draws.full[0, y * blocks.shape[2] + x]],
            y * ate.block_size,
            x * ate.block_size,
        )
        for y, x in differing
    ]
    visited = diff[blocks[0]]
    return {
        "blocks": int(blocks.sum()),
        "base_diff": abs(float(found.scores["base_dice"][0]) - float(reference["base"])),
        "max_abs_diff": max_abs(visited),
        "max_abs_diff_without_flips": max_abs(visited[visited <= TOLERANCE]),
        "blocks_with_flips": [
            {"block": [int(y), int(x)], "diff": float(diff[y, x]), "nearest_to_half": margin}
            for (y, x), margin in zip(differing, margins, strict=True)
        ],
        "interventions": int(found.scores["num_interventions"][0]),
        "interventions_per_second": float(found.scores["num_interventions"][0]) / seconds,
        "seconds": seconds,
        "published_code_seconds": float(reference["seconds"]),
    }


def reference_draws(
    ate: Ate,
    image: np.ndarray,
    truth: np.ndarray,
    reference: dict[str, np.ndarray],
    num_blocks: int | None,
) -> tuple[Draws, np.ndarray]:
    """What the published function drew, and evenly spaced ones of its blocks [1, rows, columns]."""
    rows, columns = ate.grid(*truth.shape)
    places = tuple(reference["blocks"].T // ate.block_size)
    screen = np.zeros((1, rows, columns, ate.num_screen), np.int32)
    full = np.zeros((1, rows, columns, ate.num_patches), np.int32)
    screen[0][places] = reference["screen"]
    full[0][places] = np.maximum(reference["draws"], 0)
    patches = (
        (reference["patches_u8"] / 255)
        .astype(np.float32)
        .reshape(-1, ate.block_size, ate.block_size, image.shape[-1])
    )
    draws = Draws(patches, screen.reshape(1, -1, 3), full.reshape(1, -1, 50))
    blocks = np.zeros((1, rows, columns), bool)
    step = len(reference["blocks"]) / (num_blocks or len(reference["blocks"]))
    chosen = np.arange(0, len(reference["blocks"]), step).astype(int)
    blocks[0][tuple(place[chosen] for place in places)] = True

    return draws, blocks


def _flip_margin(bundle: Bundle, batch: Batch, patches: np.ndarray, y: int, x: int) -> float:
    """How close to 0.5 a probability in the region comes in any intervention on one block."""
    side = patches.shape[1]
    inputs = np.repeat(np.asarray(batch.images), len(patches), axis=0)
    inputs[:, y : y + side, x : x + side] = patches
    logits = bundle_logits(bundle)(inputs)
    return float(distance_to_half(logits, 1)[:, batch.targets.region[0]].min())


def batch_of(image: np.ndarray, truth: np.ndarray, corner: np.ndarray) -> Batch:
    """One image [H, W, C] with a region of side `SIDE` at a corner (top, left)."""
    region = np.zeros((1, *truth.shape), bool)
    region[:, corner[0] : corner[0] + SIDE, corner[1] : corner[1] + SIDE] = True
    return Batch(
        images=image[None],
        targets=SegmentTarget(
            class_index=np.ones(1, np.int32), region=region, reference=truth[None]
        ),
        valid=np.ones(1, bool),
        image_ids=np.zeros(1, np.uint32),
        pool=None,
        key=jax.random.key(0),
    )


def _timed(function: Any, *args: Any, **kwargs: Any) -> tuple[Any, float]:
    """Result on the host, and the seconds it took once compiled."""
    compiled = function.lower(*args, **kwargs).compile()
    kwargs = {name: value for name, value in kwargs.items() if name not in ("predict", "mesh")}
    start = time.perf_counter()
    result = jax.device_get(compiled(*args, **kwargs))
    return result, time.perf_counter() - start


def max_abs(values: Any) -> float:
    """The largest absolute value."""
    return float(np.max(np.abs(np.asarray(values))))


def main() -> None:
    """Print all agreement figures as JSON."""
    parser = argparse.ArgumentParser(description="agreement with reference outputs")
    parser.add_argument("--real", type=Path, help="folder with the retina references")
    parser.add_argument("--blocks", type=int, help="evenly spaced blocks instead of all")
    parser.add_argument("--peer-blocks", type=int, help="time the PyTorch peers on so many, too")
    parser.add_argument("--json", type=Path, help="file to write as well")
    options = parser.parse_args()
    use_cpu_cores()
    from benchmarks import retina  # which takes from this module

    record: dict[str, Any] = {
        "machine": f"{platform.machine()}, {jax.device_count()} x {jax.devices()[0].device_kind}",
        "jax": jax.__version__,
        "unet triangle": triangle_logits(),
        "misure triangle": misure_triangle(),
        "pdcr triangle 0": pdcr_triangle(0, options.blocks),
        "pdcr triangle 3": pdcr_triangle(3, options.blocks),
    }
    if options.real is not None:
        record["unet retina"] = retina.logits(options.real)
        record["pdcr retina"] = retina.pdcr(options.real, options.blocks)
        if options.peer_blocks is not None:
            record["pdcr retina peers"] = retina.peers(options.real, options.peer_blocks)
    text = json.dumps(record, indent=2)
    print(text)
    if options.json is not None:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
