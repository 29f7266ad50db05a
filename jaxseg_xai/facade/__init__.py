"""A person's way in: calls that explain, sweep and judge, and what they give back.

Nothing in the package imports this folder.
"""

from jaxseg_xai.facade.explain import explain
from jaxseg_xai.facade.judge import judge
from jaxseg_xai.facade.result import Explained, Explanations, open_store
from jaxseg_xai.facade.sweep import sweep

__all__ = ["Explained", "Explanations", "explain", "judge", "open_store", "sweep"]
