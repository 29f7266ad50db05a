"""What a sweep computed: on disk or in memory, behind one contract.

Everything outside this package reads stores by `rows`, `read`, `read_image` and `entry`.
"""

from jaxseg_xai.core.registry import Registry
from jaxseg_xai.store.base import Store
from jaxseg_xai.store.copy import copy_store, merge_stores
from jaxseg_xai.store.memory_store import MemoryStore
from jaxseg_xai.store.records import Entry, PlanRow, Row, StoredExplanation, StoredImage
from jaxseg_xai.store.zarr_store import ZarrStore

SINKS = Registry(
    "jaxseg_xai.sinks",
    "sink",
    {
        "zarr": "jaxseg_xai.store.zarr_store:ZarrStore",
        "memory": "jaxseg_xai.store.memory_store:MemoryStore",
    },
    base=Store,
)

__all__ = [
    "SINKS",
    "Entry",
    "MemoryStore",
    "PlanRow",
    "Row",
    "Store",
    "StoredExplanation",
    "StoredImage",
    "ZarrStore",
    "copy_store",
    "merge_stores",
]
