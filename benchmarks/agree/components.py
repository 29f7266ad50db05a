"""Effects of a network's parts."""

import jax
import numpy as np

from benchmarks.agree.kind import Kind, Ours, Subject
from benchmarks.agree.verdict import Bound, Validation, all_of, judge
from benchmarks.arrays import Arrays, part_name
from jaxseg_xai.core.segmenter import Dtype
from jaxseg_xai.core.types import Explanation

#: Root mean square of the difference over all layers, all channels or all skip connections, exact
#: and first order, as a share of that of the effects: rounding of the soft Dice; gradients at
#: kinks of ReLUs. In bfloat16 on a CPU 0.023 and 0.17; tensorfloat32 not yet measured.
_TOLERANCES: dict[Dtype, dict[str, float]] = {
    "float32": {"effects": 1e-5, "first_order": 3e-3},
    "tensorfloat32": {"effects": 0.1, "first_order": 0.4},
    "bfloat16": {"effects": 0.1, "first_order": 0.4},
}
#: In points: a soft Dice of up to 100 is rounded by about 1e-5, however small the effects.
_ROUNDING = 1e-4
_WHY = {
    "effects": "rounding of the soft Dice; a sign gives twice the effects",
    "first_order": "gradients at kinks of ReLUs; a sign gives twice the effects",
}
#: On CPUs the peers intervene on every so many-th channel. Elsewhere on all, as the tuned one needs
#: the full batches to be fast.
_EVERY = 16


def every() -> int:
    """Of so many channels of a layer the peers take the first."""
    return _EVERY if jax.default_backend() == "cpu" else 1


class Components(Kind):
    """Compared over all layers, all channels and all skip connections.

    Of the channels that a peer intervened on: its `asked` bool [N, parts].
    """

    peer = "components"

    def arrays(self, ours: Ours, found: Explanation) -> Arrays:
        bundle, images = ours.bundle, ours.inputs.images
        about = ours.explainer.describe(bundle.segmenter, bundle.variables, images.shape[1:])
        names = [part_name(*part) for part in zip(about["names"], about["channels"], strict=True)]
        return {
            "parts": np.tile(np.array(names), (len(images), 1)),
            "effects": np.asarray(found.traces["ate"], np.float64),
            "first_order": np.asarray(found.traces["first_order"], np.float64),
        }

    def compare(self, found: Arrays, expected: Arrays, subject: Subject) -> Validation:
        if not np.array_equal(found["parts"], expected["parts"]):
            return judge(Bound("other parts", 1.0, 0.0), why="the network has the same for both")
        kinds = np.array([_kind(name) for name in expected["parts"][0]])
        asked, verdicts = expected["asked"][0], {}
        for what, tolerance in _TOLERANCES[subject.dtype].items():
            for kind in dict.fromkeys(kinds.tolist()):
                chosen = (kinds == kind) & (asked | (what != "effects"))
                ours, wanted = (result[what][:, chosen] for result in (found, expected))
                verdicts[f"{what} of every {kind}"] = _alike(ours, wanted, tolerance, _WHY[what])
        return all_of(verdicts)


def _kind(part: str) -> str:
    if "->" in part:
        return "skip"
    return "channel" if part.rpartition("/")[2].isdigit() else "layer"


def _alike(found: np.ndarray, expected: np.ndarray, share: float, why: str) -> Validation:
    """Effects [N, parts]; the verdict on the image that is nearest to its bound."""
    off, size = (np.sqrt(np.mean(np.square(x), axis=1)) for x in (found - expected, expected))
    off = np.where(np.isfinite(off), off, np.inf)
    bound = np.fmax(share * size, _ROUNDING)
    worst = np.argmax(off / bound)
    return judge(
        Bound("points, root mean square", float(off[worst]), float(bound[worst])),
        why=why,
        measured={"parts": float(found.shape[1])},
    )
