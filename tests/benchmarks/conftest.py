"""The commands ask for one device per core; here JAX has started with those of the other tests."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="session")
def _started():
    return jax.devices()
