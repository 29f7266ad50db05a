"""Explain segmentation models at scale: MiSuRe and PdCR's ATE in JAX.

    bundle = load_model("brain")
    dataset = open_dataset("brain", "test")
    misure = jax.jit(Misure().explain, static_argnums=0)
    explanation = misure(bundle.predict, bundle.variables, dataset[0].image, target)

Whole data sets: `jaxseg_xai.sweep.run.run_sweep`, or `jaxseg-xai sweep` on the command line.
"""

from importlib.metadata import version

from jaxseg_xai.core.errors import JaxsegError
from jaxseg_xai.core.types import Source, Explanation, Predict, Sample, SegmentTarget, Status
from jaxseg_xai.data import PatchPool, build_patch_pool, image_id, open_dataset
from jaxseg_xai.devices.mesh import device_mesh, use_cpu_cores
from jaxseg_xai.explainers import (
    EXPLAINERS,
    Ate,
    AteGradient,
    Batch,
    Confidence,
    Explainer,
    GradCam,
    IntegratedGradients,
    Misure,
    explain,
)
from jaxseg_xai.models.bundle import Bundle, load_model
from jaxseg_xai.models.predict import FlaxPredict, from_linen, from_nnx

__version__ = version("jaxseg-xai")

__all__ = [
    "EXPLAINERS",
    "Ate",
    "AteGradient",
    "Batch",
    "Bundle",
    "Confidence",
    "Source",
    "Explainer",
    "Explanation",
    "FlaxPredict",
    "GradCam",
    "IntegratedGradients",
    "JaxsegError",
    "Misure",
    "PatchPool",
    "Predict",
    "Sample",
    "SegmentTarget",
    "Status",
    "build_patch_pool",
    "device_mesh",
    "explain",
    "from_linen",
    "from_nnx",
    "image_id",
    "load_model",
    "open_dataset",
    "use_cpu_cores",
]
