"""Logits, and our U-Net against PyTorch's frozen ones on eight triangles."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.agree.verdict import Bound, Validation, judge
from jaxseg_xai.core.segmenter import Dtype
from jaxseg_xai.models import load_model

#: The U-Net of width 16, its images, and what PyTorch and the published codes make of them.
REFERENCE = Path(__file__).resolve().parents[2] / "tests" / "reference"
#: Logits, as a share of the largest: float32 rounds at 6e-8 and bfloat16 at 4e-3, through some
#: twenty layers that each add up hundreds of products.
_SHARES = {"float32": 2e-5, "tensorfloat32": 1e-2, "bfloat16": 5e-2}


def compare_logits(found: Any, expected: Any, dtype: Dtype, *, rounded: int = 1) -> Validation:
    """Logits [B, H, W, K] of two implementations; flips are counted pixels, not listed.

    `rounded` says how many of the two were computed in `dtype`, not in float32.
    """
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    share = _SHARES[dtype] * (1 if dtype == "float32" else rounded)
    flipped = np.argmax(found, axis=-1) != np.argmax(expected, axis=-1)
    limit = share * float(np.max(np.abs(expected)))
    return judge(
        Bound("logits", float(np.max(np.abs(found - expected))), limit),
        why=f"rounding of {dtype} through the layers: {share:g} of the largest logit",
        measured={"pixels that change their label": float(flipped.sum())},
    )


def triangles() -> dict[str, np.ndarray]:
    """Images float32 [8, 128, 128, 3], masks bool and logits float32 [8, 128, 128]."""
    with np.load(REFERENCE / "triangle8.npz") as file:
        images = (file["images_u8"] / 255).astype(np.float32)
        return {"images": images, "masks": file["masks"] > 0, "logits": file["logits"]}


def frozen_logits(dtype: Dtype) -> Validation:
    """Our U-Net on eight triangle images against PyTorch's frozen logits."""
    bundle, data = load_model(REFERENCE, dtype=dtype), triangles()
    logits = np.asarray(jax.jit(bundle.segmenter)(bundle.variables, data["images"]))
    expected = np.stack([np.zeros_like(data["logits"]), data["logits"]], axis=-1)
    return compare_logits(logits, expected, dtype)
