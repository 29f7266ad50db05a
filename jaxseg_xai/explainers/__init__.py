"""Explanation methods, one a file; `EXPLAINERS` lists them by name."""

from jaxseg_xai.explainers.ate import Ate
from jaxseg_xai.explainers.ate_gradient import AteGradient
from jaxseg_xai.explainers.base import Batch, Explainer, explain
from jaxseg_xai.explainers.confidence import Confidence
from jaxseg_xai.explainers.grad_cam import GradCam
from jaxseg_xai.explainers.integrated_gradients import IntegratedGradients
from jaxseg_xai.explainers.misure import Misure
from jaxseg_xai.explainers.misure_paper import MisurePaper

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
