"""KernelSHAP of a volume that a network sees patch by patch, as nnU-Net's do."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from benchmarks.agree.kind import Ours, check
from benchmarks.agree.verdict import Bound, Validation, all_of, judge
from benchmarks.harness.record import PeerSample
from benchmarks.harness.settings import Settings
from benchmarks.methods.ate_3d import organ_in_box, random_unet3d
from benchmarks.methods.base import Prepared, Ran, asked_peers, peer_model
from benchmarks.methods.masks import MasksCase, drawn
from benchmarks.methods.windows import WHOLE
from jaxseg_xai.explainers.perturbation.kernel_shap import KernelShap
from jaxseg_xai.models import Bundle
from jaxseg_xai.ops.sliding import SlidingWindow, tile_starts

_FEW = "ours, few coalitions"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShapVolumeCase(MasksCase):
    """Coalitions of supervoxels of one volume; also with all of its patches evaluated whole.

    That and the peers do `few_samples` of the coalitions.
    """

    few_samples: int = 32
    compared: str = _FEW

    def open(self, settings: Settings) -> Bundle:
        """A random U-Net of volumes, whose patches have 0.4 of a volume's side."""
        bundle = random_unet3d(settings)
        side = settings.size * 2 // 5
        model = SlidingWindow(network=bundle.segmenter.apply, patch=(side,) * 3, axes=(0, 1, 2))
        segmenter = dataclasses.replace(bundle.segmenter, apply=model)
        return dataclasses.replace(bundle, segmenter=segmenter)

    def prepare(self, settings: Settings, bundle: Bundle, explainer: Any) -> Prepared:
        few = dataclasses.replace(explainer, num_samples=self.few_samples)
        inputs = organ_in_box(settings, bundle, explainer.region_side)
        whole = dataclasses.replace(few, region_side=None)
        return {
            "ours": (explainer, inputs),
            _FEW: (few, drawn(bundle, inputs, few)),
            WHOLE: (whole, inputs),
        }

    def peers(self, settings: Settings, ours: Ours) -> dict[str, Callable[[], Any]]:
        """The published way looks at all patches, the tuned one at those that see the region."""
        from benchmarks.peers.sliding import Sliding

        module, inputs, explainer = ours.kind.module(), ours.inputs, ours.explainer
        network, model = peer_model(ours.bundle), ours.bundle.segmenter.apply
        region = inputs.targets.region[0]
        return asked_peers(
            settings,
            network,
            lambda: module.original(Sliding(network, model, None), inputs, explainer),
            lambda fast: module.tuned(Sliding(fast, model, region), inputs, explainer),
        )

    def figures(self, ran: Ran) -> dict[str, Any]:
        """Also how many times faster a coalition is than with all patches, evaluated whole."""
        made, few = (1 + ran.ours[name].explainer.num_samples for name in ("ours", _FEW))
        faster = ran.timings[WHOLE].median / ran.timings["ours"].median * made / few
        every, seen = _num_patches(ran.main)
        row = {"patches": every, "that see the box": seen, "times faster": faster}
        sample = PeerSample(what=f"{few} of {made} coalitions", scale=made / few)
        return {
            "work": {"explanations": 1.0, "coalitions": float(made)},
            "flops": None,
            "flops_of": "not counted: of which patches something is computed depends on the box",
            "series": {"whole volumes": [row]},
            "peer_sample": dict.fromkeys(ran.peers, sample),
        }

    def validate(self, ran: Ran, mesh: Mesh) -> Validation:
        """The peers' maps; with all patches, the outcomes of everybody and of nobody.

        More players can change anything there, so that other coalitions are drawn. Rounding moves
        the supervoxels, which the peers are given: it is not asked what it moves.
        """
        subject = ran.main.subject(ran.main.bundle, ran.settings.dtype, moves=False)
        peers = check(ran.main, jax.device_get(ran.found), ran.peers, subject)
        scores = [ran.results[name].scores for name in ("ours", WHOLE)]
        off = [
            abs(float(scores[0][name][0]) - float(scores[1][name][0]))
            for name in ("outcome", "hidden_outcome")
        ]
        same = judge(
            Bound("points", max(off), 1e-3),
            why="everything shown and everything hidden, in windows and with all patches",
        )
        return all_of(peers | {"whole volumes": same})


def _num_patches(ours: Ours) -> tuple[float, float]:
    """Of the volume, and those that see the box."""
    region, side = ours.inputs.targets.region[0], ours.bundle.segmenter.apply.patch[0]
    first, last = np.argwhere(region).min(0), np.argwhere(region).max(0)
    starts = np.array(tile_starts(len(region), side))
    seen = [np.sum((starts <= b) & (a < starts + side)) for a, b in zip(first, last, strict=True)]
    return float(len(starts) ** 3), float(np.prod(seen))


SHAP_3D = ShapVolumeCase(
    name="shap-3d",
    about="KernelSHAP of an organ in a box of side 24 of a volume that is seen in patches of 64",
    defaults=Settings(model="random", size=160, lanes=1, width=8),
    quick=Settings(model="random", size=80, lanes=1, width=2),
    # The hard Dice of a random network is one of voxels on the threshold.
    explainer=KernelShap(
        outcome="soft_dice", players="superpixels", block_size=80, num_samples=1024, region_side=24
    ),
    shorter={"block_size": 40, "region_side": 8, "num_samples": 64},
)
