"""Every test runs on several devices, so that sharding cannot go untested."""

from pathlib import Path

import numpy as np
import pytest

from jaxseg_xai.parallel.mesh import use_cpu_cores

NUM_DEVICES = 4
use_cpu_cores(NUM_DEVICES)

REFERENCE = Path(__file__).parent / "reference"
#: Third-party images and weights, not part of the repository.
REAL = Path(__file__).resolve().parents[2] / "shared" / "reference" / "real"


@pytest.fixture(scope="session")
def triangles():
    """Images float32 [8, 128, 128, 3], masks bool [8, 128, 128], logits float32 of the torch net."""
    with np.load(REFERENCE / "triangle8.npz") as file:
        return (
            (file["images_u8"] / 255).astype(np.float32),
            file["masks"] > 0,
            file["logits"],
        )
