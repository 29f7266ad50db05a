"""Explanation methods, one a file; `EXPLAINERS` lists them by name."""

from jaxseg_xai.explainers.ate.ate import Ate
from jaxseg_xai.explainers.ate.gradient import AteGradient
from jaxseg_xai.explainers.base import Batch, Explainer, explain
from jaxseg_xai.explainers.cam.grad_cam import GradCam
from jaxseg_xai.explainers.gradient.integrated_gradients import IntegratedGradients
from jaxseg_xai.explainers.misure.paper import MisurePaper
from jaxseg_xai.explainers.misure.search import Misure
from jaxseg_xai.explainers.uncertainty.confidence import Confidence

EXPLAINERS: dict[str, type[Explainer]] = {
    cls.name: cls
    for cls in (Misure, MisurePaper, Ate, AteGradient, IntegratedGradients, GradCam, Confidence)
}

__all__ = [
    "EXPLAINERS",
    "Ate",
    "AteGradient",
    "Batch",
    "Confidence",
    "Explainer",
    "GradCam",
    "IntegratedGradients",
    "Misure",
    "MisurePaper",
    "explain",
]
