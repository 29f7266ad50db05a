"""Every test runs on several devices, so that sharding cannot go untested."""

from pathlib import Path

from jaxseg_xai.parallel.mesh import use_cpu_cores

NUM_DEVICES = 4
use_cpu_cores(NUM_DEVICES)

#: Third-party images and weights, not part of the repository.
REAL = Path(__file__).resolve().parents[2] / "shared" / "reference" / "real"
