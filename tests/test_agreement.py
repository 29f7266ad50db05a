"""Agreement with outputs of published code; `python -m benchmarks agree` prints all of it."""

import numpy as np
import pytest

from benchmarks.agree import published, retina_folder
from benchmarks.agree.frozen import REFERENCE, frozen_logits
from jaxseg_xai.data import open_dataset
from jaxseg_xai.models import load_model
from tests.conftest import REAL

#: The programs that a user runs agree, not those that compile quickly.
pytestmark = pytest.mark.optimised

needs_real = pytest.mark.skipif(
    not REAL.is_dir(), reason="third-party retina images and weights are not part of the repository"
)


def agrees(reference, bundle=None, blocks=None):
    """The same hard decisions, but for pixels that both sides put on the threshold."""
    found = published.compare(reference, bundle or load_model(REFERENCE), blocks)
    assert found["passed"], found
    return found


@needs_real
def test_the_retina_as_folders_is_the_same_network(tmp_path):
    retina_folder.write(REAL, tmp_path)
    bundle, original = load_model(tmp_path / "retina"), published.load_retina(REAL)
    images = open_dataset(tmp_path, class_names=("background", "vessel"))
    assert len(images) == 40
    sample = images[0]
    assert set(np.unique(sample.labels)) == {0, 1}
    found, expected = (
        b.segmenter.logits(b.variables, sample.image[None]) for b in (bundle, original)
    )
    np.testing.assert_array_equal(found, expected)


def test_unet_equals_torch():
    verdict = frozen_logits("float32")
    assert verdict.passed
    assert verdict.max_abs_diff < 1e-4


@pytest.mark.slow
def test_misure_equals_torch():
    found = agrees(published.misure_triangle())
    assert not found["flips"]
    assert found["measured"]["published: images whose mask was compared"] == 8


@pytest.mark.slow
def test_ate_equals_the_published_function_on_some_blocks():
    agrees(published.pdcr_triangle(0), blocks=8)
    agrees(published.pdcr_triangle(0, "zero"))


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 3])
def test_ate_equals_the_published_function_on_all_blocks(index):
    agrees(published.pdcr_triangle(index))


@needs_real
def test_retina_unet_equals_its_source():
    found = published.retina_logits(REAL)
    assert found["passed"]
    assert found["max_abs_diff"] < 1e-4
    assert found["mean_dice"] == pytest.approx(0.82, abs=0.01)


@needs_real
@pytest.mark.parametrize("blocks", [8, pytest.param(None, marks=pytest.mark.slow)])
def test_ate_on_a_real_retina(blocks):
    agrees(published.pdcr_retina(REAL), published.load_retina(REAL), blocks)
