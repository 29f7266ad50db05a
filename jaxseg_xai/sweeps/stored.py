"""The store of a sweep: what it says of the model, the methods and the images."""

import dataclasses
import json
import platform
import re
import uuid
import zlib
from typing import Any, TypeVar

import flax
import jax
import numpy as np
from jax.extend import core

from jaxseg_xai.core.errors import JaxsegError
from jaxseg_xai.core.version import VERSION
from jaxseg_xai.ops.patches import PatchPool
from jaxseg_xai.store import Entry, ZarrStore
from jaxseg_xai.store.layout import is_store
from jaxseg_xai.store.pools import read_pool, write_pool
from jaxseg_xai.sweeps.config import Job, SweepConfig
from jaxseg_xai.sweeps.cost import check_hours
from jaxseg_xai.sweeps.renewed import forget_changed
from jaxseg_xai.sweeps.sizes import effect_of_padding
from jaxseg_xai.sweeps.work import Work, checksum

_Kind = TypeVar("_Kind", bound=ZarrStore)


def open_store(
    work: Work, config: SweepConfig, kind: type[_Kind] = ZarrStore, *, strict: bool = False
) -> tuple[_Kind, dict[int, PatchPool]]:
    """The store of a sweep, made or continued by the one process that may, and its patches.

    Args:
      work: the sweep, checked.
      config: where it goes and what identifies it.
      kind: of store.
      strict: whether methods that are new or changed are refused, and images that changed stay as
        they were: others are at them.
    """
    goes_on = not config.overwrite and is_store(config.out)
    if not goes_on:
        check_hours(work, config.max_hours)
    # Before the store, so that a pool that cannot be made leaves nothing behind.
    pools = {side: _kept(config, side) or work.make_pool(side) for side in work.patch_sides()}
    store = kind.create_or_resume(
        config.out,
        plan=work.plan(),
        entries=[entry_of(work, job) for job in work.jobs],
        config=identity(work, config),
        attrs=attributes(work) | config.storage.attributes() | ({} if goes_on else sizes_of(work)),
        rank=work.bundle.segmenter.input.rank,
        run=uuid.uuid4().hex,
        version=VERSION,
        overwrite=config.overwrite,
        strict=strict,
    )
    for side, pool in pools.items():
        write_pool(config.out, side, pool)
    if goes_on and not strict:
        forget_changed(work, store)
    return store, pools


def join_store(work: Work, config: SweepConfig) -> dict[int, PatchPool]:
    """The patches of a store that another process made; ConfigError where it is another sweep's."""
    entries = [entry_of(work, job) for job in work.jobs]
    plan, told = work.plan(), identity(work, config)
    ZarrStore.open(config.out).changes(entries, plan, told, strict=True)
    pools = {side: read_pool(config.out, side) for side in work.patch_sides()}
    return {side: pool for side, pool in pools.items() if pool is not None}


def times_of(store: ZarrStore) -> dict[str, dict[str, float]]:
    """Label -> explanations whose time is known, and the seconds that they took."""
    found = {}
    for label in store.labels:
        seconds = store.seconds(label).astype(float)
        found[label] = {"explanations": int((seconds > 0).sum()), "seconds": float(seconds.sum())}
    return found


def identity(work: Work, config: SweepConfig) -> dict[str, Any]:
    """What must be equal for a sweep to be continued, as JSON values."""
    return config.identity() | model_identity(work)


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
        "architecture": _plain(bundle.card.config) if bundle.card else {},
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
