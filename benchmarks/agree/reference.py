"""The frozen references in `benchmarks/reference`: inputs, settings and what the peers found.

All are .npz files of one form, see `benchmarks/reference/README.md`.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arrays import Arrays, Inputs, pool_of_nobody
from jaxseg_xai.core.fields import idle_fields
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.explainers import EXPLAINERS, Explainer
from jaxseg_xai.ops.replacements import Draws

FOLDER = Path(__file__).resolve().parents[1] / "reference"
#: The U-Net of width 16, its images, and what PyTorch and the published codes make of them.
REFERENCE = FOLDER.parents[1] / "tests" / "reference"
_TARGETS = ("class_index", "region", "reference")
_RESULT = "result/"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reference:
    """What a peer found.

    Attributes:
      model: name of the bundled model.
      explainer: the method and its settings.
      inputs: images and patches are multiples of 1/255.
      result: of all images; for MiSuRe also `stable` and `moved`, what rounding does.
    """

    model: str
    explainer: Explainer
    inputs: Inputs
    result: Arrays


def path_of(name: str, folder: Path = FOLDER) -> Path:
    """The file of a name."""
    return folder / f"{name}_triangle.npz"


def save(name: str, reference: Reference, folder: Path = FOLDER) -> None:
    """Write a reference to its file."""
    inputs, explainer = reference.inputs, reference.explainer
    idle = idle_fields(explainer)
    settings = {
        field.name: getattr(explainer, field.name)
        for field in dataclasses.fields(explainer)  # pyright: ignore[reportArgumentType]
        if field.name not in idle
    }
    arrays: dict[str, Any] = {name: getattr(inputs.targets, name) for name in _TARGETS}
    if inputs.others is not None:
        arrays["others_u8"] = _to_u8(inputs.others)
    if inputs.draws is not None:
        arrays["patches_u8"] = _to_u8(inputs.draws.patches)
        arrays["screen"] = inputs.draws.screen.astype(np.int16)
        arrays["full"] = inputs.draws.full.astype(np.int16)
    arrays |= {_RESULT + key: value for key, value in reference.result.items()}
    named = {"model": reference.model, "explainer": explainer.name}
    arrays |= named | {"settings": json.dumps(settings)}
    np.savez_compressed(path_of(name, folder), **arrays, images_u8=_to_u8(inputs.images))


def load(name: str, folder: Path = FOLDER) -> Reference:
    """Read what `save` wrote under a name."""
    with np.load(path_of(name, folder)) as file:
        found = dict(file)
    settings = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in json.loads(str(found["settings"])).items()
    }
    draws = None
    if "full" in found:
        indices = (found[part].astype(np.int32) for part in ("screen", "full"))
        draws = Draws(_from_u8(found["patches_u8"]), *indices)
    return Reference(
        model=str(found["model"]),
        explainer=EXPLAINERS.get(str(found["explainer"]))(**settings),
        inputs=Inputs(
            images=_from_u8(found["images_u8"]),
            targets=SegmentTarget(**{part: found[part] for part in _TARGETS}),
            others=_from_u8(found["others_u8"]) if "others_u8" in found else None,
            draws=draws,
            pool=draws and pool_of_nobody(draws.patches),
        ),
        result={
            key.removeprefix(_RESULT): value
            for key, value in found.items()
            if key.startswith(_RESULT)
        },
    )


def _to_u8(values: np.ndarray) -> np.ndarray:
    """Multiples of 1/255 in [0, 1] as integers."""
    return np.rint(np.asarray(values) * 255).astype(np.uint8)


def _from_u8(values: np.ndarray) -> np.ndarray:
    """And back, float32."""
    return values.astype(np.float32) / np.float32(255)
