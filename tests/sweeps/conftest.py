"""A tiny model, images and a finished sweep that the tests of this folder share."""

import pytest

from jaxseg_xai.sweeps.run import run_sweep
from tests import tiny
from tests.sweeps.programs import NAMES


@pytest.fixture(scope="package")
def model(tmp_path_factory):
    return tiny.write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="package")
def images(tmp_path_factory):
    return tiny.write_images(tmp_path_factory.mktemp("images"), NAMES)


@pytest.fixture(scope="package")
def done(model, images, tmp_path_factory):
    """A finished sweep: its configuration and its result."""
    out = tmp_path_factory.mktemp("done") / "s.zarr"
    config = tiny.sweep_config(out, model, images, classes=())
    return config, run_sweep(config)
