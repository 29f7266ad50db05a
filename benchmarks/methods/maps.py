"""Maps that reviewers know: Grad-CAM, integrated gradients, and the model's confidence."""

import jax

from benchmarks.agree.kind import Ours
from benchmarks.harness.machine import flops_of
from benchmarks.harness.settings import Settings
from benchmarks.methods.base import MethodCase
from jaxseg_xai.explainers.cam.grad_cam import GradCam
from jaxseg_xai.explainers.gradient.integrated_gradients import IntegratedGradients
from jaxseg_xai.explainers.runner import explain_example
from jaxseg_xai.explainers.uncertainty.confidence import Confidence

#: Of a square image: as it is, turned and flipped.
_VIEWS = 8


def _gradient_flops(ours: Ours) -> float | None:
    """Of a batch; XLA counts the body of the loop over the nodes once."""
    explainer, problem, batch = ours.arguments
    forward = flops_of(problem.segmenter, problem.variables, batch.images[:1])
    example = jax.tree.map(lambda leaf: leaf[0], (batch.images, batch.targets, batch.image_ids))
    once = flops_of(explain_example, explainer, problem, *example)
    if once is None or forward is None:
        return None
    ends = 2 * forward  # of the path: evaluated beside the loop
    nodes = getattr(explainer, "num_nodes", 1)
    return len(batch.images) * (nodes * (once - ends) + ends)


def _view_flops(ours: Ours) -> float | None:
    _, problem, batch = ours.arguments
    forward = flops_of(problem.segmenter, problem.variables, batch.images[:1])
    return None if forward is None else len(batch.images) * _VIEWS * forward


_FLOPS_OF = (
    "forward passes, and backward passes of all or of the layers above Grad-CAM's; of confidence, "
    "a forward pass a view"
)
_QUICK = Settings(model="reference", size=128, lanes=4)

GRAD_CAM = MethodCase(
    name="grad-cam",
    about="Seg-Grad-CAM at the bottleneck",
    defaults=Settings(model="reference", size=128, lanes=32),
    quick=_QUICK,
    explainer=GradCam(),
    references=("grad_cam",),
    flops=_gradient_flops,
    flops_of=_FLOPS_OF,
)
INTEGRATED_GRADIENTS = MethodCase(
    name="integrated-gradients",
    about="integrated gradients from a black image, 50 nodes",
    defaults=Settings(model="reference", size=128, lanes=16),
    quick=_QUICK,
    explainer=IntegratedGradients(),
    shorter={"num_nodes": 8},
    references=("integrated_gradients",),
    per_image=lambda explainer: {"gradients": explainer.num_nodes},
    flops=_gradient_flops,
    flops_of=_FLOPS_OF,
    peer_images=2,
    captum="integrated_gradients",
)
CONFIDENCE = MethodCase(
    name="confidence",
    about="entropy, and agreement of the segments of eight views",
    defaults=Settings(model="reference", size=128, lanes=32),
    quick=_QUICK,
    explainer=Confidence(),
    references=("confidence",),
    per_image=lambda explainer: {"forwards": _VIEWS},
    flops=_view_flops,
    flops_of=_FLOPS_OF,
)
