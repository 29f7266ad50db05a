"""Stores of made-up sweeps: what is in them is chosen, no model runs."""

import numpy as np

from jaxseg_xai.core.types import Explanation, SegmentTarget, Status
from jaxseg_xai.store.store import ExplanationStore, PlanRow

CLASS_NAMES = ("background", "disc")
PARAMETERS = {
    "misure": {"tau": 0.9, "num_iterations": 3},
    "misure_paper": {"tau": 0.9},
    "confidence": {"band_width": 2},
}
_SIZE = 10  # pixels of the truth


def maps_of(dice):
    """A label map [4, 20] and a prediction of it with about this Dice."""
    truth, prediction = np.zeros((2, 4, 20), np.int16)
    overlap = round(dice * _SIZE)
    truth[0, :_SIZE] = 1
    prediction[0, _SIZE - overlap : 2 * _SIZE - overlap] = 1
    return truth, prediction


def explanation(explainer, dice, rng, status=Status.OK, informative=True):
    """Scores that tell the Dice, up to noise, or nothing at all."""
    seen = dice if informative else rng.random()
    seen = seen + rng.normal(0, 0.15)
    if explainer == "confidence":
        noisy = seen + rng.normal(0, 0.3)
        scores = {"confidence": noisy, "entropy": -noisy, "area_target": 30.0}
        traces = {}
    else:
        scores = {"num_dilations": np.round(9 - 8 * seen), "dice_minimal": rng.random()}
        scores |= {"loss_tv": 0.0, "never": np.nan}
        traces = {"dice": np.array([seen, 0.5, 1.0, np.nan], np.float32)}
    return Explanation(
        attribution=np.zeros((4, 20), np.float32),
        status=np.int32(status),
        scores={name: np.float32(score) for name, score in scores.items()},
        traces=traces,
    )


def store(
    path,
    dices,
    *,
    prefix="im",
    explainers=("misure", "confidence"),
    statuses=None,
    pending=0,
    labels=True,
    informative=True,
    seed=0,
    parameters=None,
    attrs=None,
    config=None,
):
    """A store of one image per true Dice (of 0, 0.1, ... 1), the last `pending` not computed."""
    rng = np.random.default_rng(seed)
    rows = [
        PlanRow(image_index=i, image_id=f"{prefix}{i}", class_index=1) for i in range(len(dices))
    ]
    made = ExplanationStore.create_or_resume(
        path,
        plan=dict.fromkeys(explainers, rows),
        config={"weights_checksum": 5, "dtype": "float32", "pad": "refuse"} | (config or {}),
        attrs={"model": "unet", "class_names": CLASS_NAMES} | (attrs or {}),
        parameters=PARAMETERS | (parameters or {}),
    )
    target = SegmentTarget(
        class_index=np.int32(1), region=np.ones((4, 20), bool), reference=np.ones((4, 20), bool)
    )
    for row, dice in enumerate(dices[: len(dices) - pending]):
        truth, prediction = maps_of(dice)
        picture = np.zeros((4, 20, 3), np.uint8)
        made.write_image(row, picture, truth if labels else None, prediction)
        status = (statuses or {}).get(row, Status.OK)
        for name in explainers:
            if status == Status.FAILED:
                made.fail(name, row, "corrupt", flush=False)
                continue
            found = explanation(name, dice, rng, status, informative)
            made.write(name, row, found, target, flush=False)
    made.flush()
    return path


def dices(number, seed=0):
    return np.random.default_rng(seed).integers(0, 11, number) / 10
