import pytest

from jaxseg_xai.reliability import classifier


@pytest.fixture(scope="module")
def one_candidate():
    """Nothing is chosen by cross-validation: a sixth of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "_GRID", {"logistic__C": [1.0]})
        yield
