"""Interventions for a fraction of a forward pass: only what can change and matters is computed."""

from jaxseg_xai.incremental.evaluate import Place, Prepared, intervene, prepare
from jaxseg_xai.incremental.plan import Plan, make_plan

__all__ = ["Place", "Plan", "Prepared", "intervene", "make_plan", "prepare"]
