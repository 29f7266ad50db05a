"""How the small networks that learn the causes are trained, with `jaxseg-xai train`."""

from pathlib import Path

from benchmarks.causes.sets import Known
from jaxseg_xai.cli.main import main
from jaxseg_xai.data.sources.causes import CONTROL, SETS

_UNET = (
    *("--architecture", "unet", "--unet.encoder-channels", "8", "16", "24", "32", "32"),
    *("--unet.decoder-channels", "24", "16", "8", "8", "--learning-rate", "3e-3"),
)
_UNET_3D = (
    *("--architecture", "unet3d", "--unet3d.encoder-channels", "4", "8", "16", "16"),
    *("--unet3d.decoder-channels", "16", "8", "4", "--unet3d.norm", "batch"),
    *("--batch-size", "8", "--learning-rate", "1e-2"),
)
#: Steps, and steps between evaluations, where they are not the usual ones. Two cues that only count
#: together take the longest; that no cue counts, the least.
_STEPS = {
    "marker": (800, 200),
    "both": (1000, 100),
    "volume": (1600, 200),
    "volume-control": (600, 100),
}
_USUAL, _CONTROL = (500, 100), (200, 100)


def train(known: Known, out: Path) -> int:
    """Train the network of a set of `SETS` into a folder of its name; the exit code."""
    return main(["train", *flags(known.name), "--out", str(out / known.model)])


def flags(name: str) -> list[str]:
    """Flags of `jaxseg-xai train` for a set, "marker" or "marker-control"."""
    which = SETS[name.removesuffix(CONTROL)]
    usual = _CONTROL if name.endswith(CONTROL) else _USUAL
    steps, between = _STEPS.get(name, usual)
    return [
        *("--data", f"causes:{name}", "--size", str(which.size), "--steps", str(steps)),
        *("--eval-every", str(between), "--weights-dtype", "float16"),
        *(_UNET if which.rank == 2 else _UNET_3D),
    ]
