"""The cases by name. A further one is a file beside these and a line in `CASES`."""

from benchmarks.cases import (
    ate,
    ate_regions,
    ate_screen,
    attribution,
    components,
    misure,
    misure_lanes,
    misure_quality,
    scaling,
    sweep,
    unet_forward,
)
from benchmarks.cases.base import Case
from benchmarks.settings import Defaults

_ALL = (
    Case(
        name="unet-forward",
        about="logits of a batch of images",
        defaults=Defaults(model="reference", size=256, lanes=16),
        quick=Defaults(model="reference", size=128, lanes=8),
        run=unet_forward.run,
    ),
    Case(
        name="ate",
        about="PdCR's ATE of 8x8 blocks on a region of side 32",
        defaults=Defaults(model="reference", size=256, lanes=1, blocks=256),
        quick=Defaults(model="reference", size=128, lanes=1, blocks=8),
        run=ate.run,
        split_lanes=False,  # it is the interventions that are dealt out
    ),
    Case(
        name="ate-512",
        about="the same on images four times as large",
        defaults=Defaults(model="reference", size=512, lanes=1, blocks=256),
        quick=Defaults(model="random", size=512, lanes=1, width=4, blocks=8),
        run=ate.run,
        split_lanes=False,
    ),
    Case(
        name="ate-wide",
        about="the same with a U-Net of width 64",
        defaults=Defaults(model="random", size=256, lanes=1, width=64, blocks=32),
        quick=Defaults(model="random", size=128, lanes=1, width=32, blocks=4),
        run=ate.run,
        split_lanes=False,
    ),
    Case(
        name="occlusion",
        about="occlusion: all 8x8 blocks replaced by 0, once each",
        defaults=Defaults(model="reference", size=256, lanes=1),
        quick=Defaults(model="reference", size=128, lanes=1),
        run=ate.run_occlusion,
        split_lanes=False,
    ),
    Case(
        name="ate-screen",
        about="the ATE's gradient and PdCR's random patches as screens for the exact ATE",
        defaults=Defaults(model="reference", size=128, lanes=2),
        quick=Defaults(model="triangle", size=64, lanes=2),
        run=ate_screen.run,
        has_peers=False,
    ),
    Case(
        name="ate-regions",
        about="the ATE on four regions in one pass and region by region, on some of the blocks",
        defaults=Defaults(model="reference", size=128, lanes=1, blocks=16),
        quick=Defaults(model="reference", size=128, lanes=1, blocks=4),
        run=ate_regions.run,
        has_peers=False,
        split_lanes=False,
    ),
    Case(
        name="components",
        about="the ATE of a network's layers, channels and skip connections",
        defaults=Defaults(model="reference", size=128, lanes=1),
        quick=Defaults(model="triangle", size=64, lanes=1),
        run=components.run,
        split_lanes=False,
    ),
    Case(
        name="misure",
        about="MiSuRe, 100 iterations",
        defaults=Defaults(model="reference", size=128, lanes=32),
        quick=Defaults(model="reference", size=128, lanes=4),
        run=misure.run,
    ),
    Case(
        name="misure-512",
        about="the same of a small object in a large image, through windows, 20 iterations",
        defaults=Defaults(model="reference", size=512, lanes=4),
        quick=Defaults(model="random", size=256, lanes=2, width=4),
        run=misure.run_small_objects,
    ),
    Case(
        name="misure-lanes",
        about="how busy the lanes are with images that need different numbers of steps",
        defaults=Defaults(model="triangle", size=64, lanes=256),
        quick=Defaults(model="triangle", size=64, lanes=8),
        run=misure_lanes.run,
        has_peers=False,
    ),
    Case(
        name="misure-quality",
        about="area, iterations and seconds of MiSuRe's settings",
        defaults=Defaults(model="reference", size=128, lanes=8),
        quick=Defaults(model="triangle", size=64, lanes=2),
        run=misure_quality.run,
    ),
    Case(
        name="grad-cam",
        about="Seg-Grad-CAM at the bottleneck",
        defaults=Defaults(model="reference", size=128, lanes=32),
        quick=Defaults(model="reference", size=128, lanes=4),
        run=attribution.run_grad_cam,
    ),
    Case(
        name="integrated-gradients",
        about="integrated gradients from a black image, 50 nodes",
        defaults=Defaults(model="reference", size=128, lanes=16),
        quick=Defaults(model="reference", size=128, lanes=4),
        run=attribution.run_integrated_gradients,
    ),
    Case(
        name="confidence",
        about="entropy, and agreement of the segments of eight views",
        defaults=Defaults(model="reference", size=128, lanes=32),
        quick=Defaults(model="reference", size=128, lanes=4),
        run=attribution.run_confidence,
    ),
    Case(
        name="sweep",
        about="images to a store on disk, end to end",
        defaults=Defaults(model="reference", size=128, lanes=8),
        quick=Defaults(model="triangle", size=64, lanes=4),
        run=sweep.run,
        has_peers=False,
        all_devices=True,
    ),
    Case(
        name="scaling",
        about="devices, lanes, image size, number of blocks; memory; roofline",
        defaults=Defaults(model="reference", size=128, lanes=16),
        quick=Defaults(model="random", size=64, lanes=4, width=8),
        run=scaling.run,
        has_peers=False,
    ),
)

#: Name -> case, in the order of `list`.
CASES: dict[str, Case] = {case.name: case for case in _ALL}
