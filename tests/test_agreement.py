"""Agreement with independent implementations; `python -m benchmarks.agreement` prints all of it."""

import pytest

from benchmarks import agreement, retina
from benchmarks.flips import FLIP_MARGIN
from tests.conftest import REAL

needs_real = pytest.mark.skipif(
    not REAL.is_dir(), reason="third-party retina images and weights are not part of the repository"
)


def check_pdcr(found):
    # The same hard decisions, but for pixels that both sides put on the threshold.
    assert found["base_diff"] < agreement.TOLERANCE
    assert found["max_abs_diff_without_flips"] < agreement.TOLERANCE
    for flip in found["blocks_with_flips"]:
        assert flip["nearest_to_half"] < FLIP_MARGIN


def test_unet_equals_torch():
    assert agreement.triangle_logits()["max_abs_diff"] < 1e-4


@pytest.mark.slow
def test_misure_equals_torch():
    found = agreement.misure_triangle()
    assert found["dilations_equal"]
    assert found["region_pixels_differing"] == 0
    assert found["dice_trace_max_diff"] < 1e-6
    # Frameworks add up in another order: the tolerances of the references' description.
    assert found["loss_max_relative_diff"] < 1e-3
    assert found["mask_share_above_0.01"] < 2e-3
    assert found["dice_minimal_max_diff"] < 2e-3


@pytest.mark.slow
def test_ate_equals_the_published_function_on_some_blocks():
    found = agreement.pdcr_triangle(0, num_blocks=8)
    check_pdcr(found)
    assert found["zero_max_diff"] < agreement.TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 3])
def test_ate_equals_the_published_function_on_all_blocks(index):
    check_pdcr(agreement.pdcr_triangle(index))


@needs_real
def test_retina_unet_equals_its_source():
    found = retina.logits(REAL)
    assert found["max_abs_diff"] < 1e-4
    assert found["mean_dice"] == pytest.approx(0.82, abs=0.01)


@needs_real
def test_ate_on_a_real_retina_on_some_blocks():
    check_pdcr(retina.pdcr(REAL, num_blocks=8))


@needs_real
@pytest.mark.slow
def test_ate_on_a_real_retina_on_all_blocks():
    check_pdcr(retina.pdcr(REAL))
