"""Interventions for a fraction of a forward pass: only what can change and matters is computed.

A model of images or of volumes is traced to a flat list of equations (`trace`); a rule for each
(`rules`) says which input pixels an output window reads; the planner finds, for every value, the
window that a block can change and the one that the region can see (`planner`), and `evaluate`
computes the smaller of the two over the activations of the unperturbed image. All sizes are fixed,
only positions move: one compiled program serves every block, patch, region and image.

Prior art: Krypton (Nakandala, Kumar and Papakonstantinou, SIGMOD 2019) re-evaluates what an
occluding patch changes in image classifiers; here that is met from the other side by what a region
of the output needs.
"""

from jaxseg_xai.incremental.crop import CroppedPredict, Spot, crop_predict
from jaxseg_xai.incremental.evaluate import (
    Place,
    Placed,
    Prepared,
    intervene,
    operands_of,
    prepare,
)
from jaxseg_xai.incremental.plan import Plan
from jaxseg_xai.incremental.planner import make_plan
from jaxseg_xai.incremental.table import PlanTable

__all__ = [
    "CroppedPredict",
    "Place",
    "Placed",
    "Plan",
    "PlanTable",
    "Prepared",
    "Spot",
    "crop_predict",
    "intervene",
    "make_plan",
    "operands_of",
    "prepare",
]
