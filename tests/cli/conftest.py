"""A tiny model and images, for whoever does not make others."""

import pytest

from tests import tiny
from tests.cli.commands import GOOD


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return tiny.write_images(tmp_path_factory.mktemp("images"), GOOD)
