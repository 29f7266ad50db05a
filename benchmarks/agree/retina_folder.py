"""The public retina U-Net and parts of DRIVE photographs as folders of a user's own.

    python -m benchmarks.agree.retina_folder --real FOLDER --out runs/retina

writes `retina/` (model.json and weights), `images/` and `labels/` (PNG, 1 is a vessel), from the
files that `benchmarks.agree.published` reads.
"""

import argparse
from pathlib import Path

import numpy as np
from flax import nnx
from PIL import Image

from benchmarks.agree.published import load_retina
from jaxseg_xai.models.folder import save_model

#: Side of a part, and where parts begin: around the middle, where there are vessels.
_SIDE = 64
_CORNERS = [(y, x) for y in (200, 300) for x in (180, 320)]


def write(real: Path, out: Path) -> None:
    """Write the folders."""
    bundle = load_retina(real)
    assert bundle.card is not None
    model = bundle.card.architecture_config().build(nnx.Rngs(0))
    nnx.update(model, bundle.variables)
    save_model(out / "retina", model, bundle.card)
    with np.load(real / "retina10.npz") as file:
        photos, masks = file["images_u8"], (file["masks"] > 0).astype(np.uint8)
    for folder, arrays in (("images", photos), ("labels", masks)):
        (out / folder).mkdir(parents=True, exist_ok=True)
        for number, array in enumerate(arrays):
            for y, x in _CORNERS:
                part = Image.fromarray(array[y : y + _SIDE, x : x + _SIDE])
                part.save(out / folder / f"{number}_{y}_{x}.png")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--real", type=Path, required=True, help="folder of the retina's files")
    parser.add_argument("--out", type=Path, default=Path("runs/retina"))
    options = parser.parse_args()
    write(options.real, options.out)


if __name__ == "__main__":
    main()
