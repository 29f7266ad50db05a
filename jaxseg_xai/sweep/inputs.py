"""What a sweep checks and prepares before its first image."""

import dataclasses
import zlib
from typing import Any

import jax
import numpy as np
import zarr

from jaxseg_xai.core.errors import ConfigError, DataError
from jaxseg_xai.core.types import Source
from jaxseg_xai.data import PatchPool, build_patch_pool, image_id
from jaxseg_xai.explainers import GradCam
from jaxseg_xai.models.bundle import Bundle
from jaxseg_xai.store.tables import io_errors
from jaxseg_xai.sweep.config import SweepConfig

#: Group of the store, and the dimensions of what is in it.
_POOL = "patch_pool"
_POOL_DIMS = {"patches": ("patch", "patch_y", "patch_x", "channel"), "sources": ("patch",)}


def class_indices(config: SweepConfig, bundle: Bundle) -> list[int]:
    """Numbers of the classes to explain; ConfigError for a name the model does not know."""
    names = bundle.card.class_names
    unknown = [name for name in config.classes if name not in names]
    if unknown:
        raise ConfigError(
            f"unknown class {', '.join(unknown)}; {bundle.name} knows {', '.join(names)}"
        )
    return [names.index(name) for name in dict.fromkeys(config.classes) or names[1:]]


def check_classes(config: SweepConfig, bundle: Bundle, dataset: Source) -> None:
    """Label maps are compared with predictions by number: the numbers must mean the same."""
    ours, theirs = bundle.card.class_names, dataset.class_names
    if config.needs_labels and theirs not in ((), ours):
        raise ConfigError(
            f"{config.data.source} is labelled {', '.join(theirs)}, but {bundle.name} segments "
            f"{', '.join(ours)}; set roi.reference to prediction (and leave out store_labels), or "
            "choose another model"
        )


def check_layer(config: SweepConfig, bundle: Bundle) -> None:
    """Grad-CAM's layer must be one of the model's, whatever the size of the images."""
    if GradCam.name in config.explainers:
        side, channels = bundle.predict.stride, bundle.card.architecture_config().in_channels
        shape = (side, side, channels)
        config.grad_cam.find(bundle.predict, bundle.variables, shape, np.float32)


def make_pool(
    config: SweepConfig, bundle: Bundle, dataset: Source, chosen: list[int]
) -> PatchPool | None:
    """The patches, if an explainer needs any; DataError if there are not enough of them."""
    if not any(getattr(config, name).needs_pool for name in config.explainers):
        return None
    channels = bundle.card.architecture_config().in_channels
    if config.pool_source:
        dataset_of_pool = config.data.open_pool(config.pool_source, channels)
    else:
        dataset_of_pool = dataset
    try:
        pool = build_patch_pool(
            dataset_of_pool,
            block_size=config.block_size,
            num_patches=config.pool_patches,
            seed=config.seed,
        )
        pool.check([image_id(dataset.ids[index]) for index in chosen])
    except DataError as error:
        raise DataError(
            f"{error} (pool_source names a data set for the patches, ate.perturbation=zero needs "
            "none)"
        ) from error
    if pool.patches.shape[-1] != channels:
        raise DataError(
            f"patch pool: {pool.patches.shape[-1]} channels, the model takes {channels}; "
            "choose another pool_source"
        )
    return pool


def kept_pool(config: SweepConfig) -> PatchPool | None:
    """The pool an earlier run left in the store, if there is one.

    A sweep that continues draws from the same patches, even where images were repaired or added
    since; and it need not read them again.
    """
    path = config.out / _POOL
    if config.overwrite or not (path / "zarr.json").exists():
        return None
    with io_errors(config.out):
        group = zarr.open_group(str(path), mode="r", zarr_format=3, use_consolidated=False)
        if not group.attrs.get("complete"):  # killed while writing: nothing was computed yet
            return None
        return PatchPool(**{name: np.asarray(group[name]) for name in _POOL_DIMS})


def keep_pool(config: SweepConfig, pool: PatchPool | None) -> None:
    """Leave the pool in the store, before anything is computed with it."""
    if pool is None or kept_pool(dataclasses.replace(config, overwrite=False)) is not None:
        return
    with io_errors(config.out):
        group = zarr.create_group(str(config.out / _POOL), zarr_format=3, overwrite=True)
        for name, dims in _POOL_DIMS.items():
            values = np.asarray(getattr(pool, name))
            group.create_array(name, data=values, dimension_names=dims)
        group.attrs["complete"] = True


def checksum(tree: Any) -> int:
    """crc32 of arrays: weights trained anew must not continue a store."""
    found = 0
    for leaf in jax.tree.leaves(jax.device_get(tree)):
        found = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), found)
    return found
