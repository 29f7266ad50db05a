"""What tests of the facade share."""

import pytest

from tests.facade.pixels import model_of_pixels


@pytest.fixture(scope="module")
def model():
    return model_of_pixels()
