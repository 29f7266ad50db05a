"""ONNX files as models: a U-Net and a SegFormer that PyTorch exported."""

import json
import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxseg_xai
from jaxseg_xai.core.errors import ConfigError, MissingExtraError, ModelError
from jaxseg_xai.incremental import make_plan
from jaxseg_xai.models import from_onnx, load_model
from jaxseg_xai.models.registry import ADAPTERS
from jaxseg_xai.program.sites import find_sites
from jaxseg_xai.program.trace import trace

onnx = pytest.importorskip("onnx", reason="it reads the files (extra onnx)")

FILES = Path(__file__).parents[1] / "reference" / "onnx"
NAMES = ("background", "object", "other")


@pytest.fixture(scope="module")
def reference():
    with np.load(FILES / "logits.npz") as file:
        return dict(file)


def load(name):
    return from_onnx(FILES / f"{name}.onnx", class_names=NAMES)


@pytest.mark.parametrize("name", ["unet", "segformer"])
def test_logits_are_those_of_pytorch(name, reference):
    model = load(name)
    found = jax.jit(model.segmenter)(model.variables, reference["images"])
    np.testing.assert_allclose(found, reference[name], atol=1e-5)


@pytest.mark.parametrize("name", ["unet", "segformer"])
@pytest.mark.slow
def test_half_precision_is_near(name, reference):
    model = load(name)
    half = model.segmenter.replace(dtype="bfloat16")
    found = jax.jit(half)(model.variables, reference["images"])
    assert np.abs(found - reference[name]).max() < 0.5


def test_a_file_for_one_image_that_reshapes_takes_several(reference):
    proto = onnx.load(FILES / "segformer.onnx")
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    model = jaxseg_xai.as_model(proto, class_names=NAMES)
    assert model.segmenter.apply.graph.one_by_one
    found = jax.jit(model.segmenter)(model.variables, reference["images"])
    np.testing.assert_allclose(found, reference["segformer"], atol=1e-5)


def test_the_file_describes_its_images():
    assert load("segformer").segmenter.input.fixed_size == (32, 32)
    assert load("unet").segmenter.input.fixed_size is None
    model = from_onnx(FILES / "unet.onnx", class_names=NAMES, multiple_of=4, mean=(0.5,) * 3)
    assert (model.segmenter.input.channels, model.segmenter.input.multiple_of) == (3, 4)
    for name, size, match in (
        ("segformer", 64, r"takes size \(32, 32\), not \(64, 64\)"),
        ("unet", 30, r"Concat .* does not take images \(30, 30\)"),
    ):
        model = load(name)
        with pytest.raises(ModelError, match=match):
            model.segmenter.logits(model.variables, jnp.zeros((1, size, size, 3)))


def test_windows_and_layers_are_found():
    model = load("unet")
    plan = make_plan(
        model.segmenter, model.variables, (64, 64, 3), block=(4, 4), region=(8, 8), num_patches=2
    )
    table = plan.table()
    assert not any(row.note for row in table.rows)
    assert table.ratio > 10
    names = [
        site.name
        for site in find_sites(trace(model.segmenter, model.variables, (1, 32, 32, 3), "float32"))
    ]
    assert names[:3] == ["stem/stem.0", "stem/stem.3", "down1/down1.0"]
    assert {"rise", "head", "stem/stem.3 -> up2/up2.0"} <= set(names)


@pytest.mark.slow
def test_layers_of_the_newer_exporter_have_names_and_one_program():
    model = load("segformer")
    program = trace(model.segmenter, model.variables, (1, 32, 32, 3), "float32")
    names = [site.name for site in find_sites(program)]
    assert names[:3] == ["stages/0/patches", "stages/0/attention/q", "stages/0/attention/reduce"]
    plan = make_plan(
        model.segmenter, model.variables, (32, 32, 3), block=(4, 4), region=(8, 8), num_patches=2
    )
    assert "something else for one image" not in str(plan)


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("grad_cam", {}),
        ("ate", {"block_size": 4, "perturbation": "zero", "region": "box 8", "threshold": 0.01}),
        ("misure", {"num_iterations": 2, "max_dilations": 2}),
    ],
)
@pytest.mark.parametrize("name", ["unet", "segformer"])
@pytest.mark.slow
def test_methods_explain_them(name, method, settings, reference):
    most = np.bincount(reference[name][0].argmax(-1).ravel(), minlength=3).argmax()
    image = reference["images"][0]
    found = jaxseg_xai.explain(load(name), image, NAMES[most], method, **settings)
    assert np.isfinite(found.attribution).all()
    assert np.any(found.attribution)


def test_a_card_may_name_a_file(tmp_path, reference):
    shutil.copy(FILES / "unet.onnx", tmp_path / "net.onnx")
    card = {"onnx": "net.onnx", "class_names": NAMES, "input": {"multiple_of": 4}}
    (tmp_path / "model.json").write_text(json.dumps(card))
    model = load_model(tmp_path)
    assert model.segmenter.input.multiple_of == 4
    assert model.segmenter.output.channels_first
    assert model.segmenter.apply != load_model(tmp_path).segmenter.apply
    for changes, match in (
        ({"onnx": "none.onnx"}, r"model\.json: onnx: .*none\.onnx: no such file"),
        ({"onnx": 3}, "3 is no name of a file"),
        ({"weights": "net.npz"}, "an ONNX file has its own weights; leave weights out"),
    ):
        (tmp_path / "model.json").write_text(json.dumps(card | changes))
        with pytest.raises(ModelError, match=match):
            load_model(tmp_path)


