"""Every test runs on several devices, so that sharding cannot go untested."""

import gc
import os
from pathlib import Path

import jax
import pytest

from jaxseg_xai.devices.mesh import use_cpu_cores

NUM_DEVICES = 4
use_cpu_cores(NUM_DEVICES)

#: Third-party images and weights, not part of the repository.
REAL = Path(__file__).resolve().parents[2] / "shared" / "reference" / "real"


def pytest_collection_finish():
    """What the imports made is no garbage, and looking through it again and again takes time."""
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def _optimised(request):
    """Modules marked `optimised` run the programs that a user runs.

    The others run what XLA compiles quickly: compiling takes most of the time of the tests, and
    without most optimisations a third less.
    """
    quick = request.node.get_closest_marker("optimised") is None
    jax.config.update("jax_disable_most_optimizations", quick)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(autouse=True, scope="session")
def _programs(tmp_path_factory):
    """What one test has compiled, no other test of this session has to, in either worker."""
    from tests.compiled import compiled_programs_kept

    jax.config.update("jax_disable_most_optimizations", True)
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    # A developer who runs parts of the tests again and again names a folder that stays.
    kept = os.environ.get("JAXSEG_TEST_PROGRAMS")
    with compiled_programs_kept(Path(kept) if kept else folder / "xla"):
        yield
