"""Ours against frozen outputs of PyTorch: explanations of the peers, and logits of the U-Net."""

import dataclasses
from typing import Any

import numpy as np
from jax.sharding import Mesh

from benchmarks.agree.ate import Ates
from benchmarks.agree.components import Components
from benchmarks.agree.kind import Kind, Ours, check, logits_of
from benchmarks.agree.maps import ATE_GRADIENT, CONFIDENCE, GRAD_CAM, INTEGRATED_GRADIENTS
from benchmarks.agree.misure import Misures
from benchmarks.agree.reference import REFERENCE, Reference, load
from benchmarks.agree.verdict import Bound, Validation, all_of, judge
from benchmarks.arrays import Inputs
from jaxseg_xai.core.segmenter import Dtype
from jaxseg_xai.explainers import Explainer
from jaxseg_xai.models import Bundle, load_model

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
}
#: Logits, as a share of the largest: float32 rounds at 6e-8 and bfloat16 at 4e-3, through some
#: twenty layers that each add up hundreds of products.
_SHARES = {"float32": 2e-5, "tensorfloat32": 1e-2, "bfloat16": 5e-2}


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
        explainer = explainer.in_box(int(np.sqrt(reference.inputs.targets.region[0].sum())))
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
