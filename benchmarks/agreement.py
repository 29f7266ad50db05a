"""Agreement with reference outputs of independent implementations, and the speed on the way.

    python -m benchmarks.agreement [--real FOLDER] [--blocks N] [--json FILE]

`tests/reference` holds the references that may be shared. `--real` names a folder with the
third-party ones (a public retina U-Net and DRIVE images, not part of the repository); `--blocks`
takes that many evenly spaced blocks of its 1008 instead of all.

Every function returns plain numbers; the tests put bounds on the same functions.
"""

import argparse
import functools
import json
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg_xai.explainers import Ate, Batch, Misure, explain
from jaxseg_xai.explainers.ate import Draws
from jaxseg_xai.metrics.dice import hard_dice
from jaxseg_xai.models.bundle import Bundle, load_model
from jaxseg_xai.parallel.mesh import device_mesh, use_cpu_cores
from jaxseg_xai.types import SegmentTarget

REFERENCE = Path(__file__).resolve().parents[1] / "tests" / "reference"
#: An output pixel whose probability is this close to 0.5 may fall on either side of it: logits of
#: two frameworks differ by up to 2.3e-5, probabilities by a quarter of that.
FLIP_MARGIN = 6e-6
#: Dice points; a block that differs by more must have such a pixel in one of its interventions.
TOLERANCE = 1e-3


def triangles() -> dict[str, np.ndarray]:
    """Images float32 [8, 128, 128, 3], masks bool and logits float32 [8, 128, 128]."""
    with np.load(REFERENCE / "triangle8.npz") as file:
        images = (file["images_u8"] / 255).astype(np.float32)
        return {"images": images, "masks": file["masks"] > 0, "logits": file["logits"]}


def triangle_logits() -> dict[str, float]:
    """Our U-Net with the imported PyTorch weights against PyTorch's logits."""
    bundle, data = load_model(REFERENCE), triangles()
    logits = jax.jit(bundle.predict)(bundle.variables, data["images"])
    return {"max_abs_diff": _max_abs(logits[..., 1] - data["logits"])}


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
        explain, Misure(), bundle.variables, batch, predict=bundle.predict, mesh=device_mesh()
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
        "loss_max_relative_diff": _max_abs(found.traces["loss"] / reference["loss"] - 1),
        "mask_max_diff": _max_abs(mask_diff),
        "mask_share_above_0.01": float((mask_diff > 1e-2).mean()),
        "dice_minimal_max_diff": _max_abs(found.scores["dice_minimal"] - reference["dice_msr"]),
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
    result = _pdcr(bundle, image, truth, reference, num_blocks)
    zero = Ate(perturbation="zero")
    batch = _batch(image, truth, reference["roi"])
    found, _ = _timed(
        explain, zero, bundle.variables, batch, predict=bundle.predict, mesh=device_mesh()
    )
    result["zero_max_diff"] = _max_abs(found.attribution[0] - reference["zero"])
    return result


def retina_bundle(real: Path) -> Bundle:
    """The public retina U-Net (orobix/retina-unet) as a model folder."""
    names = {f"conv{i + 1}": name for i, name in enumerate(_retina_layers())}
    card = {
        "architecture": "unet",
        "config": {
            "in_channels": 1,
            "num_logits": 2,
            "encoder_channels": [32, 64, 128],
            "decoder_channels": [64, 32],
            "norm": "none",
            "upsample": "nearest",
            "skip_first": False,
            "head_relu": True,
        },
        "class_names": ["background", "vessel"],
        "weights": str(real.resolve() / "retina_unet_weights.npz"),
        "name_map": names,
    }
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "model.json").write_text(json.dumps(card))
        return load_model(folder)


def retina_logits(real: Path) -> dict[str, float]:
    """The retina U-Net's logits, and its mean Dice on the ten images."""
    bundle = retina_bundle(real)
    image, _, reference = _retina_crop(real)
    predict = jax.jit(bundle.predict)
    logits = predict(bundle.variables, image[None])[0]
    diff = logits[::4, ::4].transpose(2, 0, 1) - reference["logits_every4"]
    with np.load(real / "retina10.npz") as file:
        images, masks = file["images_u8"], file["masks"] > 0
    dices = []
    for photo, truth in zip(images, masks, strict=True):
        scaled = (photo / 255).astype(np.float32)[None, ..., None]
        segment = jnp.argmax(predict(bundle.variables, scaled)[0], axis=-1) == 1
        dices.append(float(hard_dice(segment, jnp.asarray(truth))))
    return {"max_abs_diff": _max_abs(diff), "mean_dice": float(np.mean(dices))}


def pdcr_retina(real: Path, num_blocks: int | None = None) -> dict[str, Any]:
    """ATE on the real retina image with the draws of the published function."""
    image, truth, reference = _retina_crop(real)
    return _pdcr(retina_bundle(real), image, truth, reference, num_blocks)


