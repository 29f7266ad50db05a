"""Explanation methods, one a file; `EXPLAINERS` lists them by name."""

from jaxseg_xai.explainers.ate import Ate
from jaxseg_xai.explainers.base import Batch, Explainer, explain
from jaxseg_xai.explainers.misure import Misure

EXPLAINERS: dict[str, type[Ate] | type[Misure]] = {cls.name: cls for cls in (Misure, Ate)}

__all__ = ["EXPLAINERS", "Ate", "Batch", "Explainer", "Misure", "explain"]
