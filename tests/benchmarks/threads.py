"""A fixture for the tests that run PyTorch beside JAX."""

import pytest
import torch


@pytest.fixture(scope="module")
def one_thread():
    """One thread for PyTorch: those of two frameworks on few cores wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
