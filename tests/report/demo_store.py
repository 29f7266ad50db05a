"""A small store with every status, for the tests of figures and reports."""

import numpy as np

from jaxseg_xai.core.types import Explanation, SegmentTarget, Status
from jaxseg_xai.store.store import ExplanationStore, PlanRow

EVIL = "<script>alert('x')</script>$\\frac{\" onload=\"alert(1)"
STATUSES = [*Status, Status.OK]


def explanation(explainer, shape, status):
    y, x = np.indices(shape) / np.array(shape).reshape(2, 1, 1)
    inside = (abs(y - 0.5) < 0.25) & (abs(x - 0.5) < 0.25)
    if status not in (Status.OK, Status.NOT_REACHED):
        inside = inside & False
    maps = {"prediction": inside.astype(np.int32)}
    scores, traces = {"num_dilations": np.nan}, {}
    attribution = inside * np.where(explainer == "misure", 0.7, np.where(y < 0.5, -2.0, 1.0))
    if explainer == "misure":
        maps |= {"sufficient_region": inside, "masked_prediction": inside.astype(np.int32)}
        scores = {"num_dilations": 3.0, "dice_minimal": 0.95, "area_target": float(inside.sum())}
    if explainer == "confidence":
        maps |= {"tta_disagreement": (inside * 0.5).astype(np.float32)}
        scores = {"confidence": 0.875, "entropy": 0.25, "tta_disagreement": 0.125}
    if explainer == "integrated_gradients":
        scores = {"outcome": 900.0, "baseline_outcome": -100.0, "completeness_gap": 7.0}
    if explainer == "grad_cam":
        attribution, scores = abs(attribution), {"height": 4.0, "width": 5.0}
    if explainer == "ate":
        scores = {"num_positive": 1.0, "num_negative": 2.0, "num_zero": 3.0, "base_dice": 88.0}
        traces = {"histogram": np.array([0, 1, 1, 0, 3, 0, 1, 0, 0], np.float32)}
    return Explanation(
        attribution=attribution.astype(np.float32),
        status=np.int32(status),
        maps=maps,
        scores=scores,
        traces=traces,
    )


def build(path, shape=(40, 40), explainers=("misure", "ate", "cam"), evil=EVIL):
    """Rows of every status (the last OK one without an image), of every explainer."""
    rows = [
        PlanRow(image_index=i, image_id=evil if i == 0 else f"im{i}", class_index=1 + i % 2)
        for i in range(len(STATUSES) + 1)
    ]
    store = ExplanationStore.create_or_resume(
        path,
        plan=dict.fromkeys(explainers, rows),
        config={"model": "unet", "note": evil},
        attrs={"seed": 7, "versions": {"jax": "0.1"}, "class_names": ["background", evil]},
        parameters={"ate": {"threshold": 0.02}},
    )
    region = np.zeros(shape, bool)
    region[: shape[0] // 2] = True
    rng = np.random.default_rng(0)
    for row, status in enumerate(STATUSES):
        if row < len(STATUSES) - 1:
            image = rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
            store.write_image(row, image, prediction=region)
        for name in explainers:
            if status == Status.FAILED:
                store.fail(name, row, f"{evil} is corrupt", flush=False)
                continue
            target = SegmentTarget(class_index=np.int32(1), region=region, reference=region)
            store.write(name, row, explanation(name, shape, status), target, flush=False)
    store.flush()
    return store
