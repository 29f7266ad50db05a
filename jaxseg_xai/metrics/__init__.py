"""How good an explanation is: metrics, one a file; a further one is a file and a line here.

Beside them, on the host: `agreement` compares two maps, `screening` asks which blocks are worth
exact interventions.
"""

from jaxseg_xai.core.registry import Registry
from jaxseg_xai.metrics.base import Metric, MetricMeta, Rated
from jaxseg_xai.metrics.runner import score

METRICS = Registry(
    "jaxseg_xai.metrics",
    "metric",
    {
        "energy_inside": "jaxseg_xai.metrics.localisation.energy_inside:EnergyInside",
        "deletion": "jaxseg_xai.metrics.faithfulness.deletion:Deletion",
        "rounding_stability": "jaxseg_xai.metrics.robustness.rounding_stability:RoundingStability",
    },
    base=Metric,
)

__all__ = ["METRICS", "Metric", "MetricMeta", "Rated", "score"]
