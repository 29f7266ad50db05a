"""`jaxseg_xai.sweep`: Python objects into a store that continues."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxseg_xai
from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.types import Sample
from jaxseg_xai.explainers.gradient.integrated_gradients import IntegratedGradients
from jaxseg_xai.store import ZarrStore
from jaxseg_xai.sweeps.config import RoiConfig
from jaxseg_xai.sweeps.work import listed
from tests import tiny


class Noise:
    """A data set of one's own."""

    class_names = ()
    ids = ("a", "b", "c")

    def __len__(self):
        return 3

    def __getitem__(self, index):
        pixels = np.random.default_rng(index).random((8, 8, 1)).astype(np.float32)
        return Sample(id=self.ids[index], image=pixels, labels=(pixels[..., 0] > 0.4).astype(int))


@pytest.fixture(scope="module")
def model():
    return jaxseg_xai.as_model(
        lambda x: 20 * (x - 0.5), class_names=["dark", "bright"], channels=1, name="pixels"
    )


def sweep(model, out, **options):
    explain = ["confidence", ("ig2", IntegratedGradients(num_nodes=2)), IntegratedGradients()]
    return jaxseg_xai.sweep(
        model=model, data=Noise(), explain=explain, out=out, progress=False, **options
    )


def test_an_own_model_data_set_and_explainer(model, tmp_path):
    out = tmp_path / "s.zarr"
    result = sweep(model, out)
    labels = ("confidence", "ig2", "integrated_gradients")
    assert result.counts == {label: {"OK": 3} for label in labels}
    found = jaxseg_xai.open_store(out)
    assert [one.image_id for one in found] == [*"abc"] * 3
    np.testing.assert_allclose(found[3].attribution, found[6].attribution, atol=1e-4)
    again = sweep(model, out)
    assert again.times.computed == dict.fromkeys(labels, 0)
    with pytest.raises(ConfigError, match="holds another sweep: seed was 0, is 1"):
        sweep(model, out, seed=1)
    half = jaxseg_xai.Storage(precision="half")
    assert sweep(model, out, seed=1, overwrite=True, storage=half).num_failed == 0
    assert ZarrStore.open(out).attrs["storage"]["precision"] == "half"


def test_samples_are_images_that_have_names_and_labels(model, tmp_path):
    samples = [Noise()[i] for i in range(2)]
    options = {"explain": "confidence", "out": tmp_path / "s.zarr", "progress": False}
    jaxseg_xai.sweep(model=model, data=samples, store_labels=True, **options)
    found = jaxseg_xai.open_store(tmp_path / "s.zarr")
    assert [one.image_id for one in found] == ["a", "b"]
    np.testing.assert_array_equal(found[0].image.labels, samples[0].labels)
    with pytest.raises(ConfigError, match="holds another sweep"):
        jaxseg_xai.sweep(model=model, data=samples[:1], store_labels=True, **options)


def test_pixels_that_are_not_scaled_are_refused_everywhere(tmp_path):
    model = jaxseg_xai.as_model(
        lambda x: 20 * (x[..., :1] - 0.5), class_names=["dark", "bright"], channels=3
    )
    explainer, words = IntegratedGradients(num_nodes=2), "s0: pixels of type uint8; its source must"
    with pytest.raises(ConfigError, match=words):
        jaxseg_xai.explain(model, tiny.Bytes(), "bright", explainer)
    result = jaxseg_xai.sweep(
        model=model,
        data=tiny.Bytes(),
        explain=explainer,
        classes="bright",
        out=tmp_path / "s.zarr",
        progress=False,
    )
    assert result.counts == {"integrated_gradients": {"FAILED": 2}}
    assert result.reasons[0].startswith(words)


def test_grey_folders_and_label_maps_are_taken_as_explain_takes_them(tmp_path):
    """Of a model that repeats grey images, and whose classes may overlap."""
    folder = tiny.write_images(tmp_path, ["i0", "i1"])
    for path in (folder / "images").iterdir():
        Image.open(path).convert("L").save(path)
    model = jaxseg_xai.as_model(
        lambda x: 20 * (x[..., :1] - 0.5),
        class_names=["bright"],
        channels=3,
        grey="repeat",
        activation="sigmoid",
    )
    options = {"explain": "ate", "classes": "bright", "progress": False, "store_labels": True}
    options |= {"roi": RoiConfig(side=8), "num_patches": 20}
    out = tmp_path / "s.zarr"
    result = jaxseg_xai.sweep(model=model, data=folder, out=out, **options)
    assert result.counts == {"ate": {"OK": 2}}
    found = jaxseg_xai.open_store(out)[0]
    disc = tiny.picture(0)[1] == 1
    np.testing.assert_array_equal(found.reference, disc)
    np.testing.assert_array_equal(found.image.labels[..., 0], disc)
    refused = jaxseg_xai.sweep(
        model=model,
        data=folder,
        out=tmp_path / "t.zarr",
        channels="refuse",
        **options | {"explain": "confidence"},
    )
    assert refused.counts == {"confidence": {"FAILED": 2}}


