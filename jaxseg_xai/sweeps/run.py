"""Run a sweep from its configuration into a store on disk; resumable."""

import dataclasses
import json
import platform
import re
import uuid
import zlib
from collections.abc import Mapping
from typing import Any

import flax
import jax
import numpy as np
from jax.extend import core

from jaxseg_xai.core.errors import ConfigError, JaxsegError
from jaxseg_xai.core.fields import check
from jaxseg_xai.core.types import Status
from jaxseg_xai.core.version import VERSION
from jaxseg_xai.models import load_model
from jaxseg_xai.ops.patches import PatchPool
from jaxseg_xai.store import Entry, MemoryStore, Store, ZarrStore
from jaxseg_xai.store.layout import is_store
from jaxseg_xai.store.place import sole_writer
from jaxseg_xai.store.pools import read_pool, write_pool
from jaxseg_xai.sweeps.config import Job, SweepConfig
from jaxseg_xai.sweeps.cost import check_hours
from jaxseg_xai.sweeps.engine import Engine
from jaxseg_xai.sweeps.sizes import effect_of_padding, size_to_resize_to, with_common_sizes
from jaxseg_xai.sweeps.times import Times
from jaxseg_xai.sweeps.work import Work, checksum, class_indices, listed, look_at_labels


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
    with sole_writer(config.out):
        goes_on = not config.overwrite and is_store(config.out)
        if not goes_on:
            check_hours(work, config.max_hours)
        # Before the store, so that a pool that cannot be made leaves nothing behind.
        pools = {side: _kept(config, side) or work.make_pool(side) for side in work.patch_sides()}
        store = ZarrStore.create_or_resume(
            config.out,
            plan=work.plan(),
            entries=[entry_of(work, job) for job in work.jobs],
            config=config.identity() | model_identity(work),
            attrs=attributes(work)
            | config.storage.attributes()
            | ({} if goes_on else sizes_of(work)),
            rank=work.bundle.segmenter.input.rank,
            run=uuid.uuid4().hex,
            version=VERSION,
            overwrite=config.overwrite,
        )
        for side, pool in pools.items():
            write_pool(config.out, side, pool)
        engine = Engine(work, store, pools, retry_failed=config.retry_failed, progress=progress)
        times = engine.run()
        store.set_attribute("times", add_times(store.attrs.get("times", {}), times))
        store.close()
        return SweepResult(
            counts=store.counts(),
            times=times,
            reasons=reasons(store),
            sizes=store.attrs.get("sizes", {}),
        )


def add_times(before: Mapping[str, Any], times: Times) -> dict[str, dict[str, float]]:
    """Label -> explanations and the seconds that they took, earlier runs that ended included."""
    found = {}
    for label, number in times.computed.items():
        old = before.get(label, {"explanations": 0, "seconds": 0.0})
        found[label] = {
            "explanations": old["explanations"] + number,
            "seconds": old["seconds"] + times.compute_seconds[label],
        }
    return found


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


def entry_of(work: Work, job: Job) -> Entry:
    """What the store keeps of a job beside its results."""
    explainer: Any = work.explainer_of(job)
    return Entry(
        label=job.label,
        method=explainer.name,
        settings=dataclasses.asdict(explainer),
        meta=_plain(dataclasses.asdict(explainer.meta)),
        describe={},
    )


def attributes(work: Work) -> dict[str, Any]:
    """Root attributes of a store."""
    return {
        "seed": work.seed,
        "model": work.bundle.name,
        "class_names": list(work.bundle.class_names),
        # What the numbers of the label maps mean; nothing where the data set does not say.
        "label_names": list(work.source.class_names),
        "versions": {
            "jaxseg_xai": VERSION,
            "jax": jax.__version__,
            "flax": flax.__version__,
            "python": platform.python_version(),
        },
        "device": jax.devices()[0].device_kind,
    }


def sizes_of(work: Work) -> dict[str, Any]:
    """Root attribute: what padding to common sizes changes; nothing where there is none."""
    bundle = work.bundle
    if not bundle.segmenter.input.pad_to:
        return {}
    return {
        "sizes": effect_of_padding(bundle.segmenter, bundle.variables, work.source, work.chosen)
    }


def model_identity(work: Work) -> dict[str, Any]:
    """What tells one model from another, as JSON values."""
    bundle, segmenter = work.bundle, work.bundle.segmenter
    return {
        "architecture": bundle.card.config if bundle.card else {},
        "input": _plain(dataclasses.asdict(segmenter.input)),
        "output": _plain(dataclasses.asdict(segmenter.output)),
        "class_names": list(bundle.class_names),
        "weights_checksum": checksum(bundle.variables),
        "program": "" if bundle.card.architecture else _program(work),
        # Blocks and dilations of earlier versions went into the padding.
        "padding": "kept" if segmenter.input.pads else "",
    }


def _program(work: Work) -> int:
    """Checksum of what a Python object computes: it has no configuration that tells it apart."""
    segmenter, variables = work.bundle.segmenter, work.bundle.variables
    smallest = (*segmenter.input.example_size(), segmenter.input.channels)
    # The smallest size depends on no image, but not every model takes it.
    for shape in (smallest, work.image_shape or smallest):
        try:
            image = jax.ShapeDtypeStruct((1, *shape), np.float32)
            traced = jax.make_jaxpr(segmenter)(variables, image)
        except JaxsegError:
            continue
        # Addresses differ from process to process.
        text = re.sub(r"0x[0-9a-f]+", "", str(traced))
        return zlib.crc32(text.encode(), checksum(_constants(traced)))
    return 0  # no image can be used, either


def _constants(jaxpr: Any) -> list[Any]:
    """The arrays that a jaxpr and the calls in it hold."""
    found = list(getattr(jaxpr, "consts", ()))
    for equation in jaxpr.eqns:
        for part in jax.tree.leaves(list(equation.params.values())):
            if isinstance(part, core.ClosedJaxpr | core.Jaxpr):
                found += _constants(part)
    return found


def reasons(store: Store) -> tuple[str, ...]:
    """Why rows failed, each reason once."""
    failed = [row.reason for row in store.rows() if row.status == Status.FAILED]
    return tuple(dict.fromkeys(failed))


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
        segmenter = with_common_sizes(bundle.segmenter, source, chosen, kept)
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


def _kept(config: SweepConfig, side: int) -> PatchPool | None:
    """The pool an earlier run left in the store, if there is one.

    A sweep that continues draws from the same patches, even where images were repaired or added
    since; and it need not read them again.
    """
    return None if config.overwrite else read_pool(config.out, side)


def _plain(value: Any) -> Any:
    """As JSON keeps it; sets become sorted lists."""

    def simple(item: Any) -> Any:
        return sorted(item) if isinstance(item, frozenset) else str(item)

    return json.loads(json.dumps(value, default=simple))
