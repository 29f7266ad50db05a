"""Which explanation to believe: methods x models x metrics on the same images, with intervals.

    stores of sweeps -> scores of every explanation -> table, paired tests -> CSV, Parquet, Markdown

A sweep explains; this scores what it stored, on the device, and compares the methods.
"""

from jaxseg_xai.judging.judge import judge_stores
from jaxseg_xai.judging.result import Judgement

__all__ = ["Judgement", "judge_stores"]
