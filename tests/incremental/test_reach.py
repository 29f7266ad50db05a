"""What a plan says a block can change, against what it does change."""

import jax
import numpy as np
import pytest

from jaxseg_xai.incremental import make_plan
from tests.incremental import networks, tables

#: Layers in which every pixel that can be reached is: positive weights, sums and maxima.
TIGHT = [
    "conv-dilated",
    "conv-asymmetric",
    "conv-cropping",
    "avg-pool",
    "flip",
    "crop",
    "pad-edge",
    "pad-reflect",
    "take-rows",
    "bilinear-aligned-3",
    "resize-nearest",
    "repeat",
]
#: Layers in which some weight, or the other image axis, may hide a change.
SOUND = ["conv-strides", "max-pool-same", "transposed-strided", "resize-cubic", "pixel-shuffle"]
SHAPE = (14, 12, 2)


def rows_changed(predict, variables, rows):
    """bool [bands, H]: output rows that differ when a band of `rows` input rows does."""
    rng = np.random.default_rng(1)
    image = rng.uniform(1, 2, size=SHAPE).astype(np.float32)
    bands = [image]
    for start in range(0, SHAPE[0], rows):
        bands.append(image.copy())
        bands[-1][start : start + rows] += 5
    logits = jax.jit(predict, compiler_options=networks.QUICK)(variables, np.stack(bands))
    logits = np.asarray(logits)
    return np.any(logits[1:] != logits[0], axis=(2, 3))


@pytest.mark.parametrize("name", TIGHT + SOUND)
def test_reaches_are_the_rows_that_change(name):
    predict, variables = networks.network(0, [tables.WINDOWED[name]], how="nearest")
    variables = jax.tree.map(abs, variables)
    plan = make_plan(predict, variables, SHAPE, block=(3, 3), region=(1, 1), num_patches=1)
    changed, reaches = rows_changed(predict, variables, 3), plan.reaches["y"]
    assert not (changed & ~reaches).any()
    if name in TIGHT:
        for mine, said in zip(changed, reaches, strict=True):
            # Reaches are intervals: what lies between two changed rows counts.
            assert (np.flatnonzero(mine)[[0, -1]] == np.flatnonzero(said)[[0, -1]]).all()
