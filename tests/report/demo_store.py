"""A small store with every status and kind of figure, for the tests of figures and reports."""

import dataclasses

import numpy as np

from jaxseg_xai.core.types import Explanation, SegmentTarget, Status
from jaxseg_xai.explainers import Meta
from jaxseg_xai.store import SINKS, Entry, PlanRow, StoredImage

EVIL = "<script>alert('x')</script>$\\frac{\" onload=\"alert(1)"
STATUSES = [*Status, Status.OK]
#: One per kind of figure, as a method would describe itself.
METAS = {
    "heat": Meta(
        unit="{outcome}",
        signed=True,
        note="Red: for the class; blue: against it.",
        caption="Outcome {outcome:.0f}, of a black image {baseline_outcome:.0f}.",
        scores={"outcome": "outcome of the image", "baseline_outcome": "of a black image"},
    ),
    "effects": Meta(
        target="reference",
        figure="effects",
        unit="{outcome}",
        signed=True,
        note="Red: {outcome} falls, so the block's own content helps.",
        caption="{outcome} in the region: {base_dice:.1f} {unit}",
        scores={"base_dice": "Dice of the image"},
    ),
    "regions": Meta(
        figure="regions",
        unit="level; the region is above 0.5",
        signed=False,
        caption="{num_dilations:.0f} dilations, Dice minimal {dice_minimal:.3f}",
    ),
    "uncertainty": Meta(
        figure="uncertainty",
        unit="normalised entropy",
        signed=False,
        caption="Confidence {confidence:.3f}, entropy {entropy:.3f}",
        titles={"attribution": "Entropy of the classes"},
    ),
    "parts": Meta(
        target="reference", figure="parts", unit="{outcome}", signed=True, needs={"others"}
    ),
}
SETTINGS = {
    "heat": {"outcome": "summed_logits"},
    "effects": {"threshold": 0.02, "outcome": "dice", "confidence": 0.95},
}
SETTINGS |= {"parts": {"outcome": "soft_dice"}}
PARTS = {
    "names": ["encoder/0", "encoder/0", "encoder/0", "head", "head", "encoder/0 -> head"],
    "kinds": ["layer", "channel", "channel", "layer", "channel", "skip"],
    "channels": [None, 0, 1, None, 0, None],
}
TRACES = {
    "ate": [-8.0, -5.0, 1.0, 3.0, 3.0, -4.0],
    "standard_error": [1.0, 0.5, 0.2, 0.1, 0.1, np.nan],
    "first_order": [-3.0, -4.0, 1.0, 2.0, 2.0, -4.0],
}


def explanation(kind, shape, status, planes=None):
    """What a method of the kind may find; a box in the middle is what is predicted."""
    axes = np.indices(shape) / np.array(shape).reshape(-1, *(1,) * len(shape))
    inside = np.all(np.abs(axes - 0.5) < 0.25, axis=0)
    if status not in (Status.OK, Status.NOT_REACHED):
        inside = inside & False
    prediction = inside.astype(np.int32) if planes is None else planes
    maps = {"prediction": prediction}
    scores, traces = {}, {}
    attribution = inside * np.where(axes[0] < 0.5, -2.0, 1.0)
    if kind == "heat":
        scores = {"outcome": 900.0, "baseline_outcome": -100.0}
        traces = {"deletion": np.array([1.0, 0.5, 0.25, np.nan], np.float32)}
    if kind == "effects":
        scores = {"num_positive": 1.0, "num_negative": 2.0, "num_zero": 3.0, "base_dice": 88.0}
        traces = {"histogram": np.array([0, 1, 1, 0, 3, 0, 1, 0, 0], np.float32)}
        maps |= {"significant": inside & (axes[0] < 0.5)}
        maps |= {"half_width": (inside * 0.5).astype(np.float32)}
    if kind == "regions":
        attribution = inside * 0.7
        maps |= {"sufficient_region": inside, "minimal_region": inside}
        maps |= {"masked_prediction": prediction}
        scores = {"num_dilations": 3.0, "dice_minimal": 0.95, "area_target": float(inside.sum())}
    if kind == "uncertainty":
        attribution = abs(attribution) / 2
        maps |= {"tta_disagreement": (inside * 0.5).astype(np.float32)}
        scores = {"confidence": 0.875, "entropy": 0.25}
    if kind == "parts":
        attribution, scores = None, {"base_outcome": 97.0}
        traces = {name: np.array(values, np.float32) for name, values in TRACES.items()}
    return Explanation(
        attribution=None if attribution is None else attribution.astype(np.float32),
        status=np.int32(status),
        maps=maps,
        scores=scores,
        traces=traces,
    )


def entry(kind, label=""):
    """As a sweep would store it, under the kind's name where no label is given."""
    meta = dataclasses.asdict(METAS[kind]) | {"needs": sorted(METAS[kind].needs)}
    return Entry(
        label=label or kind,
        method=f"a {kind} method",
        settings=SETTINGS.get(kind, {}),
        meta=meta,
        describe=PARTS if kind == "parts" else {},
    )


def nested_planes(shape):
    """Whole tumour, core and enhancing, bool [*S, 3]: each in the one before, of many sizes.

    The core and the enhancing part share their border at one side.
    """
    axes = np.indices(shape) / np.array(shape).reshape(-1, *(1,) * len(shape)) - 0.5
    far = np.sqrt(np.sum(axes**2, axis=0))
    core = np.sqrt(np.sum((axes + 0.05) ** 2, axis=0)) < 0.24
    return np.stack([far < 0.4, core, core & (axes[-1] < 0)], axis=-1)


def build(
    shape=(40, 40), kinds=tuple(METAS), *, evil=EVIL, sink="memory", path="", planes=None, names=()
):
    """Rows of every status (the last OK one without an image), of every kind.

    What is explained is the upper half, or class 1 of the planes in it.
    """
    rows = [
        PlanRow(image_index=i, image_id=evil if i == 0 else f"im{i}", class_index=1 + i % 2)
        for i in range(len(STATUSES) + 1)
    ]
    store = SINKS.get(sink).create_or_resume(
        path,
        entries=[entry(kind) for kind in kinds],
        plan=dict.fromkeys(kinds, rows),
        config={"model": "unet", "note": evil},
        attrs={
            "seed": 7,
            "versions": {"jax": "0.1"},
            "class_names": list(names) or ["background", evil],
        },
        rank=len(shape),
        run="monday",
        version="1.2.3",
    )
    region = np.zeros(shape, bool)
    region[: shape[0] // 2] = True
    reference = region if planes is None else planes[..., 1]
    rng = np.random.default_rng(0)
    for row, status in enumerate(STATUSES):
        if row < len(STATUSES) - 1:
            image = rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
            prediction = region.astype(np.int16) if planes is None else planes
            store.write_image(row, StoredImage(id=f"im{row}", image=image, prediction=prediction))
        for kind in kinds:
            if status in (Status.FAILED, Status.EMPTY_IMAGE):
                store.fail(kind, row, f"{evil} is corrupt", status)
                continue
            target = SegmentTarget(class_index=np.int32(1), region=region, reference=reference)
            store.write(kind, row, explanation(kind, shape, status, planes), target)
    store.flush()
    return store
