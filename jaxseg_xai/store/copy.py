"""A store in another place: from memory to disk."""

import os

from jaxseg_xai.core.types import Explanation, SegmentTarget, Status
from jaxseg_xai.store.base import Store
from jaxseg_xai.store.records import PlanRow
from jaxseg_xai.store.zarr_store import ZarrStore


def copy_store(store: Store, path: str | os.PathLike[str]) -> ZarrStore:
    """Write all of a store to a new one on disk.

    Args:
      store: what to copy.
      path: folder of the new store.

    Raises:
      JaxsegError: `path` cannot be written, or holds something else.
    """
    rows = {label: store.rows(label) for label in store.labels}
    copied = ZarrStore.create_or_resume(
        path,
        entries=[store.entry(label) for label in store.labels],
        plan={
            label: [
                PlanRow(
                    image_index=row.image_index,
                    image_id=row.image_id,
                    class_index=row.class_index,
                    region_name=row.region_name,
                )
                for row in of_label
            ]
            for label, of_label in rows.items()
        },
        config=store.attrs["config"],
        attrs=store.attrs,
        rank=store.rank,
    )
    everything = [row for of_label in rows.values() for row in of_label]
    for index in dict.fromkeys(row.image_index for row in everything):
        image = store.read_image(index)
        if image is not None:
            copied.write_image(index, image)
    for row in everything:
        copied.run, copied.version = row.run, row.version
        if row.status is Status.FAILED or row.status is Status.EMPTY_IMAGE:
            copied.fail(row.label, row.number, row.reason, row.status)
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
            copied.write(row.label, row.number, explanation, target)
    copied.flush()
    return copied