def test_another_model_does_not_continue_it(model, tmp_path):
    out = tmp_path / "s.zarr"
    sweep(model, out)
    other = jaxseg_xai.as_model(
        lambda x: 20 * (x - 0.5),
        class_names=["dark", "bright"],
        channels=1,
        name="pixels",
        mean=[0.1],
    )
    with pytest.raises(ConfigError, match=r"holds another sweep: input\.mean"):
        sweep(other, out)


def test_what_has_no_configuration_is_told_apart_by_what_it_is(tmp_path):
    """Another function, other pixels, another region: none of them continues a store."""
    names = {"class_names": ["dark", "bright"], "channels": 1, "name": "pixels"}
    first = jaxseg_xai.as_model(lambda x: 20 * (x - 0.5), **names)
    second = jaxseg_xai.as_model(lambda x: 20 * (x - 0.2), **names)

    def jitted(at):
        """With weights that it has captured."""
        level = jnp.full((1, 1), at)
        return jaxseg_xai.as_model(jax.jit(lambda x: 20 * (x - level)), **names)

    images = np.random.default_rng(0).random((2, 8, 8, 1)).astype(np.float32)

    def run(model=first, data=images, region="box 4", labels=None):
        entry = {"method": "confidence", "region": region, "band_width": 1}
        return jaxseg_xai.sweep(
            model=model, data=data, explain=[entry], labels=labels, out=out, progress=False
        )

    out = tmp_path / "s.zarr"
    computed = run().times.computed
    assert run().times.computed == {"confidence": 0}
    for changed in ({"model": second}, {"data": images[::-1]}):
        with pytest.raises(ConfigError, match="holds another sweep"):
            run(**changed)
    assert run(region="box 5").times.computed == computed  # of this entry only
    out = tmp_path / "jitted.zarr"
    run(model=jitted(0.5))
    assert run(model=jitted(0.5)).times.computed == {"confidence": 0}
    with pytest.raises(ConfigError, match="holds another sweep: program was"):
        run(model=jitted(0.2))


def test_a_path_of_one_image_is_one_image(tmp_path, model):
    folder = tiny.write_images(tmp_path, ["i0", "i1"], labels=False) / "images"
    model = jaxseg_xai.as_model(
        lambda x: 20 * (x[..., :1] - 0.5), class_names=["dark", "bright"], channels=3
    )
    jaxseg_xai.sweep(
        model=model,
        data=folder / "i1.png",
        explain=[IntegratedGradients(num_nodes=2)],
        out=tmp_path / "s.zarr",
        progress=False,
    )
    assert [one.image_id for one in jaxseg_xai.open_store(tmp_path / "s.zarr")] == ["i1"]


def test_samples_are_told_apart_by_what_they_hold(tmp_path):
    """And Pillow's images."""
    image, _ = tiny.picture(0)
    scaled = (image / 255).astype(np.float32)
    given = {
        "samples": [tiny.sample("a", scaled, None), tiny.sample("a", scaled / 2, None)],
        "pillow": [Image.fromarray(image), Image.fromarray(image // 2)],
    }
    for name, (one, other) in given.items():
        options = {"explain": "confidence", "out": tmp_path / name, "progress": False}
        options["model"] = jaxseg_xai.as_model(
            lambda x: 20 * (x[..., :1] - 0.5), class_names=["dark", "bright"], channels=3
        )
        found = jaxseg_xai.sweep(data=[one], **options)
        assert found.counts == {"confidence": {"OK": 1}}
        assert jaxseg_xai.sweep(data=[one], **options).times.computed == {"confidence": 0}
        with pytest.raises(ConfigError, match=r"holds another sweep: data\.source was 1 items"):
            jaxseg_xai.sweep(data=[other], **options)


def test_a_region_of_a_sweep_is_described(model, tmp_path):
    with pytest.raises(ConfigError, match=r"storage is 'half'; give a jaxseg_xai\.Storage"):
        sweep(model, tmp_path / "s.zarr", storage="half")
    with pytest.raises(ConfigError, match=r"roi is 'box'; give a jaxseg_xai\.RoiConfig"):
        sweep(model, tmp_path / "s.zarr", roi="box")


def test_images_of_a_list_of_regions_that_are_not_there_are_told(tmp_path, caplog):
    (tmp_path / "list.txt").write_text("b 2 3\nnobody 0 0\n")
    roi = RoiConfig(side=4, file=tmp_path / "list.txt")
    assert listed(roi, Noise(), range(3)) == ((1,), {"b": (2, 3), "nobody": (0, 0)})
    assert "1 of 2 images are not in the data set and are left out (the first: nobody)" in (
        caplog.text
    )
