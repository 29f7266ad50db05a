"""`jaxseg_xai.sweep`: many images into a store, from Python objects."""

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.fields import check
from jaxseg_xai.core.input_spec import Grey, Pad
from jaxseg_xai.core.segmenter import Dtype, Segmenter
from jaxseg_xai.core.types import Sample, Source
from jaxseg_xai.data import as_source
from jaxseg_xai.explainers import Explainer
from jaxseg_xai.facade.explain import open_model
from jaxseg_xai.store.precision import Storage
from jaxseg_xai.sweeps.config import Job, RoiConfig, SweepConfig, make_job
from jaxseg_xai.sweeps.data import DataConfig
from jaxseg_xai.sweeps.run import SweepResult, run_into_zarr
from jaxseg_xai.sweeps.sizes import Sizes, size_to_resize_to, with_common_sizes
from jaxseg_xai.sweeps.work import Work, class_indices, listed


def sweep(
    *,
    model: Any,
    data: Any,
    explain: Any,
    out: str | Path,
    classes: str | int | Sequence[str | int] = (),
    labels: Any = None,
    others: Any = None,
    roi: RoiConfig | None = None,
    seed: int = 0,
    batch_size: int = 8,
    num_patches: int = 1000,
    patches: str | Path | None = None,
    pad: Pad | None = None,
    channels: Grey | None = None,
    sizes: Sizes = "native",
    max_pixels: int | None = None,
    dtype: Dtype | None = None,
    store_labels: bool = False,
    storage: Storage | None = None,
    max_hours: float = 24.0,
    overwrite: bool = False,
    retry_failed: bool = False,
    workers: int = 0,
    progress: bool = True,
) -> SweepResult:
    """Explain many images with some methods and store what is found; resumable.

        jaxseg_xai.sweep(
            model="brain",
            data=my_source,
            explain=["misure", ("ate16", jaxseg_xai.Ate(block_size=16))],
            out="runs/mine.zarr",
        )

    Args:
      model: as for `jaxseg_xai.explain`.
      data: images as for `jaxseg_xai.explain`, a `Source`, or the name of a data set.
      explain: a method, or a list of them: names, explainers, pairs (label, explainer), or tables
        with "method" and its settings.
      out: the store to write (Zarr). The same call continues where it stopped.
      classes: one or several, names or numbers; all but the background where empty.
      labels: ground truth, where `data` has none.
      others: images that give patches and whole images to put in; those of `data` where left out.
      roi: the region of methods that explain a region.
      seed: of all draws.
      batch_size: explanations at a time, over all devices.
      num_patches: how many patches a pool has.
      patches: folder of patches from which to draw instead of cutting some, such as PdCR's
        `intervention_patches`.
      pad: what to do with sizes that the model does not take, as for `jaxseg_xai.explain`.
      channels: what to do with grey images, as for `jaxseg_xai.explain`.
      sizes: what to do with images of many sizes, as for `jaxseg_xai.explain`.
      max_pixels: which images are too large, as for `jaxseg_xai.explain`.
      dtype: what the model computes in.
      store_labels: keep ground truth in the store even where no method looks at it.
      storage: how exactly and how tightly maps are stored; None: without loss.
      max_hours: a sweep of volumes that would take longer is refused.
      overwrite: delete an existing store first.
      retry_failed: try the images again that an earlier run recorded as failed.
      workers: 1: this process is one of many that share the sweep; 0: it is alone.
      progress: show a bar.

    Returns:
      Counts by status, where the time went, and why images failed.

    Raises:
      JaxsegError: the model, the data, the store or a setting cannot be used at all.
    """
    if not isinstance(roi, RoiConfig | None):
        raise ConfigError(f"roi is {roi!r}; give a jaxseg_xai.RoiConfig(kind='component'), say")
    if not isinstance(storage, Storage | None):
        raise ConfigError(
            f"storage is {storage!r}; give a jaxseg_xai.Storage(precision='half'), say"
        )
    size = size_to_resize_to(sizes)
    bundle = open_model(model, pad=pad, grey=channels, fixed_size=size, dtype=dtype)
    spec, output = bundle.segmenter.input, bundle.segmenter.output
    source, chosen = _open(data, labels, bundle.segmenter)
    if sizes == "bucket":
        kept = None if overwrite else Path(out)
        segmenter = with_common_sizes(bundle.segmenter, source, chosen, kept, batch_size=batch_size)
        bundle = dataclasses.replace(bundle, segmenter=segmenter)
    one = isinstance(explain, str | Explainer | Mapping | Job)
    entries = [explain] if one else explain
    jobs = tuple(make_job(entry).for_rank(spec.rank) for entry in entries)
    config = SweepConfig(
        out=Path(out),
        model=bundle.name,
        data=DataConfig(source=_name(data, labels), sizes=size or sizes, max_pixels=max_pixels),
        others_source="" if others is None else _name(others),
        classes=tuple(output.class_names[i] for i in class_indices(classes, output, bundle.name)),
        explain=jobs,
        roi=(roi or RoiConfig()).for_rank(spec.rank),
        max_hours=max_hours,
        num_patches=num_patches,
        patches=None if patches is None else Path(patches),
        batch_size=batch_size,
        pad=bundle.segmenter.input.pad,
        channels=bundle.segmenter.input.grey,
        dtype=bundle.segmenter.dtype,
        store_labels=store_labels or labels is not None,
        storage=storage or Storage(),
        seed=seed,
        overwrite=overwrite,
        retry_failed=retry_failed,
        workers=workers,
    )
    check(config)
    chosen, corners = listed(config.roi, source, chosen)
    work = Work(
        bundle=bundle,
        source=source,
        chosen=chosen,
        jobs=jobs,
        classes=class_indices(classes, output, bundle.name),
        roi=config.roi,
        corners=corners,
        others=None
        if others is None
        else as_source(others, rank=spec.rank, raw=spec.raw, name="other"),
        num_patches=num_patches,
        patches=config.patches,
        batch_size=batch_size,
        seed=seed,
        keep_labels=config.store_labels,
        tile=sizes == "tile",
        max_pixels=max_pixels,
    )
    return run_into_zarr(work, config, progress=progress)


def _open(data: Any, labels: Any, segmenter: Segmenter) -> tuple[Source, Sequence[int]]:
    if isinstance(data, str | Path) and labels is None:
        return DataConfig(source=str(data)).open(segmenter.output, segmenter.input)
    source = as_source(data, labels, rank=segmenter.input.rank, raw=segmenter.input.raw)
    return source, range(len(source))


def _name(*given: Any) -> str:
    """What tells images from others: a path as it is, arrays by a checksum of their values."""
    found = []
    for value in given:
        if value is None or isinstance(value, str | Path):
            found.append("" if value is None else str(value))
        elif isinstance(value, list | tuple):
            found.append(f"{len(value)} items {zlib.crc32(_name(*value).encode())}")
        elif isinstance(value, Sample):
            found.append(f"{value.id} {_name(value.image, value.labels)}")
        elif hasattr(value, "__array__") or hasattr(value, "__array_interface__"):
            array = np.ascontiguousarray(value)
            found.append(f"array {array.shape} {zlib.crc32(array.tobytes())}")
        else:
            found.append(f"{type(value).__name__} of {len(value)} items")
    return " ".join(filter(None, found))
