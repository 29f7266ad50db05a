"""Run a sweep from its configuration into a store on disk; resumable."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.fields import check
from jaxseg_xai.core.types import Status
from jaxseg_xai.models import load_model
from jaxseg_xai.store import MemoryStore, Store, ZarrStore
from jaxseg_xai.store.leases import Leases
from jaxseg_xai.store.writer import erase, sole_writer
from jaxseg_xai.sweeps.config import SweepConfig
from jaxseg_xai.sweeps.engine import Engine
from jaxseg_xai.sweeps.launch import launch
from jaxseg_xai.sweeps.ray_workers import launch_on_ray
from jaxseg_xai.sweeps.sizes import size_to_resize_to, with_common_sizes
from jaxseg_xai.sweeps.stored import attributes, entry_of, open_store, sizes_of, times_of
from jaxseg_xai.sweeps.times import Times, sum_of
from jaxseg_xai.sweeps.work import Work, class_indices, listed, look_at_labels
from jaxseg_xai.sweeps.worker import Worker


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepResult:
    """What a sweep did.

    Attributes:
      counts: label -> status -> number of rows in the store, earlier runs included.
      times: of this run.
      reasons: why rows failed, each reason once, earlier runs included.
      sizes: of images that are padded to common sizes: `sizes.effect_of_padding`.
    """

    counts: dict[str, dict[str, int]]
    times: Times
    reasons: tuple[str, ...] = ()
    sizes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def num_failed(self) -> int:
        """Rows that could not be explained at all."""
        return sum(counts.get("FAILED", 0) for counts in self.counts.values())


def run_sweep(config: SweepConfig, *, progress: bool = True) -> SweepResult:
    """Explain what `config` names and store it; continues a store of the same configuration.

    An image that cannot be used is recorded as failed, with the reason, and the rest goes on.

    Args:
      config: see `SweepConfig`.
      progress: show a bar.

    Raises:
      JaxsegError: the model, the data set, the store or the configuration cannot be used at all.
    """
    check(config)
    if config.starts_others:
        _check_workers(config)
        found = launch_on_ray(config) if config.ray else launch(config)
        times = sum_of([one.times for one in found])
        return result_of(ZarrStore.open(config.out), times)
    work = work_of(config)
    spec = work.bundle.segmenter.input
    config = dataclasses.replace(config, pad=spec.pad, channels=spec.grey)
    config = dataclasses.replace(config, explain=work.jobs, roi=work.roi)
    return run_into_zarr(work, config, progress=progress)


def run_into_zarr(work: Work, config: SweepConfig, *, progress: bool = True) -> SweepResult:
    """Run a sweep whose objects are there already.

    Args:
      work: model, images and methods.
      config: where it goes and what identifies it.
      progress: show a bar.
    """
    work.check()
    if config.starts_others:
        raise ConfigError(
            "workers are processes, which do not see the objects of this one: start as many "
            "processes with workers=1, or name model and data in a SweepConfig for run_sweep"
        )
    _check_workers(config)
    leases = Leases(config.out, config.lease_seconds)
    if config.overwrite and leases.shared:
        erase(config.out, leases)
    if config.workers or leases.shared:
        times = Worker(work, config, leases).run()
        return result_of(ZarrStore.open(config.out), times)
    with sole_writer(config.out, leases) as writer:
        store, pools = open_store(work, config)
        store.check_writer = writer.check
        engine = Engine(work, store, pools, retry_failed=config.retry_failed, progress=progress)
        times = engine.run()
        try:
            store.set_attribute("times", times_of(store))
            store.close()
        except BaseException:
            store.flush()
            raise
        return result_of(store, times)


def _check_workers(config: SweepConfig) -> None:
    if config.workers and config.overwrite:
        raise ConfigError(
            f"overwrite would delete what other workers make; delete {config.out} first, or leave "
            "out workers"
        )


def result_of(store: ZarrStore, times: Times) -> SweepResult:
    """What a sweep did, as its store says."""
    return SweepResult(
        counts=store.counts(),
        times=times,
        reasons=_reasons(store),
        sizes=store.attrs.get("sizes", {}),
    )


def run_in_memory(work: Work, *, progress: bool = True) -> MemoryStore:
    """Run a sweep into a store that ends with the process.

    Args:
      work: model, images and methods.
      progress: show a bar.
    """
    pools = {side: work.make_pool(side) for side in work.patch_sides()}
    store = MemoryStore(
        entries=[entry_of(work, job) for job in work.jobs],
        plan=work.plan(),
        attrs=attributes(work) | sizes_of(work),
        rank=work.bundle.segmenter.input.rank,
    )
    Engine(work, store, pools, progress=progress).run()
    return store


def _reasons(store: Store) -> tuple[str, ...]:
    """Why rows failed, each reason once."""
    failing = [label for label, found in store.counts().items() if "FAILED" in found]
    rows = [row for label in failing for row in store.rows(label)]
    return tuple(dict.fromkeys(row.reason for row in rows if row.status == Status.FAILED))


def work_of(config: SweepConfig) -> Work:
    """The objects that a configuration names.

    Raises:
      JaxsegError: see `run_sweep`.
    """
    if not config.model:
        raise ConfigError("model is empty: name a bundled model or a folder with model.json")
    bundle = load_model(
        config.model,
        pad=config.pad,
        grey=config.channels,
        resize=size_to_resize_to(config.data.sizes),
        dtype=config.dtype,
    )
    taken, output = bundle.segmenter.input, bundle.segmenter.output
    # Label maps in files are read only where somebody looks at them.
    read_labels = config.store_labels or look_at_labels(config.explain, config.roi)
    source, chosen = config.data.open(
        output, taken, read_labels=read_labels, label_values=config.labels
    )
    chosen, corners = listed(config.roi, source, chosen)
    if config.data.sizes == "bucket":
        kept = None if config.overwrite else config.out
        segmenter = with_common_sizes(
            bundle.segmenter, source, chosen, kept, batch_size=config.batch_size
        )
        bundle = dataclasses.replace(bundle, segmenter=segmenter)
    others = config.data.open_pool(config.others_source, taken) if config.others_source else None
    return Work(
        bundle=bundle,
        source=source,
        chosen=chosen,
        jobs=tuple(job.for_rank(taken.rank) for job in config.explain),
        classes=class_indices(config.classes, output, bundle.name),
        roi=config.roi.for_rank(taken.rank),
        corners=corners,
        others=others,
        num_patches=config.num_patches,
        patches=config.patches,
        batch_size=config.batch_size,
        readers=config.readers,
        seed=config.seed,
        keep_labels=config.store_labels,
        tile=config.data.sizes == "tile",
        max_pixels=config.data.max_pixels,
    )
