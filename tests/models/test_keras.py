"""Keras models on its JAX backend."""

import importlib.util
import json
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxseg_xai
from jaxseg_xai.core.errors import ConfigError, MissingExtraError, ModelError
from jaxseg_xai.incremental import make_plan
from jaxseg_xai.models import from_keras, load_model
from jaxseg_xai.models.adapters.keras import _import_keras

if not importlib.util.find_spec("keras"):
    pytest.skip("it makes the models (extra keras)", allow_module_level=True)
keras = _import_keras("testing")
NAMES = ("background", "object")


def unet(size=(None, None), activation=None):
    layers = keras.layers
    image = keras.Input((*size, 3))
    fine = layers.Conv2D(4, 3, padding="same", activation="relu", name="enter")(image)
    fine = layers.Dropout(0.5)(layers.BatchNormalization(name="norm")(fine))
    coarse = layers.MaxPooling2D()(fine)
    coarse = layers.Conv2D(8, 3, padding="same", activation="relu", name="deep")(coarse)
    risen = layers.UpSampling2D(interpolation="bilinear")(coarse)
    joined = layers.Concatenate()([fine, risen])
    return keras.Model(image, layers.Conv2D(2, 1, activation=activation, name="head")(joined))


@pytest.fixture(scope="module")
def net():
    keras.utils.set_random_seed(0)
    return unet()


@pytest.fixture(scope="module")
def saved(net, tmp_path_factory):
    path = tmp_path_factory.mktemp("keras") / "net.keras"
    with warnings.catch_warnings(action="ignore"):  # what Keras asks of NumPy
        net.save(path)
    return path


def images(count=2, size=16):
    return np.random.default_rng(0).random((count, size, size, 3)).astype(np.float32)


def test_logits_are_those_of_keras_and_weights_a_copy(net):
    model = from_keras(net, class_names=NAMES)
    assert model.segmenter.input.channels == 3
    expected = net(images(), training=False)
    found = jax.jit(model.segmenter)(model.variables, images())
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert {"enter/kernel", "norm/moving_mean", "head/bias"} <= set(model.variables)
    no_weights = jax.tree.map(jnp.zeros_like, model.variables)
    assert not np.any(model.segmenter.logits(no_weights, images()))


def test_windows_and_layers_are_found(net):
    model = from_keras(net, class_names=NAMES)
    plan = make_plan(
        model.segmenter, model.variables, (64, 64, 3), block=(4, 4), region=(8, 8), num_patches=2
    )
    table = plan.table()
    assert not any(row.note for row in table.rows)
    assert {row.layer for row in table.rows} >= {"enter", "deep", "head"}
    assert table.ratio > 10


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("grad_cam", {}),
        ("ate", {"block_size": 4, "perturbation": "zero", "region": "box 8"}),
        ("misure", {"num_iterations": 2, "max_dilations": 2}),
    ],
)
@pytest.mark.slow
def test_methods_explain_them(net, method, settings):
    model = from_keras(net, class_names=NAMES)
    found = jaxseg_xai.explain(model, images()[0], "object", method, **settings)
    assert np.isfinite(found.attribution).all()


def test_a_card_may_name_a_file_or_a_factory(saved, tmp_path, net, monkeypatch):
    card = {"keras": saved.name, "class_names": NAMES}
    (saved.parent / "model.json").write_text(json.dumps(card))
    model = load_model(saved.parent)
    expected = from_keras(net, class_names=NAMES).variables["deep/kernel"]
    np.testing.assert_array_equal(model.variables["deep/kernel"], expected)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_keras_nets.py").write_text(
        "import keras\n"
        "def build():\n"
        "    return keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 1)])\n"
    )
    (tmp_path / "model.json").write_text(json.dumps(card | {"keras": "my_keras_nets:build"}))
    spec = load_model(tmp_path).segmenter.input
    assert (spec.channels, spec.fixed_size) == (1, (8, 8))
    for changes, match in (
        ({"keras": "none.keras"}, r"none\.keras: no such file"),
        ({"keras": "my_keras_nets:build", "weights": "a.npz"}, "leave weights out"),
        ({"keras": "my_keras_nets:keras"}, "fails"),
    ):
        (tmp_path / "model.json").write_text(json.dumps(card | changes))
        with pytest.raises(ModelError, match=match):
            load_model(tmp_path)


def test_a_sigmoid_at_the_end_is_read_as_probabilities():
    model = from_keras(unet(activation="sigmoid"), class_names=("liver", "spleen"))
    assert model.segmenter.output.activation == "threshold"


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: unet(activation="softmax"), r"'head' ends in a softmax, .*get_layer\('head'\)"),
        (lambda: keras.Sequential([keras.layers.Conv2D(2, 1)]), "no weights yet: call model.build"),
        (
            lambda: keras.Model(
                [a := keras.Input((8, 8, 2)), b := keras.Input((8, 8, 2))], keras.layers.add([a, b])
            ),
            "several inputs",
        ),
        (
            lambda: keras.Sequential(
                [keras.Input((3, 8, 8)), keras.layers.MaxPooling2D(data_format="channels_first")]
            ),
            "has channels first",
        ),
    ],
)
def test_models_that_cannot_be_explained_are_one_line(make, match):
    with pytest.raises(ModelError, match=match) as error:
        from_keras(make(), class_names=NAMES)
    assert "\n" not in str(error.value)


def test_what_is_no_model_and_an_absent_keras(net, monkeypatch, tmp_path):
    with pytest.raises(ConfigError, match=r"a function is no keras\.Model; use as_model"):
        from_keras(unet, class_names=NAMES)
    with pytest.raises(ConfigError, match="holds its own weights; leave variables out"):
        jaxseg_xai.as_model(net, {}, class_names=NAMES)
    (tmp_path / "net.keras").write_bytes(b"PK\x03\x04")
    with pytest.raises(ModelError, match=r"net\.keras: cannot be loaded \("):
        from_keras(tmp_path / "net.keras", class_names=NAMES)
    monkeypatch.setattr(keras.backend, "backend", lambda: "tensorflow")
    with pytest.raises(ConfigError, match="Keras runs on tensorflow: set KERAS_BACKEND=jax"):
        from_keras(net, class_names=NAMES)
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'jaxseg-xai\[keras\]'"):
        from_keras("net.keras", class_names=NAMES)


@pytest.mark.slow
def test_another_backend_that_is_absent_is_one_line(saved):
    code = f"import jaxseg_xai; jaxseg_xai.from_keras({str(saved)!r}, class_names=['a', 'b'])"
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PATH": "", "KERAS_BACKEND": "tensorflow"},
    )
    assert "set KERAS_BACKEND=jax" in run.stderr.splitlines()[-1]
