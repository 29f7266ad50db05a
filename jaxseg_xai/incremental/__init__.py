"""Interventions for a fraction of a forward pass: only what can change and matters is computed."""

from jaxseg_xai.incremental.evaluate import Place, Prepared, intervene, operands_of, prepare
from jaxseg_xai.incremental.plan import Plan
from jaxseg_xai.incremental.planner import make_plan
from jaxseg_xai.incremental.table import PlanTable

__all__ = [
    "Place",
    "Plan",
    "PlanTable",
    "Prepared",
    "intervene",
    "make_plan",
    "operands_of",
    "prepare",
]
