"""MiSuRe of volumes: an organ in a box, through windows and as a whole."""

import dataclasses
from typing import Any

from benchmarks.harness.settings import Settings
from benchmarks.methods.ate_3d import organ_in_box, random_unet3d
from benchmarks.methods.base import Prepared
from benchmarks.methods.misure import MisureCase
from jaxseg_xai.explainers.misure.paper import MisurePaper
from jaxseg_xai.models import Bundle


@dataclasses.dataclass(frozen=True, kw_only=True)
class MisureVolumeCase(MisureCase):
    """Both stages of the published loss for `lanes` volumes; also without windows."""

    def open(self, settings: Settings) -> Bundle:
        return random_unet3d(settings)

    def prepare(self, settings: Settings, bundle: Bundle, explainer: Any) -> Prepared:
        inputs = organ_in_box(settings, bundle, explainer.region_side, settings.lanes)
        whole = dataclasses.replace(explainer, windows=())
        return {"ours": (explainer, inputs), "ours, no windows": (whole, inputs)}


MISURE_3D = MisureVolumeCase(
    references=("misure_paper_volume",),
    name="misure-3d",
    about="MiSuRe of an organ in a box of side 24 of a volume, 10 iterations",
    defaults=Settings(model="random", size=96, lanes=1, width=8),
    quick=Settings(model="random", size=32, lanes=1, width=2),
    # Random networks need all of the volume to find most of the organ again.
    explainer=MisurePaper(
        tau=0.5, max_dilations=3, num_iterations=10, region_side=24, windows=(48, 64)
    ),
    shorter={"num_iterations": 3, "region_side": 8, "windows": (16,)},
)
