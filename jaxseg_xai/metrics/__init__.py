"""How good an explanation is: metrics, one a file; a further one is a file and a line here.

Beside them `compare_methods` says how far methods agree; on the host, `agreement` compares two maps
and `screening` asks which blocks are worth exact interventions.
"""

from jaxseg_xai.core.registry import Registry
from jaxseg_xai.metrics.base import Metric, MetricMeta, Rated
from jaxseg_xai.metrics.between_methods import BetweenMethods, compare_methods, relevance_of
from jaxseg_xai.metrics.runner import score, score_all

METRICS = Registry(
    "jaxseg_xai.metrics",
    "metric",
    {
        "deletion": "jaxseg_xai.metrics.faithfulness.deletion:Deletion",
        "insertion": "jaxseg_xai.metrics.faithfulness.insertion:Insertion",
        "aopc": "jaxseg_xai.metrics.faithfulness.aopc:Aopc",
        "abpc": "jaxseg_xai.metrics.faithfulness.abpc:Abpc",
        "off_target_leakage": "jaxseg_xai.metrics.faithfulness.off_target_leakage:OffTargetLeakage",
        "pixel_flipping": "jaxseg_xai.metrics.faithfulness.pixel_flipping:PixelFlipping",
        "sufficiency": "jaxseg_xai.metrics.faithfulness.sufficiency:Sufficiency",
        "minimality": "jaxseg_xai.metrics.faithfulness.sufficiency:Minimality",
        "average_drop": "jaxseg_xai.metrics.faithfulness.average_drop:AverageDrop",
        "average_increase": "jaxseg_xai.metrics.faithfulness.average_drop:AverageIncrease",
        "average_gain": "jaxseg_xai.metrics.faithfulness.average_drop:AverageGain",
        "mu_fidelity": "jaxseg_xai.metrics.faithfulness.mu_fidelity:MuFidelity",
        "infidelity": "jaxseg_xai.metrics.faithfulness.infidelity:Infidelity",
        "road": "jaxseg_xai.metrics.faithfulness.road:Road",
        "irof": "jaxseg_xai.metrics.faithfulness.irof:Irof",
        "pointing_game": "jaxseg_xai.metrics.localisation.pointing_game:PointingGame",
        "energy_inside": "jaxseg_xai.metrics.localisation.energy_inside:EnergyInside",
        "relevance_rank_accuracy": "jaxseg_xai.metrics.localisation.relevance_rank_accuracy:"
        "RelevanceRankAccuracy",
        "iou_at_area": "jaxseg_xai.metrics.localisation.iou_at_area:IouAtArea",
        "auroc": "jaxseg_xai.metrics.localisation.auroc:Auroc",
        "sparseness": "jaxseg_xai.metrics.complexity.sparseness:Sparseness",
        "complexity": "jaxseg_xai.metrics.complexity.complexity:Complexity",
        "rounding_stability": "jaxseg_xai.metrics.robustness.rounding_stability:RoundingStability",
        "max_sensitivity": "jaxseg_xai.metrics.robustness.max_sensitivity:MaxSensitivity",
        "randomisation": "jaxseg_xai.metrics.robustness.randomisation:Randomisation",
    },
    base=Metric,
)

__all__ = [
    "METRICS",
    "BetweenMethods",
    "Metric",
    "MetricMeta",
    "Rated",
    "compare_methods",
    "relevance_of",
    "score",
    "score_all",
]
