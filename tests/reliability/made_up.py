"""Stores of made-up sweeps: what is in them is chosen, no model runs."""

import dataclasses

import numpy as np

from jaxseg_xai.core.types import Explanation, SegmentTarget, Status
from jaxseg_xai.store import Entry, PlanRow, StoredImage, ZarrStore

CLASS_NAMES = ("background", "disc")
SETTINGS = {
    "misure": {"tau": 0.9, "num_iterations": 3},
    "misure_paper": {"tau": 0.9},
    "confidence": {"band_width": 2},
    "ate": {"block_size": 8},
}
#: What the methods say of themselves.
META = {
    "misure": {"figure": "regions", "features": True, "revision": 1},
    "misure_paper": {"figure": "regions", "features": True, "revision": 1},
    "confidence": {
        "figure": "uncertainty",
        "features": True,
        "sureness": {"confidence": 1, "entropy": -1},
        "revision": 1,
    },
    "ate": {"figure": "effects", "features": False, "revision": 1},
}
_SIZE = 10  # pixels of the truth


def maps_of(dice):
    """A label map [4, 20] and a prediction of it with about this Dice."""
    truth, prediction = np.zeros((2, 4, 20), np.int16)
    overlap = round(dice * _SIZE)
    truth[0, :_SIZE] = 1
    prediction[0, _SIZE - overlap : 2 * _SIZE - overlap] = 1
    return truth, prediction


def explanation(method, dice, rng, status=Status.OK, informative=True):
    """Scores that tell the Dice, up to noise, or nothing at all."""
    seen = dice if informative else rng.random()
    seen = seen + rng.normal(0, 0.15)
    if method == "confidence":
        noisy = seen + rng.normal(0, 0.3)
        scores = {"confidence": noisy, "entropy": -noisy, "area_target": 30.0}
    else:
        scores = {"num_dilations": np.round(9 - 8 * seen), "dice_minimal": rng.random()}
        scores |= {"loss_tv": 0.0, "never": np.nan, "dice_start": seen}
    return Explanation(
        attribution=np.zeros((4, 20), np.float32),
        status=np.int32(status),
        scores={name: np.float32(score) for name, score in scores.items()},
    )


def store(
    path,
    dices,
    *,
    prefix="im",
    labels=("misure", "confidence"),
    methods=None,
    statuses=None,
    pending=0,
    truth=True,
    informative=True,
    seed=0,
    settings=None,
    meta=META,
    without=(),
    attrs=None,
    config=None,
):
    """A store of one image per true Dice (of 0, 0.1, ... 1), the last `pending` not computed.

    `methods` are those of the labels, where they have other names; `without` names scores that are
    left out.
    """
    rng = np.random.default_rng(seed)
    rows = [
        PlanRow(image_index=i, image_id=f"{prefix}{i}", class_index=1) for i in range(len(dices))
    ]
    method_of = dict(zip(labels, labels, strict=True)) | (methods or {})
    settings = SETTINGS | (settings or {})
    made = ZarrStore.create_or_resume(
        path,
        entries=[
            Entry(label=label, method=name, settings=settings[name], meta=meta.get(name, {}))
            for label, name in method_of.items()
        ],
        plan=dict.fromkeys(labels, rows),
        config={"weights_checksum": 5, "dtype": "float32", "pad": "refuse"} | (config or {}),
        attrs={"model": "unet", "class_names": CLASS_NAMES} | (attrs or {}),
    )
    target = SegmentTarget(
        class_index=np.int32(1), region=np.ones((4, 20), bool), reference=np.ones((4, 20), bool)
    )
    for row, dice in enumerate(dices[: len(dices) - pending]):
        of_image, prediction = maps_of(dice)
        image = StoredImage(
            id=f"{prefix}{row}",
            image=np.zeros((4, 20, 3), np.uint8),
            labels=of_image if truth else None,
            prediction=prediction,
        )
        made.write_image(row, image)
        status = (statuses or {}).get(row, Status.OK)
        for label, method in method_of.items():
            if status == Status.FAILED:
                made.fail(label, row, "corrupt")
                continue
            found = explanation(method, dice, rng, status, informative)
            scores = {name: v for name, v in found.scores.items() if name not in without}
            made.write(label, row, dataclasses.replace(found, scores=scores), target)
    made.flush()
    return path


def dices(number, seed=0):
    return np.random.default_rng(seed).integers(0, 11, number) / 10