def _pdcr(
    bundle: Bundle,
    image: np.ndarray,
    truth: np.ndarray,
    reference: dict[str, np.ndarray],
    num_blocks: int | None,
) -> dict[str, Any]:
    ate = Ate()
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

    batch = _batch(image, truth, reference["roi"])
    run = jax.jit(functools.partial(ate.explain, bundle.predict, mesh=device_mesh()))
    found, seconds = _timed(
        run, bundle.variables, batch.images, batch.targets, draws, blocks=blocks
    )
    diff = np.abs(found.attribution[0] - reference["heat"])[:: ate.block_size, :: ate.block_size]
    differing = np.argwhere((diff > TOLERANCE) & blocks[0])
    margins = [
        _flip_margin(bundle, batch, patches[full[0, y, x]], y * ate.block_size, x * ate.block_size)
        for y, x in differing
    ]
    visited = diff[blocks[0]]
    return {
        "blocks": int(blocks.sum()),
        "base_diff": abs(float(found.scores["base_dice"][0]) - float(reference["base"])),
        "max_abs_diff": _max_abs(visited),
        "max_abs_diff_without_flips": _max_abs(visited[visited <= TOLERANCE]),
        "blocks_with_flips": [
            {"block": [int(y), int(x)], "diff": float(diff[y, x]), "nearest_to_half": margin}
            for (y, x), margin in zip(differing, margins, strict=True)
        ],
        "interventions": int(found.scores["num_interventions"][0]),
        "interventions_per_second": float(found.scores["num_interventions"][0]) / seconds,
        "seconds": seconds,
        "published_code_seconds": float(reference["seconds"]),
    }


def _flip_margin(bundle: Bundle, batch: Batch, patches: np.ndarray, y: int, x: int) -> float:
    """How close to 0.5 a probability in the region comes in any intervention on one block."""
    side = patches.shape[1]
    inputs = np.repeat(np.asarray(batch.images), len(patches), axis=0)
    inputs[:, y : y + side, x : x + side] = patches
    probability = jax.nn.softmax(bundle.predict(bundle.variables, jnp.asarray(inputs)))[..., 1]
    return float(np.abs(np.asarray(probability)[:, batch.targets.region[0]] - 0.5).min())


def _batch(image: np.ndarray, truth: np.ndarray, corner: np.ndarray, side: int = 32) -> Batch:
    region = np.zeros((1, *truth.shape), bool)
    region[:, corner[0] : corner[0] + side, corner[1] : corner[1] + side] = True
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


def _retina_crop(real: Path) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    with np.load(real / "pdcr_retina.npz") as file:
        reference = dict(file)
    y, x = reference["offset"]
    index = int(reference["image_index"])
    with np.load(real / "retina10.npz") as file:
        image = (file["images_u8"][index, y : y + 256, x : x + 256] / 255).astype(np.float32)
        truth = file["masks"][index, y : y + 256, x : x + 256] > 0
    return image[..., None], truth, reference


def _retina_layers() -> list[str]:
    blocks = ["encoder/0", "encoder/1", "encoder/2", "decoder/0", "decoder/1"]
    return [f"{block}/conv{k}" for block in blocks for k in (1, 2)] + ["head"]


def _timed(function: Any, *args: Any, **kwargs: Any) -> tuple[Any, float]:
    """Result on the host, and the seconds it took once compiled."""
    compiled = function.lower(*args, **kwargs).compile()
    kwargs = {name: value for name, value in kwargs.items() if name not in ("predict", "mesh")}
    start = time.perf_counter()
    result = jax.device_get(compiled(*args, **kwargs))
    return result, time.perf_counter() - start


def _max_abs(values: Any) -> float:
    return float(np.max(np.abs(np.asarray(values))))


def main() -> None:
    """Print all agreement figures as JSON."""
    parser = argparse.ArgumentParser(description="agreement with reference outputs")
    parser.add_argument("--real", type=Path, help="folder with the retina references")
    parser.add_argument("--blocks", type=int, help="evenly spaced blocks instead of all")
    parser.add_argument("--json", type=Path, help="file to write as well")
    options = parser.parse_args()
    use_cpu_cores()
    record: dict[str, Any] = {
        "machine": f"{platform.machine()}, {jax.device_count()} x {jax.devices()[0].device_kind}",
        "jax": jax.__version__,
        "unet triangle": triangle_logits(),
        "misure triangle": misure_triangle(),
        "pdcr triangle 0": pdcr_triangle(0, options.blocks),
        "pdcr triangle 3": pdcr_triangle(3, options.blocks),
    }
    if options.real is not None:
        record["unet retina"] = retina_logits(options.real)
        record["pdcr retina"] = pdcr_retina(options.real, options.blocks)
    text = json.dumps(record, indent=2)
    print(text)
    if options.json is not None:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
