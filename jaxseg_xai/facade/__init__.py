"""A person's way in: one call that explains, one that sweeps, and what they give back.

Nothing in the package imports this folder.
"""

from jaxseg_xai.facade.explain import explain
from jaxseg_xai.facade.result import Explained, Explanations, open_store
from jaxseg_xai.facade.sweep import sweep

__all__ = ["Explained", "Explanations", "explain", "open_store", "sweep"]
