"""On Triangle-Cue the cause is known: a triangle is "cued" because of a marker elsewhere."""

import itertools

import numpy as np
import pytest

import jaxseg_xai
from jaxseg_xai.data.sources.memory import MemorySource
from jaxseg_xai.data.sources.triangle import TriangleCueDataset
from jaxseg_xai.explainers.ate.ate import Ate

CUED, BLOCK = 1, 16


def in_one_block(box):
    """Single-block interventions cannot remove a marker that several blocks share."""
    y0, x0, y1, x1 = box
    return y0 // BLOCK == (y1 - 1) // BLOCK and x0 // BLOCK == (x1 - 1) // BLOCK


@pytest.fixture(scope="module")
def explained():
    """ATE of eight cued triangles: maps [8, 64, 64] and the marker boxes (y0, x0, y1, x1)."""
    dataset = TriangleCueDataset("test", size=64)
    made = ((i, dataset.make(i)[2].marker) for i in range(len(dataset)))
    marked = ((i, box) for i, box in made if box is not None and in_one_block(box))
    boxes = dict(itertools.islice(marked, 8))
    samples = [dataset[i] for i in boxes]
    source = MemorySource(
        [sample.image for sample in samples],
        labels=[sample.labels for sample in samples],
        ids=[sample.id for sample in samples],
    )
    found = jaxseg_xai.explain(
        "triangle-cue",
        source,
        CUED,
        Ate(block_size=BLOCK, num_patches=10),
        region=f"box {BLOCK}",
        target="truth",
        others=dataset,
    )
    return found, list(boxes.values())


def test_the_ate_finds_the_marker(explained):
    found, markers = explained
    assert np.median([one.scores["base_dice"] for one in found]) > 90
    strongest = []
    for one, (y, x, _, _) in zip(found, markers, strict=True):
        ate = one.attribution
        place = np.unravel_index(ate.argmin(), ate.shape)
        if (place[0] // BLOCK, place[1] // BLOCK) == (y // BLOCK, x // BLOCK):
            strongest.append(ate.min())
    assert len(strongest) >= 7
    # Without the marker most of the segmentation is gone.
    assert np.median(strongest) < -80
