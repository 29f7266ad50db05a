"""Stores of made-up maps and a model of single pixels: it is known which method is best."""

import dataclasses

import numpy as np

import jaxseg_xai
from jaxseg_xai.core.types import Explanation, Sample, SegmentTarget, Status
from jaxseg_xai.explainers import EXPLAINERS
from jaxseg_xai.store import Entry, MemoryStore, PlanRow
from tests.facade.pixels import model_of_pixels

COUNT, SIDE = 6, 16
METRIC_SETTINGS = [{"metric": "deletion", "num_steps": 4, "block_size": 4}, "energy_inside"]
CLASS = 1


class Pictures:
    """A bright square in each, anywhere."""

    class_names = ("dark", "bright")
    ids = tuple(f"p{i}" for i in range(COUNT))

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        image = 0.3 * rng.random((SIDE, SIDE, 1), np.float32)
        y, x = rng.integers(0, SIDE - 6, 2)
        image[y : y + 5, x : x + 6] += 0.65
        return Sample(id=self.ids[index], image=image)


def maps(image):
    """Label -> a map: the best, its opposite, noise, and nothing at all."""
    noise = np.random.default_rng(int(1e6 * image[0, 0, 0])).random((SIDE, SIDE), np.float32)
    return {
        "right": image[..., 0],
        "wrong": 1 - image[..., 0],
        "noise": noise,
        "flat": np.zeros((SIDE, SIDE), np.float32),
        "unsure": noise,
    }


def store_of(*, run="run", model="pixels", labels=()):
    """A store with those maps of every picture."""
    source = Pictures()
    metas = {name: EXPLAINERS.get("input_x_gradient").meta for name in maps(source[0].image)}
    metas["unsure"] = EXPLAINERS.get("confidence").meta
    metas = {name: metas[name] for name in labels or metas}
    rows = [PlanRow(image_index=i, image_id=n, class_index=CLASS) for i, n in enumerate(source.ids)]
    store = MemoryStore.create_or_resume(
        entries=[
            Entry(label=n, method="made-up", meta=dataclasses.asdict(m) | {"needs": []})
            for n, m in metas.items()
        ],
        plan=dict.fromkeys(metas, rows),
        config={"model": "models/gone", "data": {"source": "gone"}, "batch_size": 4},
        attrs={"model": model, "class_names": ["dark", "bright"]},
        run=run,
    )
    store.set_attribute("times", {"right": {"explanations": 6, "seconds": 3.0}})
    for i in range(COUNT):
        image = source[i].image
        target = SegmentTarget(
            class_index=np.int32(CLASS),
            region=np.ones((SIDE, SIDE), bool),
            reference=image[..., 0] > 0.5,
        )
        for label in metas:
            found = Explanation(attribution=maps(image)[label], status=np.int32(Status.OK))
            store.write(label, i, found, target)
    if "right" in metas:
        store.fail("right", COUNT - 1, "it broke")
    store.flush()
    return store


def judged(store, folder, metrics=METRIC_SETTINGS, **options):
    given = {"model": model_of_pixels(), "data": Pictures(), "progress": False}
    return jaxseg_xai.judge(store, out=folder, metrics=metrics, **given | options)


def rows_of(table, **wanted):
    return [row for row in table if all(row[name] == value for name, value in wanted.items())]
