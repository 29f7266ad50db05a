"""Explain segmentation models at scale: MiSuRe and PdCR's ATE in JAX."""

from importlib.metadata import version

__version__ = version("jaxseg-xai")
