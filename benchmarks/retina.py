"""The public retina U-Net on real images: agreement with the published function, and its speed.

The weights and images are third-party and not part of the repository; `python -m
benchmarks.agreement --real FOLDER` runs this.
"""

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.agreement import SIDE, batch_of, compare_pdcr, max_abs, reference_draws
from benchmarks.cases.base import peer_model
from benchmarks.timing import Pace, interleave
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers import Ate
from jaxseg_xai.models.bundle import Bundle, load_model
from jaxseg_xai.ops.dice import hard_dice


def load_bundle(real: Path) -> Bundle:
    """The public retina U-Net (orobix/retina-unet) as a model folder."""
    names = {f"conv{i + 1}": name for i, name in enumerate(_layers())}
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


def logits(real: Path) -> dict[str, float]:
    """The retina U-Net's logits, and its mean Dice on the ten images."""
    bundle = load_bundle(real)
    image, _, reference = _crop(real)
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
    return {"max_abs_diff": max_abs(diff), "mean_dice": float(np.mean(dices))}


def pdcr(real: Path, num_blocks: int | None = None) -> dict[str, Any]:
    """ATE on the real retina image with the draws of the published function."""
    image, truth, reference = _crop(real)
    return compare_pdcr(load_bundle(real), image, truth, reference, num_blocks)


def peers(real: Path, num_blocks: int) -> dict[str, Any]:
    """PyTorch's seconds on some blocks of the retina image against ours on all, in turns.

    The peers' time is scaled by the forward passes that the published function made in all.
    """
    from benchmarks.peers import pdcr as algorithm  # PyTorch only where it was asked for

    image, truth, reference = _crop(real)
    bundle, ate = load_bundle(real), Ate(region_side=SIDE)
    draws, everywhere = reference_draws(ate, image, truth, reference, None)
    _, blocks = reference_draws(ate, image, truth, reference, num_blocks)
    batch = batch_of(image, truth, reference["roi"])
    target = jax.tree.map(lambda leaf: np.asarray(leaf[0]), batch.targets)
    model = peer_model(bundle)
    run = jax.jit(functools.partial(ate.explain, bundle.predict, mesh=device_mesh()))
    work = (model, image, target, draws, ate, blocks[0])
    timings, results = interleave(
        {
            "ours": lambda: run(
                bundle.variables, batch.images, batch.targets, draws, blocks=everywhere
            ),
            "original": lambda: algorithm.ate_original(*work),
            "tuned": lambda: algorithm.ate_tuned(*work),
        },
        Pace(repetitions=5, slow_seconds=180),
    )
    ours = np.asarray(results["ours"].attribution)[0, :: ate.block_size, :: ate.block_size]
    survivors = int((reference["draws"][:, 0] >= 0).sum())
    passes = ate.num_screen * len(reference["blocks"]) + ate.num_patches * survivors
    scaled = {
        name: timings[name].median * passes / results[name].num_interventions
        for name in ("original", "tuned")
    }
    return {
        "peer_blocks": int(blocks.sum()),
        "forward_passes_in_all": passes,
        "seconds": {name: timing.median for name, timing in timings.items()},
        "ratios": {name: seconds / timings["ours"].median for name, seconds in scaled.items()},
        "max_abs_diff": max_abs((ours - results["original"].ate)[blocks[0]]),
    }


def _crop(real: Path) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    with np.load(real / "pdcr_retina.npz") as file:
        reference = dict(file)
    y, x = reference["offset"]
    index = int(reference["image_index"])
    with np.load(real / "retina10.npz") as file:
        image = (file["images_u8"][index, y : y + 256, x : x + 256] / 255).astype(np.float32)
        truth = file["masks"][index, y : y + 256, x : x + 256] > 0
    return image[..., None], truth, reference


def _layers() -> list[str]:
    blocks = ["encoder/0", "encoder/1", "encoder/2", "decoder/0", "decoder/1"]
    return [f"{block}/conv{k}" for block in blocks for k in (1, 2)] + ["head"]