def parsed(body, *, opset=18, inputs="float[n,3,h,w] x", outputs="float[n,3,h,w] y", more=""):
    text = f'<ir_version: 8, opset_import: ["" : {opset}{more}]> agraph ({inputs}) => ({outputs})'
    return onnx.parser.parse_model(f"{text} {{ {body} }}")


@pytest.mark.parametrize(
    ("model", "match"),
    [
        (
            parsed("a = GridSample(x, x) b = NonMaxSuppression(a, x) y = Relu(b)"),
            "operators that are not supported: GridSample, NonMaxSuppression; export",
        ),
        (parsed("y = my.Thing(x)", more=', "my" : 1'), r"not supported: my\.Thing"),
        (parsed("y = Relu(x)", opset=11), r"opset 11; 17 to 20 .*convert_version\(model, 18\)"),
        (parsed("y = Relu(x)", opset=21), "opset 21; 17 to 20 are supported: export with"),
        (
            parsed("y = Add(x, z)", inputs="float[n,3,h,w] x, float[n,3,h,w] z"),
            "inputs x, z; export",
        ),
        (parsed("y = Relu(x)", inputs="float[n,3] x"), "an input of 2 axes"),
        (
            parsed("y = Relu(x)", inputs="float[4,3,8,8] x"),
            "it takes 4 images at a time; export it",
        ),
    ],
)
def test_graphs_that_cannot_be_used_are_one_line(model, match):
    with pytest.raises(ModelError, match=match) as error:
        jaxseg_xai.as_model(model, class_names=NAMES)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("body", "match"),
    [
        (
            "s = Cast<to = 7>(x) y = Reshape(x, s)",
            "a shape that depends on the values of the image",
        ),
        ("s = Cast<to = 7>(x) y = ConstantOfShape(s)", "a result that depends on the values"),
        (
            "e = Constant<value = float[0] {}>() z = Cast<to = 7>(x) y = Resize(x, e, e, z)",
            "a size",
        ),
        ('y = Pad<mode = "warp">(x, x)', "a shape that depends"),
        ("y, i = MaxPool<kernel_shape = [1, 1]>(x)", r"the second output \(indices\) is not"),
    ],
)
def test_what_depends_on_values_is_one_line(body, match):
    model = jaxseg_xai.as_model(parsed(body), class_names=NAMES)
    with pytest.raises(ModelError, match=match):
        model.segmenter.logits(model.variables, jnp.ones((1, 4, 4, 3)))


def test_channels_may_be_last_and_outputs_several():
    body = "y = Relu(x) z = Neg(x)"
    model = parsed(body, inputs="float[n,h,w,3] x", outputs="float[n,h,w,3] y, float[n,h,w,3] z")
    bundle = jaxseg_xai.as_model(model, class_names=NAMES)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 5, 3)), jnp.float32)
    np.testing.assert_array_equal(bundle.segmenter.logits({}, x), jax.nn.relu(x))


def test_outputs_are_chosen_by_name_or_number(tmp_path):
    outputs = "float[n,3,h,w] y, float[n,3,h,w] z"
    onnx.save(parsed("y = Relu(x) z = Neg(x)", outputs=outputs), tmp_path / "net.onnx")
    x = jnp.ones((1, 2, 2, 3))
    for output in ("z", 1, -1):
        model = from_onnx(tmp_path / "net.onnx", class_names=NAMES, output=output)
        np.testing.assert_array_equal(model.segmenter.logits({}, x), -x)
    with pytest.raises(ModelError, match="no output 'logits'; it has y, z"):
        from_onnx(tmp_path / "net.onnx", class_names=NAMES, output="logits")


@pytest.mark.parametrize("length", [0, 10, 20000])
def test_damaged_files_are_one_line(tmp_path, length):
    (tmp_path / "net.onnx").write_bytes((FILES / "unet.onnx").read_bytes()[:length])
    with pytest.raises(ModelError, match=r"net\.onnx: ") as error:
        from_onnx(tmp_path / "net.onnx", class_names=NAMES)
    assert "\n" not in str(error.value)


def test_weights_beside_the_file_are_read(tmp_path):
    proto = onnx.load(FILES / "unet.onnx")
    onnx.save(
        proto,
        tmp_path / "net.onnx",
        save_as_external_data=True,
        location="net.data",
        size_threshold=0,
    )
    assert len(from_onnx(tmp_path / "net.onnx", class_names=NAMES).variables) == 24
    (tmp_path / "net.data").unlink()
    with pytest.raises(ModelError, match=r"net\.(data|onnx)"):
        from_onnx(tmp_path / "net.onnx", class_names=NAMES)


def test_weights_twice_and_an_absent_package(monkeypatch):
    proto = onnx.load(FILES / "unet.onnx")
    with pytest.raises(ConfigError, match="holds its own weights; leave variables out"):
        jaxseg_xai.as_model(proto, {}, class_names=NAMES)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'jaxseg-xai\[onnx\]'"):
        load("unet")
    assert not ADAPTERS.get("onnx").matches(proto)
