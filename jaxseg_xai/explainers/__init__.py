"""Explanation methods, one a file; `EXPLAINERS` lists them by name."""

from jaxseg_xai.explainers.ate import Ate
from jaxseg_xai.explainers.ate_gradient import AteGradient
from jaxseg_xai.explainers.base import Batch, Explainer, explain
from jaxseg_xai.explainers.confidence import Confidence
from jaxseg_xai.explainers.misure import Misure

EXPLAINERS: dict[str, type[Misure] | type[Ate] | type[AteGradient] | type[Confidence]] = {
    cls.name: cls for cls in (Misure, Ate, AteGradient, Confidence)
}

__all__ = [
    "EXPLAINERS",
    "Ate",
    "AteGradient",
    "Batch",
    "Confidence",
    "Explainer",
    "Misure",
    "explain",
]
