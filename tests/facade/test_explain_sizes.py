"""`jaxseg_xai.explain` on images of other sizes than the model takes, and of many sizes."""

import numpy as np
import pytest
from flax import nnx
from scipy import ndimage

import jaxseg_xai
from jaxseg_xai.core.errors import (
    ConfigError,
    JaxsegError,
    ModelError,
)
from jaxseg_xai.explainers.gradient.integrated_gradients import IntegratedGradients
from jaxseg_xai.sweeps.config import Job
from jaxseg_xai.sweeps.regions import Region, parse_region
from tests.facade.pixels import RNG, SIDE, bright, ig, pictures
from tests.sweeps.programs import CompileLog


def test_sizes_padding_and_grey(tmp_path):
    model = jaxseg_xai.as_model(
        lambda x: 20 * (x[..., :1] - 0.5), class_names=["a", "bright"], channels=3, multiple_of=8
    )
    image = np.random.default_rng(3).random((13, 18, 3)).astype(np.float32)
    with pytest.raises(JaxsegError, match=r"13x18 is not a multiple of the model's stride 8"):
        ig(model, image)
    found = ig(model, image, pad="edge")
    assert found.attribution.shape == found.region.shape == found.reference.shape == (13, 18)
    assert found.region.all()
    plain = jaxseg_xai.as_model(
        lambda x: 20 * (x[..., :1] - 0.5), class_names=["a", "bright"], channels=3
    )
    np.testing.assert_allclose(found.attribution, ig(plain, image).attribution, rtol=1e-5)
    with pytest.raises(JaxsegError, match='1 channels, the model takes 3; set channels="repeat"'):
        ig(model, np.ones((16, 16)) * RNG.random((16, 16)), pad="edge")
    grey = RNG.random((16, 16)).astype(np.float32)
    assert ig(model, grey, channels="repeat").status_name == "OK"


def test_a_fixed_size_net_and_normalisation():
    """The map comes back on the image's own grid."""

    def net(x):
        assert x.shape[1:3] == (8, 8), x.shape
        return 4 * x

    model = jaxseg_xai.as_model(
        net, class_names=["a", "bright"], channels=1, fixed_size=(8, 8), mean=[0.5], std=[0.25]
    )
    image = np.zeros((16, 16), np.float32)
    image[4:, 6:] = RNG.uniform(0.8, 1, (12, 10))
    found = ig(model, image)
    assert found.attribution.shape == (16, 16)
    np.testing.assert_array_equal(found.reference, image > 0.5)


def test_images_of_many_sizes_are_resized_to_one(model):
    sizes = [(16, 20), (19, 19), (22, 18)]
    images = [np.linspace(0, 1, h * w, dtype=np.float32).reshape(w, h).T for h, w in sizes]
    with CompileLog() as log:
        found = ig(model, images, sizes=(24, 24))
    assert [one.status_name for one in found] == ["OK"] * 3
    assert [one.attribution.shape for one in found] == [image.shape[:2] for image in images]
    assert log.count("_explain_batch") == 1
    for one, image in zip(found, images, strict=True):
        # Brighter from left to right: only the two columns in the middle may be either.
        columns = np.nonzero((one.reference != (image > 0.5)).any(axis=0))[0]
        assert np.abs(columns - (image.shape[1] - 1) / 2).max(initial=0) < 1
    fixed = jaxseg_xai.as_model(bright, class_names=["a", "b"], channels=1, fixed_size=(8, 8))
    with pytest.raises(JaxsegError, match=r"the model takes \(8, 8\) only; leave sizes out"):
        ig(fixed, images, sizes=(24, 24))
    with pytest.raises(JaxsegError, match="one number per axis"):
        ig(model, images, sizes=(24,))


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("misure", {"num_iterations": 3, "max_dilations": 3}),
        ("misure_paper", {"num_iterations": 3, "max_dilations": 3, "tv_weight": 0.5}),
        (
            "ate",
            {"perturbation": "blur", "block_size": 4, "outcome": "summed_logits"}
            | {"num_screen": 0, "region": (8, 8)},
        ),
        ("integrated_gradients", {"num_nodes": 2}),
    ],
)
def test_padding_changes_nothing_where_the_model_does_not_see_it(method, settings):
    """Of a model of single pixels and a cue an explanation is that of the image in its own size."""

    def cued(inputs):
        return bright(inputs) + 4 * (inputs[:, 1:2, 1:2] - 0.25)

    model = jaxseg_xai.as_model(cued, class_names=["dark", "bright"], channels=1)
    images = [np.clip(pictures(1, size)[0] / 2 + blob(size), 0, 1) for size in ((18, 13), (15, 19))]
    native = [jaxseg_xai.explain(model, x, "bright", method, **settings) for x in images]
    with CompileLog() as log:
        found = jaxseg_xai.explain(model, images, "bright", method, sizes="bucket", **settings)
    assert log.count("_explain_batch") == 1
    for one, alone in zip(found, native, strict=True):
        assert one.attribution.shape == alone.attribution.shape
        assert one.status_name == alone.status_name
        scale = np.abs(alone.attribution).max()
        assert scale > 0
        np.testing.assert_allclose(one.attribution, alone.attribution, atol=1e-4 * scale)
        for name, value in alone.scores.items():
            np.testing.assert_allclose(one.scores[name], value, rtol=1e-4, err_msg=name)


