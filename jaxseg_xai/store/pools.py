"""The patches that a sweep draws from, kept in its store: it continues with the same ones."""

from pathlib import Path

import numpy as np
import zarr

from jaxseg_xai.ops.patches import PatchPool
from jaxseg_xai.store.tables import io_errors


def read_pool(path: Path, side: int) -> PatchPool | None:
    """The pool of patches of a side in the store at `path`; None where there is none."""
    folder = path / _name(side)
    if not (folder / "zarr.json").exists():
        return None
    with io_errors(path):
        group = zarr.open_group(str(folder), mode="r", zarr_format=3, use_consolidated=False)
        if not group.attrs.get("complete"):  # killed while writing: nothing was computed yet
            return None
        return PatchPool(patches=np.asarray(group["patches"]), sources=np.asarray(group["sources"]))


def write_pool(path: Path, side: int, pool: PatchPool) -> None:
    """Keep a pool in the store at `path`, before anything is computed with it; once."""
    if read_pool(path, side) is not None:
        return
    axes = ("patch_z", "patch_y", "patch_x")[-(pool.patches.ndim - 2) :]
    dims = {"patches": ("patch", *axes, "channel"), "sources": ("patch", "word")}
    with io_errors(path):
        group = zarr.create_group(str(path / _name(side)), zarr_format=3, overwrite=True)
        for name, dimensions in dims.items():
            values = np.asarray(getattr(pool, name))
            group.create_array(name, data=values, dimension_names=dimensions)
        group.attrs["complete"] = True


def _name(side: int) -> str:
    return f"patch_pool_{side}"
