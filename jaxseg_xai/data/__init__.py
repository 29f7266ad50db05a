"""Where images come from: data sets, folders, arrays."""

from jaxseg_xai.data.degraded import DegradedDataset
from jaxseg_xai.data.given import as_source
from jaxseg_xai.data.grouped import GroupedDataset
from jaxseg_xai.data.label_values import LabelValues
from jaxseg_xai.data.pool import build_patch_pool
from jaxseg_xai.data.registry import (
    SOURCES,
    OpenSource,
    name_of_source,
    open_dataset,
    options_of,
)
from jaxseg_xai.data.sources.memory import MemorySource

__all__ = [
    "SOURCES",
    "DegradedDataset",
    "GroupedDataset",
    "LabelValues",
    "MemorySource",
    "OpenSource",
    "as_source",
    "build_patch_pool",
    "name_of_source",
    "open_dataset",
    "options_of",
]