def blob(size):
    """A bright square around pixel (8, 8)."""
    image = np.zeros((*size, 1), np.float32)
    image[5:12, 5:12] = 0.6
    return image


def test_sizes_that_are_no_policy(model):
    for sizes in ("tiles", 3, (), (8, -1), (8.5, 8)):
        with pytest.raises(ConfigError, match=r"sizes is .*; use native, bucket, tile, or a size"):
            ig(model, pictures(), sizes=sizes)
    fixed = jaxseg_xai.as_model(bright, class_names=["a", "b"], channels=1, fixed_size=(8, 8))
    with pytest.raises(ModelError, match=r"cannot be padded to common sizes: .*\(8, 8\)"):
        ig(fixed, pictures(), sizes="bucket")


def test_a_model_that_says_not_all_of_the_sizes_that_it_takes(tmp_path):
    """It is tried on the first image that can be used, not on the smallest that is described."""

    def net(x):
        assert x.shape[1] % 8 == 0, "three pools"
        coarse = x
        for _ in range(3):
            coarse = nnx.max_pool(coarse, (2, 2), (2, 2))
        return 20 * (x - 0.5) + 0 * coarse.repeat(8, 1).repeat(8, 2)

    model = jaxseg_xai.as_model(net, class_names=["dark", "bright"], channels=1)
    images = [np.full((SIDE, SIDE, 1), np.nan, np.float32), *pictures(2)]
    found = ig(model, images[1:])
    assert [one.status_name for one in found] == ["OK", "OK"]
    explain, out = [IntegratedGradients(num_nodes=2)], tmp_path / "s.zarr"
    result = jaxseg_xai.sweep(model=model, data=images, explain=explain, out=out, progress=False)
    assert result.counts == {"integrated_gradients": {"OK": 2, "FAILED": 1}}
    with pytest.raises(ModelError, match=r"cannot be applied to images .*three pools"):
        ig(model, pictures(1, (9, 9)))


@pytest.mark.parametrize(
    ("region", "inside"),
    [
        ((50, 50), np.s_[44:56, 44:56]),
        ("component 2", np.s_[44:56, 44:56]),
        ("box 6", np.s_[12:18, 12:18]),
        (Region(kind="box", side=8, corner=(46, 46)), np.s_[46:54, 46:54]),
    ],
)
def test_regions_count_the_pixels_of_the_image_though_it_is_resized(region, inside, tmp_path):
    model = jaxseg_xai.as_model(
        bright, class_names=["dark", "bright"], channels=1, fixed_size=(32, 32)
    )
    image = np.zeros((64, 64), np.float32)
    image[8:24, 8:24] = image[44:56, 44:56] = 1
    expected = np.zeros((64, 64), bool)
    expected[inside] = True
    found = ig(model, image, region=region)
    np.testing.assert_array_equal(found.region, expected)
    assert (found.attribution[expected] > 0).all()
    assert not found.attribution[~ndimage.binary_dilation(expected, np.ones((3, 3)))].any()
    mask = ig(model, image, region=expected, labels=(image > 0.5).astype(int), target="truth")
    np.testing.assert_array_equal(mask.region, expected)
    np.testing.assert_array_equal(mask.reference, image > 0.5)
    entry = Job(
        label="ig",
        explainer=IntegratedGradients(num_nodes=2),
        region=parse_region(region),
    )
    out = tmp_path / "s.zarr"
    jaxseg_xai.sweep(model=model, data=image, explain=[entry], out=out, progress=False)
    again = jaxseg_xai.open_store(out)
    np.testing.assert_array_equal(again.region, expected)
    np.testing.assert_array_equal(again.attribution, found.attribution)
    # A box of 8 pixels is one of 16 where the model sees a larger image.
    larger = jaxseg_xai.as_model(
        bright, class_names=["dark", "bright"], channels=1, fixed_size=(128, 128)
    )
    ate = {"block_size": 32, "perturbation": "zero", "num_screen": 0}
    found = jaxseg_xai.explain(larger, image, "bright", "ate", region=region, **ate)
    assert found.status_name == "OK"
    np.testing.assert_array_equal(found.region, expected)
