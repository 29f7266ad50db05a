import numpy as np
import pytest
from scipy import stats

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.types import Explanation, Status
from jaxseg_xai.explainers import Meta
from jaxseg_xai.metrics import compare_methods, relevance_of

MAPS = np.random.default_rng(0).normal(size=(4, 2, 5, 4)).astype(np.float32)
MAPS[1, 0] = MAPS[0, 0] ** 3  # the same order
MAPS[2, 0] = 0
MAPS[3, 1, 0, 0] = np.nan


def test_by_the_order_and_by_the_largest():
    found = compare_methods(MAPS, share=0.25)
    assert found.iou[0, 0, 1] == found.rank_correlation[0, 0, 1] == 1
    expected = stats.spearmanr(MAPS[0, 1], MAPS[1, 1], axis=None).statistic
    assert found.rank_correlation[1, 0, 1] == pytest.approx(expected)
    one, other = (set(np.argsort(MAPS[i, 1].ravel())[-5:].tolist()) for i in (0, 1))
    assert found.iou[1, 0, 1] == pytest.approx(len(one & other) / len(one | other))
    np.testing.assert_allclose(found.iou, np.swapaxes(found.iou, 1, 2))


def test_constant_and_missing_maps_have_no_agreement():
    found = compare_methods(MAPS)
    for values in found:
        assert np.isnan(values[0, 2]).all()
        assert np.isnan(values[1, :, 3]).all()
        assert np.isfinite(values[0, :2, :2]).all()


def test_equal_pixels_count_by_their_part():
    maps = np.zeros((2, 1, 2, 4), np.float32)
    maps[0, 0, 0], maps[1, 0, 0, :2] = 1, 1  # 4 equal ones, and 2 among 6 zeros
    found = compare_methods(maps, share=0.5)
    # 1 on 4 pixels; and 1 on 2 of them, 2 / 6 on all others.
    both, either = 2 + 2 / 3, 4 + 4 / 3
    assert found.iou[0, 0, 1] == pytest.approx(both / either)


def test_padding_does_not_count():
    own = np.zeros((2, 5, 4), bool)
    own[:, :4, :3] = True
    found, alone = compare_methods(MAPS, own), compare_methods(MAPS[:, :, :4, :3])
    for one, other in zip(found, alone, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_relevance_has_the_sign_of_the_method_and_is_missing_where_it_failed():
    found = Explanation(
        attribution=MAPS[0], status=np.array([Status.OK, Status.EMPTY_TARGET], np.int32)
    )
    relevance = relevance_of(found, Meta(unit="points", signed=True, high="against"))
    np.testing.assert_array_equal(relevance[0], -MAPS[0, 0])
    assert np.isnan(relevance[1]).all()
    with pytest.raises(ConfigError, match="maps of entropy are not of relevance"):
        relevance_of(found, Meta(unit="entropy", signed=False, high="neither"))


@pytest.mark.parametrize(("maps", "share"), [(MAPS, 0.0), (MAPS, 1.0), (MAPS[0], 0.1)])
def test_bad_values_are_refused(maps, share):
    with pytest.raises(ConfigError):
        compare_methods(maps, share=share)
