import numpy as np
import pytest

from jaxseg_xai.core.errors import ConfigError, DataError
from jaxseg_xai.core.output_spec import OutputSpec
from jaxseg_xai.data.degraded import DegradedDataset, degrade
from jaxseg_xai.data.sources.triangle import TriangleDataset
from jaxseg_xai.sweeps.data import DataConfig
from tests import tiny

TRIANGLES = OutputSpec(class_names=("background", "triangle"))

PLAIN = TriangleDataset("test", size=64, num=40)


@pytest.mark.parametrize("kind", ["noise", "blur", "contrast"])
def test_every_level_is_further_from_the_image(kind):
    sample = PLAIN[0]
    far = []
    for severity in range(1, 6):
        worse = DegradedDataset(PLAIN, kind, severity)[0]
        assert worse.image.dtype == np.float32
        assert worse.image.shape == sample.image.shape
        assert worse.id == sample.id
        assert worse.labels is sample.labels or (worse.labels == sample.labels).all()
        assert sample.image.min() <= worse.image.min() <= worse.image.max() <= sample.image.max()
        far.append(np.abs(worse.image - sample.image).mean())
    assert far == sorted(far)
    assert far[0] > 0


def test_depends_on_the_name_only():
    some = DegradedDataset(TriangleDataset("test", size=64, num=3), "mixed", 5)
    many = DegradedDataset(PLAIN, "mixed", 5)
    many[1]
    np.testing.assert_array_equal(some[2].image, many[2].image)


def test_mixed_has_every_severity_and_untouched_images():
    worse = DegradedDataset(PLAIN, "mixed", 2)
    changes = [np.abs(worse[i].image - PLAIN[i].image).mean() for i in range(len(PLAIN))]
    assert 5 <= np.sum(np.equal(changes, 0)) <= 25
    assert len(np.unique(changes)) > 15


@pytest.mark.parametrize("kind", ["noise", "blur", "contrast"])
def test_units_are_those_of_the_image(kind):
    """A scan in Hounsfield units is degraded as much as a picture in [0, 1]."""
    image = PLAIN[0].image
    one = degrade(image, kind, 3, np.random.default_rng(0))
    other = degrade(3000 * image - 1000, kind, 3, np.random.default_rng(0))
    np.testing.assert_allclose((other + 1000) / 3000, one, atol=1e-5)


def test_contrast_keeps_the_mean():
    image = PLAIN[0].image
    worse = degrade(image, "contrast", 1, np.random.default_rng(0))
    np.testing.assert_allclose(worse.mean((0, 1)), image.mean((0, 1)), rtol=1e-4)
    np.testing.assert_allclose(worse.std((0, 1)), 0.4 * image.std((0, 1)), rtol=1e-3)


@pytest.mark.parametrize(("kind", "severity"), [("noise", 0), ("noise", 6), ("fog", 3)])
def test_bad_settings(kind, severity):
    with pytest.raises(ConfigError, match=r"choose one of noise, blur, contrast, mixed and a sev"):
        DegradedDataset(PLAIN, kind, severity)


def test_images_that_are_not_scaled_stay_refused():
    with pytest.raises(DataError, match="s1: pixels of type uint8; its source must give floats"):
        DegradedDataset(tiny.Bytes(), "noise", 1)[1]


def test_as_an_option_of_the_data():
    config = DataConfig(source="triangle", size=32, num=4, degrade="noise", severity=5)
    dataset, chosen = config.open(TRIANGLES)
    assert chosen == [0, 1, 2, 3]
    assert isinstance(dataset, DegradedDataset)
    assert isinstance(config.open_pool("triangle"), DegradedDataset)
    plain, _ = DataConfig(source="triangle", size=32, num=4).open(TRIANGLES)
    assert not isinstance(plain, DegradedDataset)
    with pytest.raises(ConfigError, match="num=-1"):
        DataConfig(source="triangle", num=-1).open(TRIANGLES)
