"""Several models, explained alike: what PdCR (arXiv 2602.20511) asks of their maps of effects.

    stores of sweeps, folders of PdCR's results -> maps by block -> comparison -> tables, pictures

A sweep explains one model; this looks at the stores of several, or at several methods in one.
"""

from jaxseg_xai.comparison.compare import compare_effects, compare_models
from jaxseg_xai.comparison.result import Comparison

__all__ = ["Comparison", "compare_effects", "compare_models"]
