"""Can a segmentation be trusted? From explanations to P(true Dice >= t); extra `reliability`.

    sweep store -> features -> classifier -> file -> probability of every explanation of a sweep
                            -> evaluation -> report

MiSuRe's use case (arXiv 2406.12173): what a segment needs of its image tells whether it is right.
"""

from jaxseg_xai.core.errors import MissingExtraError

try:
    import sklearn as sklearn
except ImportError:
    raise MissingExtraError("Reliability", "reliability") from None
