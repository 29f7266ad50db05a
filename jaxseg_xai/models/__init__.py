"""Segmentation models, their weights, and the adapters that make them pure functions."""

from jaxseg_xai.models.bundle import Bundle
from jaxseg_xai.models.folder import bundled_models, load_model
from jaxseg_xai.models.libraries import from_keras, from_onnx, from_torch
from jaxseg_xai.models.nnunet import from_nnunet
from jaxseg_xai.models.registry import ADAPTERS, MODELS
from jaxseg_xai.models.wrap import as_model

__all__ = [
    "ADAPTERS",
    "MODELS",
    "Bundle",
    "as_model",
    "bundled_models",
    "from_keras",
    "from_nnunet",
    "from_onnx",
    "from_torch",
    "load_model",
]
