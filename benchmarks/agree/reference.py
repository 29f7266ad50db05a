"""The .npz files of `benchmarks/reference`: what all of them hold."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg_xai.core.types import SegmentTarget

FOLDER = Path(__file__).resolve().parent / "reference"


def path_of(folder: Path, name: str) -> Path:
    """The file of a name."""
    return folder / f"{name}_triangle.npz"


def save(path: Path, reference: Any, settings: Sequence[str], /, **arrays: Any) -> None:
    """Write a reference's model, images and the named settings, and further arrays."""
    np.savez_compressed(
        path,
        model=reference.model,
        settings=json.dumps({name: getattr(reference.settings, name) for name in settings}),
        images_u8=to_u8(reference.images),
        **arrays,
    )


def load(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a file."""
    with np.load(path) as file:
        return dict(file)


def settings_of(file: dict[str, np.ndarray]) -> dict[str, Any]:
    """Field of the explainer -> value."""
    return json.loads(str(file["settings"]))


def targets_of(file: dict[str, np.ndarray]) -> SegmentTarget:
    """[N, ...]."""
    return SegmentTarget(
        class_index=file["class_index"], region=file["region"], reference=file["reference"]
    )


def arrays_of(targets: SegmentTarget) -> dict[str, np.ndarray]:
    """What `targets_of` reads."""
    return {
        "class_index": np.asarray(targets.class_index),
        "region": np.asarray(targets.region),
        "reference": np.asarray(targets.reference),
    }


def to_u8(values: np.ndarray) -> np.ndarray:
    """Multiples of 1/255 in [0, 1] as integers."""
    return np.rint(values * 255).astype(np.uint8)


def from_u8(values: np.ndarray) -> np.ndarray:
    """And back, float32."""
    return values.astype(np.float32) / np.float32(255)
