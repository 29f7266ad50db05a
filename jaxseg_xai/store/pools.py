"""The patches that a sweep draws from, kept in its store: it continues with the same ones."""

import os

import numpy as np
import zarr

from jaxseg_xai.ops.patches import PatchPool
from jaxseg_xai.store.place import Place, io_errors
from jaxseg_xai.store.tables import FLAT, open_group

_BEGIN = "patch_pool_"


def read_pool(path: str | os.PathLike[str], side: int) -> PatchPool | None:
    """The pool of patches of a side in the store at `path`; None where there is none."""
    place = Place(path)
    with io_errors(place):
        if place.read(f"{_name(side)}/zarr.json") is None:
            return None
        group = open_group(place, _name(side), "r", consolidated=False)
        if not group.attrs.get("complete"):  # killed while writing: nothing was computed yet
            return None
        return PatchPool(patches=np.asarray(group["patches"]), sources=np.asarray(group["sources"]))


def write_pool(path: str | os.PathLike[str], side: int, pool: PatchPool) -> None:
    """Keep a pool in the store at `path`, before anything is computed with it; once."""
    if read_pool(path, side) is not None:
        return
    axes = ("patch_z", "patch_y", "patch_x")[-(pool.patches.ndim - 2) :]
    dims = {"patches": ("patch", *axes, "channel"), "sources": ("patch", "word")}
    place = Place(path, writes=True)
    with io_errors(place):
        group = zarr.create_group(place.zarr, path=_name(side), zarr_format=3, overwrite=True)
        for name, dimensions in dims.items():
            values = np.asarray(getattr(pool, name))
            group.create_array(
                name, data=values, dimension_names=dimensions, chunk_key_encoding=FLAT
            )
        group.attrs["complete"] = True


def _name(side: int) -> str:
    return f"{_BEGIN}{side}"


def copy_pools(source: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Keep the pools of one store in another."""
    for name in Place(source).names():
        if name.startswith(_BEGIN):
            side = int(name.removeprefix(_BEGIN))
            if (pool := read_pool(source, side)) is not None:
                write_pool(path, side, pool)
