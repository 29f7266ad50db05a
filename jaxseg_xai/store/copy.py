"""Stores in another place: from memory to disk, several into one, old ones into new."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.types import Explanation, SegmentTarget, Status
from jaxseg_xai.store.base import Store
from jaxseg_xai.store.pools import copy_pools
from jaxseg_xai.store.records import PlanRow, Row, StoredImage
from jaxseg_xai.store.zarr_store import ZarrStore

#: What of a configuration must be equal for stores to be parts of one: all but which images.
_OF_THE_MODEL = (
    *("architecture", "input", "output", "class_names", "weights_checksum", "program"),
    *("seed", "dtype", "roi", "others_source", "num_patches"),
)


def copy_store(store: Store, path: str | os.PathLike[str]) -> ZarrStore:
    """Write all of a store to a new one on disk; see `merge_stores`."""
    return merge_stores([store], path)


def merge_stores(stores: Sequence[Store], path: str | os.PathLike[str]) -> ZarrStore:
    """Write the rows of stores of one model to a new store on disk.

    A row that several of them have is taken from the first that explains it.

    Args:
      stores: what to write, one or more.
      path: of the new store.

    Raises:
      ConfigError: the stores differ in more than their images.
      JaxsegError: `path` cannot be written, or holds something else.
    """
    first = stores[0]
    for store in stores[1:]:
        _check_same(first, store)
    labels = list(dict.fromkeys(label for store in stores for label in store.labels))
    images: dict[str, tuple[Store, int]] = {}
    chosen: dict[str, dict[str, tuple[Store, Row]]] = {label: {} for label in labels}
    for store in stores:
        rows = store.rows()
        names = {row.image_index: row.image_id for row in rows}
        for index, name in sorted(names.items()):
            if name not in images or images[name][0].read_image(images[name][1]) is None:
                images[name] = store, index
        for row in rows:
            known = chosen[row.label].get(row.id)
            if known is None or _worth(row) > _worth(known[1]):
                chosen[row.label][row.id] = store, row
    numbers = {name: number for number, name in enumerate(images)}
    copied = ZarrStore.create_or_resume(
        path,
        entries=[next(s.entry(label) for s in stores if label in s.labels) for label in labels],
        plan={
            label: [
                PlanRow(
                    image_index=numbers[row.image_id],
                    image_id=row.image_id,
                    class_index=row.class_index,
                    region_name=row.region_name,
                )
                for _, row in of_label.values()
            ]
            for label, of_label in chosen.items()
        },
        config=first.attrs["config"],
        attrs=first.attrs,
        rank=first.rank,
    )
    for name, (store, index) in images.items():
        if (image := _image_of(store, index)) is not None:
            copied.write_image(numbers[name], image)
    for of_label in chosen.values():
        for number, (store, row) in enumerate(of_label.values()):
            _copy_row(store, row, copied, number)
    if isinstance(first, ZarrStore):
        copy_pools(first.path, path)
    copied.close()
    return copied


def _image_of(store: Store, index: int) -> StoredImage | None:
    """An image, with what tells whether it changed since."""
    image = store.read_image(index)
    if image is None or not isinstance(store, ZarrStore):
        return image
    told = store.image_columns()
    return dataclasses.replace(
        image, stamp=str(told["stamp"][index]), content=str(told["content"][index])
    )


def _worth(row: Row) -> int:
    """Explained is better than failed, and that than pending."""
    return 0 if row.status is None else 1 if row.status is Status.FAILED else 2


def _copy_row(store: Store, row: Row, copied: ZarrStore, number: int) -> None:
    copied.run, copied.version = row.run, row.version
    copied.settings[row.label] = row.settings
    if row.status is Status.FAILED or row.status is Status.EMPTY_IMAGE:
        copied.fail(row.label, number, row.reason, row.status)
    elif row.status is not None:
        found = store.read(row)
        explanation = Explanation(
            attribution=found.attribution,
            status=row.status,
            scores=row.scores,
            maps=found.maps,
            traces=found.traces,
        )
        target = SegmentTarget(
            class_index=row.class_index, region=found.region, reference=found.reference
        )
        copied.write(row.label, number, explanation, target, seconds=row.seconds)


def _check_same(one: Store, other: Store) -> None:
    def told(store: Store) -> dict[str, Any]:
        config: Mapping[str, Any] = store.attrs["config"]
        found = {name: config.get(name) for name in _OF_THE_MODEL} | {"rank": store.rank}
        return (
            found
            | {f"{n}.method": store.entry(n).method for n in store.labels}
            | {f"{n}.settings": dict(store.entry(n).settings) for n in store.labels}
        )

    a, b = told(one), told(other)
    for name in a.keys() & b.keys():
        if a[name] != b[name]:
            raise ConfigError(
                f"{one.name} and {other.name} are not parts of one sweep: {name} is {a[name]} and "
                f"{b[name]}; merge those of one model, or compare them with compare-models"
            )
