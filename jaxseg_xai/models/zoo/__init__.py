"""Families of models, one a file; a further one is a file here and a line in `models.registry`."""

from jaxseg_xai.models.architecture import Architecture

__all__ = ["Architecture"]
