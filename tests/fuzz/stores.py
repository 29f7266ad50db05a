"""Stores of explanations: in shards, and in a journal as a sweep leaves it that was cut off."""

from pathlib import Path

import numpy as np

from jaxseg_xai.core.errors import JaxsegError
from jaxseg_xai.core.types import Explanation, SegmentTarget, Status
from jaxseg_xai.store import Entry, PlanRow, StoredImage, ZarrStore
from tests.fuzz.target import Refused, Target

SHAPE, NUM_ROWS = (6, 5), 3
LABEL = "misure"


def write(path: Path, is_closed: bool) -> None:
    """A store with one row of each kind: explained, failed, not yet computed."""
    store = ZarrStore.create_or_resume(
        path,
        entries=(Entry(label=LABEL, method="misure", settings={"tau": 0.9}),),
        plan={LABEL: [PlanRow(image_index=i, image_id=f"i{i}", class_index=1) for i in range(3)]},
        config={"seed": 3},
        attrs={"class_names": ("background", "disc")},
        run="first",
    )
    mask = np.arange(30).reshape(SHAPE) % 3 == 0
    target = SegmentTarget(class_index=np.int32(1), region=mask, reference=mask)
    found = Explanation(
        attribution=np.linspace(0, 1, 30, dtype=np.float32).reshape(SHAPE),
        status=np.int32(Status.OK),
        scores={"dice": np.float32(0.5)},
        maps={"prediction": mask.astype(np.int32), "keep": mask},
        traces={"loss": np.arange(7.0)},
    )
    image = np.zeros((*SHAPE, 3), np.uint8)
    store.write_image(0, StoredImage(id="i0", image=image, prediction=mask.astype(np.int32)))
    store.write(LABEL, 0, found, target)
    store.fail(LABEL, 1, "the image is damaged")
    store.flush()
    if is_closed:
        store.close()


def read(path: Path) -> None:
    """All of a store, row by row: what one row lacks keeps none of the others."""
    store = ZarrStore.open(path)
    reasons = store.damage()
    rows = store.rows()
    assert len(rows) == NUM_ROWS, len(rows)
    for row in rows:
        for what in (store.read, store.read_image):
            try:
                what(row)
            except JaxsegError as error:
                reasons.append(str(error))
    if reasons:
        raise Refused([f"{path}: {reason}" for reason in reasons])


def store(is_closed: bool) -> Target:
    return Target(
        lambda folder: write(folder / "s.zarr", is_closed), lambda folder: read(folder / "s.zarr")
    )


STORES: dict[str, Target] = {"store": store(True), "store-journal": store(False)}
