"""The files of PdCR's code (arXiv 2602.20511, lcmmai/PdCR), read and written."""

from jaxseg_xai.data.pdcr.inputs import (
    Patches,
    RegionRow,
    read_patches,
    read_regions,
    write_patches,
    write_regions,
)
from jaxseg_xai.data.pdcr.results import (
    Result,
    Statistics,
    bin_names,
    is_results,
    read_map,
    read_results,
    read_statistics,
    write_map,
    write_results,
    write_statistics,
)

__all__ = [
    "Patches",
    "RegionRow",
    "Result",
    "Statistics",
    "bin_names",
    "is_results",
    "read_map",
    "read_patches",
    "read_regions",
    "read_results",
    "read_statistics",
    "write_map",
    "write_patches",
    "write_regions",
    "write_results",
    "write_statistics",
]
