"""Explain segmentation models at scale, in JAX: jitted, vmapped, sharded over all devices.

    import jaxseg_xai

    found = jaxseg_xai.explain("brain", "scan.png", "white matter", "misure")
    print(found)
    found.plot()

Nothing heavy is imported before it is used.
"""

import importlib
from typing import Any

from jaxseg_xai.core.version import VERSION

__version__ = VERSION

#: Public name -> the module that has it.
_PLACES = {
    "JaxsegError": "jaxseg_xai.core.errors",
    "Explanation": "jaxseg_xai.core.types",
    "Sample": "jaxseg_xai.core.types",
    "SegmentTarget": "jaxseg_xai.core.types",
    "Source": "jaxseg_xai.core.types",
    "Status": "jaxseg_xai.core.types",
    "Batch": "jaxseg_xai.explainers.base",
    "Example": "jaxseg_xai.explainers.base",
    "Explainer": "jaxseg_xai.explainers.base",
    "Meta": "jaxseg_xai.explainers.base",
    "Parts": "jaxseg_xai.explainers.base",
    "Problem": "jaxseg_xai.explainers.base",
    "setting": "jaxseg_xai.core.fields",
    "explain": "jaxseg_xai.facade",
    "sweep": "jaxseg_xai.facade",
    "judge": "jaxseg_xai.facade",
    "open_store": "jaxseg_xai.facade",
    "compare_models": "jaxseg_xai.comparison",
    "compare_effects": "jaxseg_xai.comparison",
    "as_model": "jaxseg_xai.models",
    "from_torch": "jaxseg_xai.models",
    "from_keras": "jaxseg_xai.models",
    "from_onnx": "jaxseg_xai.models",
    "load_model": "jaxseg_xai.models",
    "from_nnunet": "jaxseg_xai.models",
    "bundled_models": "jaxseg_xai.models",
    "open_dataset": "jaxseg_xai.data",
    "use_cpu_cores": "jaxseg_xai.devices.mesh",
    "clear_caches": "jaxseg_xai.core.caches",
    "InputSpec": "jaxseg_xai.core.input_spec",
    "OutputSpec": "jaxseg_xai.core.output_spec",
    "Segmenter": "jaxseg_xai.core.segmenter",
    "RoiConfig": "jaxseg_xai.sweeps.config",
    "Storage": "jaxseg_xai.store.precision",
}

__all__ = [*_PLACES]  # pyright: ignore[reportUnsupportedDunderAll]


def __dir__() -> list[str]:
    """Public names, for completion."""
    return sorted([*_PLACES, "__version__"])


def __getattr__(name: str) -> Any:
    """Public names, and every registered method by the name of its class: `jaxseg_xai.Ate`."""
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    if name[:1].isupper():
        from jaxseg_xai.explainers import EXPLAINERS

        for line, place in EXPLAINERS.built_in.items():
            if place.rpartition(":")[2] == name:
                return EXPLAINERS.get(line)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
