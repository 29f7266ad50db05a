"""Stores with given effects of blocks, as a sweep would leave them."""

import dataclasses

import numpy as np

from jaxseg_xai.core.types import Explanation, SegmentTarget, Status
from jaxseg_xai.explainers.ate.ate import Ate
from jaxseg_xai.store import SINKS, Entry, PlanRow, StoredImage
from tests.report.demo_store import entry as demo_entry
from tests.report.demo_store import explanation as demo_explanation

SIDE = 8
#: Of 4 x 4 blocks; the region touches the four in the middle.
REGION = np.zeros((32, 32), bool)
REGION[8:24, 8:24] = True
OUTSIDE = ~REGION[::SIDE, ::SIDE]


def effects_entry(label="effects", **settings):
    meta = dataclasses.asdict(Ate.meta) | {"needs": []}
    usual = {"block_size": SIDE, "threshold": 0.02, "outcome": "dice", "num_patches": 50}
    return Entry(label=label, method="a method", settings=usual | settings, meta=meta)


def paint(effects, side=SIDE, size=32):
    return np.kron(effects, np.ones((side, side)))[:size, :size].astype(np.float32)


def store_of(
    effects,
    *,
    model="unet",
    entries=None,
    class_names=("background", "lesion"),
    region=REGION,
    images=None,
    statuses=None,
    sink="memory",
    path="",
    config=None,
    parts=False,
):
    """A store with maps of blocks: name of an image -> effects [4, 4], or a map [*S].

    Args:
      effects: the maps; all entries get the same.
      statuses: name of an image -> a status other than OK.
      images: name of an image -> its grey level.
      parts: whether there is an entry of parts, too.
    """
    entries = list(entries or [effects_entry()])
    if parts:
        entries.append(demo_entry("parts"))
    rows = [
        PlanRow(image_index=i, image_id=name, class_index=1, region_name="box")
        for i, name in enumerate(effects)
    ]
    store = SINKS.get(sink).create_or_resume(
        path,
        entries=entries,
        plan={one.label: rows for one in entries},
        config=config or {},
        attrs={"model": model, "class_names": list(class_names)},
    )
    target = SegmentTarget(class_index=np.int32(1), region=region, reference=region)
    for i, (name, values) in enumerate(effects.items()):
        values = paint(values) if values.shape == (4, 4) else values
        image = np.full((*region.shape, 3), (images or {}).get(name, i), np.uint8)
        store.write_image(i, StoredImage(id=name, image=image))
        status = np.int32((statuses or {}).get(name, Status.OK))
        for one in entries:
            found = Explanation(
                attribution=np.where(region, 0, values).astype(np.float32),
                status=status,
                scores={"base_dice": np.float32(90 + i)},
            )
            if one.label == "parts":
                found = demo_explanation("parts", region.shape, status)
            store.write(one.label, i, found, target)
    store.flush()
    return store
