"""`jaxseg_xai.explain` as a person calls it: models, images, regions, targets, and bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

import jaxseg_xai
from jaxseg_xai.core.errors import (
    ConfigError,
    DataError,
    JaxsegError,
    MissingExtraError,
    ModelError,
)
from jaxseg_xai.ops.random import image_id
from tests import tiny
from tests.facade.pixels import RNG, SIDE, bright, ig, pictures
from tests.sweeps.programs import CompileLog


def test_an_array_of_images(model):
    images = pictures()
    found = ig(model, images)
    assert len(found) == 3
    for one, image in zip(found, images, strict=True):
        assert (one.status_name, one.class_name, one.unit) == ("OK", "bright", "summed logits")
        segment = image[..., 0] > 0.5
        np.testing.assert_array_equal(one.reference, segment)
        # Linear in the pixels: the gradient times the pixel, where the class is predicted.
        np.testing.assert_allclose(one.attribution, 20 * image[..., 0] * segment, rtol=1e-5)
    assert len(found[1:]) == 2
    lines = repr(found).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("integrated_gradients of bright in image-00000: OK, 16x16, 0 to ")
    with pytest.raises(AttributeError, match="there are 3 explanations; choose one, found\\[0\\]"):
        _ = found.attribution


def test_images_of_one_size_share_one_program(model):
    found = ig(model, pictures(1), outcome="mean_probability")
    with CompileLog() as log:
        other = ig(model, 1 - pictures(1), outcome="mean_probability")
    assert log.count("_explain_batch") == log.count("predict_batch") == 0
    assert (other.attribution != found.attribution).any()


def test_one_image_answers_for_itself(model):
    image = pictures(1)[0]
    found = ig(model, image[..., 0])
    assert found.attribution.shape == (SIDE, SIDE)
    assert found.scores["area_target"] == (image > 0.5).sum()
    assert found.status_name == "OK"


def test_files_lists_and_folders(tmp_path):
    folder = tiny.write_images(tmp_path, ["i0", "i1"], labels=False) / "images"
    model = jaxseg_xai.as_model(
        lambda x: 20 * (x[..., :1] - 0.5), class_names=["dark", "bright"], channels=3
    )
    one = ig(model, folder / "i0.png")
    assert (one[0].image_id, one.attribution.shape) == ("i0", (32, 32))
    several = ig(model, [str(folder / "i0.png"), folder / "i1.png"])
    np.testing.assert_array_equal(several[0].attribution, one.attribution)
    assert [x.image_id for x in ig(model, folder)] == ["i0", "i1"]


def test_an_own_flax_module_and_an_own_picture(tmp_path):
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
            self.head = nnx.Conv(4, 2, (1, 1), rngs=rngs)

        def __call__(self, x):
            return self.head(nnx.relu(self.conv(x)))

    path = tmp_path / "mine.png"
    Image.fromarray(tiny.picture(0)[0]).save(path)
    net = Net(nnx.Rngs(0))
    net.head.bias.set_value(jnp.array([0.0, 5.0]))
    model = jaxseg_xai.as_model(net, class_names=["background", "cell"])
    found = jaxseg_xai.explain(model, path, "cell", "grad_cam", layer="conv")
    assert found.status_name == "OK"
    assert np.ptp(found.attribution) > 0


@pytest.mark.parametrize(
    ("region", "inside"),
    [
        (None, np.s_[:, :]),
        ("image", np.s_[:, :]),
        ("component", np.s_[2:6, 2:6]),
        ("component 2", np.s_[9:11, 9:12]),
        ((10, 11), np.s_[9:11, 9:12]),
        ("box 2", np.s_[2:4, 2:4]),
    ],
)
def test_regions(model, region, inside):
    image = np.zeros((SIDE, SIDE), np.float32)
    image[2:6, 2:6] = image[9:11, 9:12] = 1
    found = ig(model, image, region=region)
    expected = np.zeros((SIDE, SIDE), bool)
    expected[inside] = True
    np.testing.assert_array_equal(found.region, expected)
    np.testing.assert_array_equal(found.attribution != 0, expected & (image == 1))
    mask = ig(model, image, region=expected)
    np.testing.assert_array_equal(mask.attribution, found.attribution)


def test_false_positives_and_false_negatives(model):
    image = pictures(1)[0, ..., 0]
    labels = (image > 0.3).astype(int)
    labels[:, :8] = 0
    predicted, truth = image > 0.5, labels == 1
    for target, pixels in (
        ("prediction", predicted),
        ("truth", truth),
        ("false_positives", predicted & ~truth),
        ("false_negatives", truth & ~predicted),
    ):
        found = ig(model, image, labels=labels, target=target)
        np.testing.assert_array_equal(found.reference, pixels)
        np.testing.assert_allclose(found.attribution, 20 * image * pixels, rtol=1e-5)
    np.testing.assert_array_equal(found.image.labels, labels)
    rise = {"labels": labels, "target": "false_positives", "num_masks": 2}
    with pytest.raises(ConfigError, match=r"rise compares .* set its outcome to mean_probability"):
        jaxseg_xai.explain(model, image, "bright", "rise", **rise)
    kept = jaxseg_xai.explain(model, image, "bright", "rise", region="component", **rise)
    assert kept.status_name == "OK"
    with pytest.raises(ConfigError, match=r"none of 3 images .* false_negatives needs gr"):
        ig(model, pictures(), target="false_negatives")


def test_classes_that_overlap():
    """Whole tumour, core and enhancing part: each is explained as it is predicted."""

    def net(x):
        return 10 * (x - jnp.array([0.2, 0.5, 0.8]))

    names = ["whole", "core", "enhancing"]
    model = jaxseg_xai.as_model(net, class_names=names, channels=1, activation="sigmoid")
    image = np.full((SIDE, SIDE), 0.1, np.float32)
    image[2:14, 2:14], image[4:10, 4:10], image[6:8, 6:8] = 0.3, 0.6, 0.9
    labels = np.stack([image > level for level in (0.2, 0.5, 0.8)], axis=-1)
    found = jaxseg_xai.explain(model, image, names, "integrated_gradients", labels=labels)
    assert [one.class_name for one in found] == names
    for one, area in zip(found, (144, 36, 4), strict=True):
        assert one.scores["area_target"] == area
        assert one.reference.sum() == area
    np.testing.assert_array_equal(found[0].maps["prediction"], labels)
    np.testing.assert_array_equal(found[0].image.labels, labels)
    assert len(found[0].plot().axes) >= 2


def test_the_ate_of_one_image_needs_others(model):
    image = pictures(1)[0]
    ate = {"block_size": 4, "num_patches": 3, "num_screen": 0}
    with pytest.raises(ConfigError, match=r'give others=.* or set perturbation="zero"') as error:
        jaxseg_xai.explain(model, image, "bright", "ate", region="box 4", **ate)
    assert len(str(error.value).splitlines()) == 1
    found = jaxseg_xai.explain(
        model, image, "bright", "ate", region="box 4", perturbation="zero", **ate
    )
    assert found.status_name == "OK"
    others = jaxseg_xai.explain(
        model, image, "bright", "ate", region="box 4", others=pictures(4), **ate
    )
    assert others.status_name == "OK"
    again = jaxseg_xai.explain(
        model, image, "bright", "ate", region="box 4", others=pictures(4), seed=0, **ate
    )
    np.testing.assert_array_equal(again.attribution, others.attribution)


def test_patches_come_from_all_of_the_others(model, monkeypatch):
    """The first of them is not taken for the image, though both are nameless arrays."""
    pools = []

    def checked(pool, names):
        pools.append((pool, list(names)))

    monkeypatch.setattr("jaxseg_xai.ops.patches.PatchPool.check", checked)
    settings = {"block_size": 4, "num_patches": 3, "num_screen": 0, "region": "box 4"}
    jaxseg_xai.explain(model, pictures(1)[0], "bright", "ate", others=pictures(2), **settings)
    pool, names = pools[0]
    assert len({tuple(row) for row in pool.sources.tolist()}) == 2
    assert tuple(image_id(names[0])) not in {tuple(row) for row in pool.sources.tolist()}


def test_volumes(tmp_path):
    model = jaxseg_xai.as_model(bright, class_names=["dark", "bright"], channels=1, rank=3)
    volume = np.random.default_rng(2).random((6, 8, 10)).astype(np.float32)
    found = ig(model, volume)
    np.testing.assert_allclose(found.attribution, 20 * volume * (volume > 0.5), rtol=1e-5)
    assert found.to_xarray().attribution.dims == ("explanation", "z", "y", "x")
    saved = found.save(tmp_path / "v.zarr")
    np.testing.assert_array_equal(jaxseg_xai.open_store(saved).attribution, found.attribution)
    assert len(found.plot().axes) >= 3
    with pytest.raises(JaxsegError):  # an image for a model of volumes
        ig(model, RNG.random((8, 10)).astype(np.float32))


def test_saving_and_converting(model, tmp_path):
    found = ig(model, pictures(2))
    found.save(tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as file:
        np.testing.assert_array_equal(file["attribution"][1], found[1].attribution)
        assert file["class"].tolist() == ["bright"] * 2
    table = found.to_xarray()
    assert table.attribution.dims == ("explanation", "y", "x")
    assert table.image.values.tolist() == ["image-00000", "image-00001"]
    assert float(table.score_area_target[0]) == found[0].scores["area_target"]
    again = jaxseg_xai.open_store(found.save(tmp_path / "x.zarr"))
    assert repr(again) == repr(found)
    np.testing.assert_array_equal(again[1].attribution, found[1].attribution)
    assert found.save(tmp_path / "x.png") == tmp_path / "x-0.png"
    with Image.open(tmp_path / "x-1.png") as picture:
        assert picture.size[0] > 300
    with pytest.raises(ConfigError, match=r"x.zarr is there already"):
        found.save(tmp_path / "x.zarr")
    with pytest.raises(ConfigError, match=r"save as .png, .npz or .zarr"):
        found.save(tmp_path / "x.tiff")


def test_extras_that_are_missing_are_named(model, monkeypatch):
    found = ig(model, pictures(1))
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"jaxseg-xai\[report\]"):
        found.plot()
    monkeypatch.setitem(__import__("sys").modules, "xarray", None)
    with pytest.raises(MissingExtraError, match=r"jaxseg-xai\[xarray\]"):
        found.to_xarray()


def _brighter(x):
    return 20 * (np.asarray(x) - 0.5)


def no_gradient(x):
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return jax.pure_callback(_brighter, shape, x, vmap_method="sequential")


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda m: ig(m, pictures(), steps=3), ConfigError, "unknown key steps; the keys are"),
        (lambda m: ig(m, pictures(0)), DataError, "no image"),
        (lambda m: ig(m, "nowhere.png"), JaxsegError, "nowhere.png"),
        (lambda m: ig("nowhere", pictures()), ModelError, "no such model"),
        (lambda m: ig(bright, pictures()), JaxsegError, "class_names"),
        (
            lambda m: jaxseg_xai.explain(m, pictures(), "dog", "confidence"),
            ConfigError,
            "unknown class dog; pixels knows dark, bright",
        ),
        (
            lambda m: jaxseg_xai.explain(m, pictures(), "bright", "lime"),
            ConfigError,
            "unknown explainer 'lime'; there is",
        ),
        (lambda m: ig(m, pictures(), region="round"), ConfigError, "region is 'round'; use image"),
        *(
            (
                lambda m, name=name, value=value: ig(m, pictures(), **{name: value}),
                ConfigError,
                f"{name} is {value!r}; it must be an integer in",
            )
            for name, value in (
                *(("batch_size", 0), ("batch_size", -1), ("batch_size", 2.0)),
                *(("seed", -1), ("seed", 2**32), ("seed", "a")),
            )
        ),
        (lambda m: ig(m, pictures(), target="x"), ConfigError, "target is 'x'; use prediction"),
        (lambda m: ig(m, pictures(), dtype="int4"), ModelError, "dtype is 'int4'; use float32"),
        (lambda m: ig(m, pictures(), pad="wrap"), JaxsegError, "pad"),
        (
            lambda m: ig(m, pictures(), outcome="dice"),
            ConfigError,
            "integrated_gradients.outcome is 'dice', which has no gradient; use soft_dice",
        ),
        (
            lambda m: ig(
                jaxseg_xai.as_model(no_gradient, class_names=["a", "bright"], channels=1),
                pictures(),
            ),
            ModelError,
            "integrated_gradients needs the model's gradient, and it has none",
        ),
        (
            lambda m: ig(
                jaxseg_xai.as_model(lambda x: {"out": x}, class_names=["a", "bright"], channels=1),
                pictures(),
            ),
            ModelError,
            "not a dict of 'out'; set output.select",
        ),
    ],
)
def test_bad_input_is_one_line(call, error, words, model):
    with pytest.raises(error) as found:
        call(model)
    assert words in str(found.value)
    assert len(str(found.value).splitlines()) == 1


def test_a_bad_image_among_good_ones_is_a_row_with_its_reason(model, tmp_path):
    images = [*pictures(2), np.full((SIDE, SIDE, 1), np.nan, np.float32)]
    found = ig(model, images)
    assert [one.status_name for one in found] == ["OK", "OK", "FAILED"]
    assert "NaN" in found[2].reason
    assert "NaN" in repr(found[2])
    assert found.save(tmp_path / "new" / "x.PNG").is_file()  # the failed one has a figure too
    with np.load(found.save(tmp_path / "new" / "x.NPZ")) as file:
        np.testing.assert_array_equal(file["attribution"][1], found[1].attribution)
    table = found.to_xarray()
    assert table.status.values.tolist() == ["OK", "OK", "FAILED"]
    for i in (0, 1):
        np.testing.assert_array_equal(table.attribution[i], found[i].attribution)
        np.testing.assert_array_equal(table.map_prediction[i], found[i].maps["prediction"])
    assert np.isnan(table.attribution[2]).all()
    assert np.isnan(table.score_area_target[2])
    assert (table.map_prediction[2] == -1).all()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file/x.npz: .*; save elsewhere"):
        found.save(tmp_path / "file" / "x.npz")


def test_planes_traces_and_booleans_of_a_failed_image():
    names = ["whole", "core"]
    model = jaxseg_xai.as_model(
        lambda x: 10 * (x - jnp.array([0.2, 0.5])),
        class_names=names,
        channels=1,
        activation="sigmoid",
    )
    images = [pictures(1)[0], np.full((SIDE, SIDE, 1), np.nan, np.float32)]
    found = jaxseg_xai.explain(
        model, images, "core", "misure", num_iterations=2, max_dilations=2, region="box 4"
    )
    table = found.to_xarray()
    assert table.map_prediction.dims == ("explanation", "y", "x", "plane")
    booleans = [name for name, values in found[0].maps.items() if values.dtype == bool]
    assert len(booleans) > 1
    for name in booleans:
        np.testing.assert_array_equal(table[f"map_{name}"][0], found[0].maps[name])
        assert not table[f"map_{name}"][1].any()
    assert found[0].traces
    for name, values in found[0].traces.items():
        np.testing.assert_array_equal(table[f"trace_{name}"][0], values)
        assert np.isnan(table[f"trace_{name}"][1]).all()


@pytest.mark.parametrize(("target", "titles"), [("prediction", 0), ("false_negatives", 1)])
def test_what_is_explained_is_outlined_where_it_is_not_the_prediction(model, target, titles):
    image = pictures(1)
    labels = (image[..., 0] > 0.3).astype(int)
    found = ig(model, image, labels=labels, target=target, outcome="mean_probability")
    shown = [axes.get_title() for axes in found.plot().axes]
    assert sum("Explained: bright" in title for title in shown) == titles


def test_one_other_image_is_enough_to_give_patches(model):
    image, other = pictures(2)
    found = jaxseg_xai.explain(
        model, image, "bright", "ate", region="component", others=other, block_size=4, num_patches=2
    )
    assert found.status_name == "OK"
    assert found.scores["num_interventions"] > 0
    with pytest.raises(DataError, match="0 of 1 images can give patches; one is needed"):
        jaxseg_xai.explain(model, image, "bright", "ate", others=other[:3, :3], block_size=4)
