"""Ours against the frozen references of the PyTorch peers."""

import dataclasses

import jax
import numpy as np
from jax.sharding import Mesh

from benchmarks.agree.ate import Ates
from benchmarks.agree.components import Components
from benchmarks.agree.kind import Kind, Ours, check
from benchmarks.agree.maps import ATE_GRADIENT, CONFIDENCE, GRAD_CAM, INTEGRATED_GRADIENTS
from benchmarks.agree.misure import Misures
from benchmarks.agree.reference import load
from benchmarks.agree.verdict import Validation, all_of
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


def explain_prediction(inputs: Inputs, explainer: Explainer, bundle: Bundle) -> Inputs:
    """The inputs with the model's own pixels of the class, where a method explains these."""
    if explainer.meta.target != "prediction":
        return inputs
    predict, output, found = jax.jit(bundle.segmenter), bundle.segmenter.output, []
    for image, class_index in zip(inputs.images, inputs.targets.class_index, strict=True):
        # One at a time: one small program for any number of images.
        logits = predict(bundle.variables, image[None])[0]
        found.append(np.asarray(output.segment_of(logits, class_index)))
    targets = dataclasses.replace(inputs.targets, reference=np.stack(found))
    return inputs.replace(targets=targets)


def frozen_ours(name: str, dtype: Dtype, mesh: Mesh, explainer: Explainer | None = None) -> Ours:
    """Ours on the inputs of a frozen reference, with its settings or those of `explainer`."""
    reference = load(name)
    explainer, bundle = explainer or reference.explainer, load_model(reference.model, dtype=dtype)
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
    ours, reference = frozen_ours(name, dtype, mesh, explainer), load(name)
    subject = ours.subject(load_model(reference.model), dtype)
    return all_of(check(ours, ours(), {"frozen reference": reference.result}, subject))
