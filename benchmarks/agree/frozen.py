"""The frozen references in `benchmarks/reference`, and ours against them.

They hold inputs, settings and what the peers found, and are .npz files of one form, see
`benchmarks/reference/README.md`. Logits of the U-Net are compared with those in `tests/reference`.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh

from benchmarks.agree.ate import Ates
from benchmarks.agree.components import Components
from benchmarks.agree.kind import Kind, Ours, check, logits_of
from benchmarks.agree.maps import (
    ATE_GRADIENT,
    CONFIDENCE,
    GRAD_CAM,
    INTEGRATED_GRADIENTS,
    PERTURBATION,
)
from benchmarks.agree.misure import Misures
from benchmarks.agree.verdict import Bound, Validation, all_of, judge
from benchmarks.arrays import Arrays, Inputs, pool_of_nobody
from jaxseg_xai.core.fields import idle_fields
from jaxseg_xai.core.segmenter import Dtype
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.explainers import EXPLAINERS, Explainer
from jaxseg_xai.models import Bundle, load_model
from jaxseg_xai.ops.replacements import Draws

FOLDER = Path(__file__).resolve().parents[1] / "reference"
#: The U-Net of width 16, its images, and what PyTorch and the published codes make of them.
REFERENCE = FOLDER.parents[1] / "tests" / "reference"
#: Explainer -> how it is run and compared.
KINDS: dict[str, Kind] = {
    "ate": Ates(),
    "ate_gradient": ATE_GRADIENT,
    "components": Components(),
    "misure": Misures(),
    "misure_paper": Misures(),
    "grad_cam": GRAD_CAM,
    "integrated_gradients": INTEGRATED_GRADIENTS,
    "confidence": CONFIDENCE,
    "rise": PERTURBATION,
    "kernel_shap": PERTURBATION,
}
#: Logits, as a share of the largest: float32 rounds at 6e-8 and bfloat16 at 4e-3, through some
#: twenty layers that each add up hundreds of products.
_SHARES = {"float32": 2e-5, "tensorfloat32": 1e-2, "bfloat16": 5e-2}
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


def save(name: str, reference: Reference) -> None:
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
    np.savez_compressed(_file_of(name), **arrays, images_u8=_to_u8(inputs.images))


def load(name: str) -> Reference:
    """Read what `save` wrote under a name."""
    with np.load(_file_of(name)) as file:
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


def _file_of(name: str) -> Path:
    return FOLDER / (f"{name}.npz" if name.endswith("_volume") else f"{name}_triangle.npz")


def _to_u8(values: np.ndarray) -> np.ndarray:
    """Multiples of 1/255 in [0, 1] as integers."""
    return np.rint(np.asarray(values) * 255).astype(np.uint8)


def _from_u8(values: np.ndarray) -> np.ndarray:
    """And back, float32."""
    return values.astype(np.float32) / np.float32(255)


def explain_prediction(inputs: Inputs, explainer: Explainer, bundle: Bundle) -> Inputs:
    """The inputs with the model's own pixels of the class, where a method explains these."""
    if explainer.meta.target != "prediction":
        return inputs
    logits, output = logits_of(bundle), bundle.segmenter.output
    # One at a time: one small program for any number of images.
    each = zip(inputs.images, inputs.targets.class_index, strict=True)
    found = [np.asarray(output.segment_of(logits(image[None])[0], c)) for image, c in each]
    targets = dataclasses.replace(inputs.targets, reference=np.stack(found))
    return inputs.replace(targets=targets)


def ours_of(reference: Reference, bundle: Bundle, mesh: Mesh) -> Ours:
    """Ours on the inputs of a reference."""
    explainer = reference.explainer
    if explainer.name == "ate":
        # In the box, as in the cases: the windows that the region needs are under test, too.
        region = reference.inputs.targets.region[0]
        explainer = explainer.in_box(round(region.sum() ** (1 / region.ndim)))
    inputs = explain_prediction(reference.inputs, explainer, bundle)
    return Ours(KINDS[explainer.name], explainer, bundle, inputs, mesh)


def frozen(name: str, dtype: Dtype, mesh: Mesh, explainer: Explainer | None = None) -> Validation:
    """Our explanation of the inputs of a frozen reference, against it.

    Args:
      name: of the reference.
      dtype: what ours computes in.
      mesh: the devices.
      explainer: another one than the reference's (which will fail, if it explains otherwise).
    """
    reference = load(name)
    asked = dataclasses.replace(reference, explainer=explainer or reference.explainer)
    ours = ours_of(asked, load_model(reference.model, dtype=dtype), mesh)
    subject = ours.subject(load_model(reference.model), dtype)
    return all_of(check(ours, ours(), {"frozen reference": reference.result}, subject))


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
    expected = np.stack([np.zeros_like(data["logits"]), data["logits"]], axis=-1)
    return compare_logits(logits_of(bundle)(data["images"]), expected, dtype)
