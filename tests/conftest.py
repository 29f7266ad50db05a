"""Every test runs on several devices, so that sharding cannot go untested."""

import gc
import itertools
import os
from pathlib import Path

import jax
import pytest

from jaxseg_xai.core.caches import make_room
from jaxseg_xai.devices.mesh import use_cpu_cores
from tests.compiled import compiled_programs_kept, use_quick_kernels

use_quick_kernels()
NUM_DEVICES = 4
use_cpu_cores(NUM_DEVICES)

#: Third-party images and weights, not part of the repository.
REAL = Path(__file__).resolve().parents[2] / "shared" / "reference" / "real"


def pytest_collection_finish():
    """What the imports made is no garbage, and looking through it again and again takes time."""
    gc.freeze()


_tests_run = itertools.count(1)


def pytest_runtest_teardown():
    """A worker compiles more programs than a process may have; it takes time to count them."""
    if next(_tests_run) % 20 == 0:
        make_room()


@pytest.fixture(autouse=True, scope="module")
def _optimised(request):
    """Modules marked `optimised` run programs that LLVM optimises as it does for a user.

    The others run what it compiles quickly: without most optimisations, in two thirds of the time.
    The benchmarks' validation in `.ci/run` runs just what a user runs.
    """
    quick = request.node.get_closest_marker("optimised") is None
    jax.config.update("jax_disable_most_optimizations", quick)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(autouse=True, scope="session")
def _programs(tmp_path_factory):
    """What one test has compiled, no other test of this session has to, in either worker."""
    jax.config.update("jax_disable_most_optimizations", True)
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    # A developer who runs parts of the tests again and again names a folder that stays.
    kept = os.environ.get("JAXSEG_TEST_PROGRAMS")
    with compiled_programs_kept(Path(kept) if kept else folder / "xla"):
        yield
