"""Maps of models out of the stores of sweeps, and out of folders of PdCR's results."""

import collections
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg_xai.comparison.maps import BlockMap, ModelMaps, block_values, box_of, checksum
from jaxseg_xai.core.display import class_name
from jaxseg_xai.core.errors import ConfigError, DataError
from jaxseg_xai.core.types import Status
from jaxseg_xai.data.pdcr import Result, is_results, read_results
from jaxseg_xai.outcomes import OUTCOMES
from jaxseg_xai.report.parts import tables_of
from jaxseg_xai.report.record import meta_of
from jaxseg_xai.store import Entry, Row, Store, ZarrStore

#: Settings that do not change what an effect means: how it is computed, and what stands elsewhere.
_ELSEWHERE = ("block_size", "threshold", "batch_size", "region_side")


def read_models(
    source: str | os.PathLike[str] | Store, labels: Sequence[str] = ()
) -> list[ModelMaps]:
    """What a store or a folder knows of models: one for each entry with effects of blocks.

    Args:
      source: an open store, the path of one, or a folder of PdCR's results.
      labels: the only entries to read, of a store that has more.

    Raises:
      JaxsegError: it cannot be read, or holds no effects of blocks; the message says what it holds.
    """
    if isinstance(source, Store):
        return _of_store(source, labels)
    if is_results(source):
        return _of_results(Path(source))
    return _of_store(ZarrStore.open(source), labels)


def _of_store(store: Store, labels: Sequence[str]) -> list[ModelMaps]:
    unknown = [label for label in labels if label not in store.labels]
    if unknown:
        raise ConfigError(
            f"{store.name}: no entry {unknown[0]}; it has {', '.join(store.labels)} (--labels)"
        )
    entries = [store.entry(label) for label in store.labels]
    effects = [
        entry
        for entry in entries
        if meta_of(entry).figure == "effects" and entry.label in (labels or store.labels)
    ]
    if not effects:
        found = ", ".join(f"{entry.label} ({entry.method})" for entry in entries)
        raise DataError(
            f"{store.name}: no effects of blocks in {found}; sweep with a method that has them "
            "(--explain ate)"
        )
    of_parts = [entry.label for entry in entries if meta_of(entry).figure == "parts"]
    parts = {
        name if len(of_parts) == 1 else f"{label} {name}": table
        for label in of_parts
        for name, table in tables_of(store, label).items()
    }
    model = Path(str(store.attrs.get("model") or store.name)).name
    return [
        ModelMaps(
            name=model if len(effects) == 1 else f"{model} {entry.label}",
            maps=list(_maps(store, entry)),
            block_size=int(entry.settings["block_size"]),
            threshold=entry.settings.get("threshold"),
            unit=_unit(entry),
            settings={"method": entry.method, **_others(entry)},
            parts=parts,
            not_ok=_not_ok(store, entry.label),
            store=store,
        )
        for entry in effects
    ]


def _maps(store: Store, entry: Entry) -> Iterator[BlockMap]:
    seen = dict(store.attrs.get("config", {})).get("input", {})
    if seen.get("spacing") or seen.get("crop", "none") != "none":
        raise DataError(
            f"{store.name}: the model sees images cropped or at another spacing, and its blocks "
            "are not those of the stored maps; sweep images that are prepared already"
        )
    for row in store.rows(entry.label, done_only=True):
        if row.status is Status.OK:
            yield _map(store, entry, row, seen.get("fixed_size"))


def _map(store: Store, entry: Entry, row: Row, fixed: Sequence[int] | None) -> BlockMap:
    found, picture = store.read(row), store.read_image(row)
    assert found.attribution is not None
    assert found.region is not None
    grid = tuple(fixed or found.attribution.shape)
    side = int(entry.settings["block_size"])
    effects, outside, region = block_values(found.attribution, found.region, side, grid)
    bases = [row.scores[name] for name in ("base_dice", "base_outcome") if name in row.scores]
    return BlockMap(
        image_id=row.image_id,
        class_name=class_name(row.class_index, store.class_names),
        region=row.region_name,
        effects=np.where(outside, effects, 0),
        outside=outside,
        grid=grid,
        box=box_of(region),
        base=bases[0] if bases else np.nan,
        region_sum=checksum(region) or 0,
        picture_sum=checksum(None if picture is None else picture.image),
        row=row,
    )


def _others(entry: Entry) -> dict[str, Any]:
    return {name: value for name, value in entry.settings.items() if name not in _ELSEWHERE}


def _unit(entry: Entry) -> str:
    outcome = entry.settings.get("outcome", "")
    return OUTCOMES.get(outcome).unit if outcome in OUTCOMES else "unit of the outcome"


def _not_ok(store: Store, label: str) -> dict[str, int]:
    counts = store.counts()[label]
    return {name: number for name, number in counts.items() if name != Status.OK.name}


def _of_results(folder: Path) -> list[ModelMaps]:
    by_model: dict[str, list[Result]] = collections.defaultdict(list)
    for result in read_results(folder):
        by_model[result.model].append(result)
    found = []
    for model, results in by_model.items():
        sides = {result.block_size for result in results}
        thresholds = {one.statistics.threshold for one in results if one.statistics is not None}
        if len(sides) > 1 or len(thresholds) > 1:
            different = f"blocks of {sides}" if len(sides) > 1 else f"thresholds {thresholds}"
            raise DataError(f"{folder}: {different} for {model}; give each a folder of its own")
        several = collections.Counter(result.image for result in results)
        found.append(
            ModelMaps(
                name=model,
                maps=[_of_result(one, several[one.image] > 1) for one in results],
                block_size=sides.pop(),
                threshold=float(thresholds.pop()) if thresholds else None,
                unit="points",
            )
        )
    return found


def _of_result(result: Result, several: bool) -> BlockMap:
    top, left, side = result.top, result.left, result.side
    region = np.zeros(result.effects.shape, bool)
    region[top : top + side, left : left + side] = True
    effects, outside, _ = block_values(result.effects, region, result.block_size, region.shape)
    # The published code leaves out what is cut off at the end of an axis.
    rows, columns = (size // result.block_size for size in region.shape)
    outside[rows:], outside[:, columns:] = False, False
    return BlockMap(
        image_id=result.image,
        class_name="",
        region=f"box {top} {left}" if several else "box",
        effects=np.where(outside, effects, 0),
        outside=outside,
        grid=region.shape,
        box=(top, left, side),
        base=np.nan if result.statistics is None else result.statistics.base,
        region_sum=checksum(region) or 0,
    )
