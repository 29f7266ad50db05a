"""Explain segmentation models at scale: MiSuRe and PdCR's ATE in JAX."""
