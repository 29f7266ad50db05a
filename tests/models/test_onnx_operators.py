"""Every operator against onnx's own evaluator, in every version that has another form."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg_xai.models.onnx import operators, spatial
from jaxseg_xai.models.onnx.graph import read_graph
from jaxseg_xai.models.onnx.run import run

onnx = pytest.importorskip("onnx", reason="it is the reference (extra onnx)")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

SHAPE = (2, 4, 6, 8)


def ints(*values):
    return np.array(values, np.int64)


def floats(*shape, seed=1, least=-1.0):
    return np.random.default_rng(seed).uniform(least, 1, shape).astype(np.float32)


def model_of(kind, *arrays, opset=18, shape=SHAPE, outputs=1, **attributes):
    """One operator of an image "x" and constants; None stands for an input that is left out."""
    names = ["x", *("" if array is None else f"c{i}" for i, array in enumerate(arrays))]
    found = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(kind, names, found, name="it", **attributes)
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *shape[1:]])
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in found]
    constants = [
        numpy_helper.from_array(array, f"c{i}")
        for i, array in enumerate(arrays)
        if array is not None
    ]
    graph = helper.make_graph([node], "one", [image], made, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def check(model, *, shape=SHAPE, atol=2e-5, outputs=1):
    x = floats(*shape, seed=0)
    expected = ReferenceEvaluator(model).run(None, {"x": x})
    for i in range(outputs):
        network = read_graph(model, i)
        variables = {name: jnp.asarray(value) for name, value in network.weights.items()}
        images = np.moveaxis(x, 1, -1) if network.graph.channels_first else x
        found = run(network.graph, variables, jnp.asarray(images))
        assert found.shape == expected[i].shape
        np.testing.assert_allclose(found, expected[i], atol=atol, rtol=1e-5)


UNARY = ["Abs", "Ceil", "Cos", "Elu", "Erf", "Exp", "Floor", "HardSigmoid", "HardSwish", "Identity"]
UNARY += ["LeakyRelu", "LogSoftmax", "Mish", "Neg", "Reciprocal", "Relu", "Sigmoid", "Sin"]
UNARY += [
    "Softmax",
    "Softplus",
    "Tanh",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Flatten",
    "Transpose",
]
UNARY += ["Dropout"]
BINARY = ["Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "PRelu"]
TESTED = {*UNARY, *BINARY, "Sqrt", "Log", "Where", "Equal", "Greater", "GreaterOrEqual", "Less"}
TESTED |= {"LessOrEqual", "And", "Or", "Not", "CastLike"}


@pytest.mark.parametrize("kind", UNARY)
def test_of_every_number(kind):
    check(model_of(kind))


SHAPES = [(), (8,), (1, 4, 1, 8)]


@pytest.mark.parametrize("kind", BINARY)
@pytest.mark.parametrize(
    "shape", [(4, 1, 1), *(pytest.param(shape, marks=pytest.mark.slow) for shape in SHAPES)]
)
def test_of_two_of_any_shapes(kind, shape):
    check(model_of(kind, floats(*shape, least=0.2)))


def text_model(body):
    """A graph of several operators, in onnx's own notation."""
    head = (
        '<ir_version: 8, opset_import: ["" : 18]> agraph (float[n,4,6,8] x) => (float[a,b,c,d] y) {'
    )
    return onnx.parser.parse_model(head + body + "}")


@pytest.mark.parametrize(
    "body",
    [
        "a = Abs(x) b = Sqrt(a) c = Log(a) y = Add(b, c)",
        "r = Relu(x) g = Greater(x, r) l = Less(x, r) e = Equal(x, r) o = Or(g, l) n = Not(o) "
        "m = And(e, n) y = Where(m, x, r)",
        "r = Relu(x) g = GreaterOrEqual(x, r) l = LessOrEqual(x, r) a = And(g, l) "
        "c = Cast<to = 1>(a) y = CastLike(c, x)",
        "i = Cast<to = 7>(x) y = Cast<to = 1>(i)",
        "h = Cast<to = 11>(x) y = Cast<to = 1>(h)",
        "two = Constant<value = float {2.0}>() y = Pow(x, two)",
        "half = Constant<value = float {0.5}>() a = Abs(x) y = Pow(a, half)",
        "r = Relu(x) y = Concat<axis = 1>(x, r)",
        "g = GlobalAveragePool(x) m = Mul(x, g) y = Concat<axis = -1>(x, m)",
        "t = Transpose<perm = [0, 2, 3, 1]>(x) y = Softmax<axis = -1>(t)",
        "y = Softmax<axis = 1>(x)",
        "g = GlobalMaxPool(x) y = Softmax<axis = 1>(g)",
        # Shapes computed from the image's, as exporters write them.
        "s = Shape(x) b = Shape<start = 0, end = 2>(x) m = Constant<value = int64[1] {-1}>() "
        "t = Concat<axis = 0>(b, m) f = Reshape(x, t) p = Transpose<perm = [0, 2, 1]>(f) "
        "q = MatMul(p, f) w = Unsqueeze(q, m) z = Squeeze(w, m) o = Transpose<perm = [0, 1, 2]>(z) "
        "u = Constant<value = int64[1] {1}>() y = Unsqueeze(o, u)",
        "s = Shape(x) z = ConstantOfShape<value = float[1] {2.0}>(s) y = Add(x, z)",
        "n = Size(x) c = Cast<to = 1>(n) y = Div(x, c)",
        "a = Constant<value = int64 {0}>() b = Constant<value = int64 {8}>() "
        "d = Constant<value = int64 {1}>() r = Range(a, b, d) f = Cast<to = 1>(r) y = Add(x, f)",
    ],
)
def test_graphs_of_several(body):
    check(text_model(body), atol=1e-4)


def slow_but_first(cases):
    """Further cases of one operator are slow."""
    seen, marked = set(), []
    for case in cases:
        marks = [pytest.mark.slow] if case[0] in seen else []
        seen.add(case[0])
        marked.append(pytest.param(*case, marks=marks))
    return marked


KERNEL = {"kernel_shape": [3, 3]}
CASES = [
    *[
        ("Conv", (floats(6, 4 // o.get("group", 1), 3, 2), b), o)
        for b in (None, floats(6))
        for o in (
            {},
            {"pads": [1, 0, 2, 1]},
            {"strides": [2, 3]},
            {"group": 2},
            {"dilations": [2, 1]},
        )
    ],
    ("Conv", (floats(8, 1, 3, 3),), {"group": 4, "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("Conv", (floats(8, 4, 3, 2),), {"auto_pad": "SAME_LOWER"}),
    ("Conv", (floats(8, 4, 1, 1),), {"auto_pad": "VALID"}),
    *[
        ("ConvTranspose", (floats(4, 3, 3, 2), floats(3)), o)
        for o in (
            {},
            {"strides": [2, 2], "pads": [1, 0, 1, 1], "output_padding": [1, 0]},
            {"strides": [3, 2], "output_shape": [19, 16]},
            {"dilations": [2, 3], "pads": [0, 1, 2, 3]},
            {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
        )
    ],
    *[
        ("MaxPool", (), o)
        for o in (
            {"kernel_shape": [2, 2], "strides": [2, 2]},
            KERNEL | {"strides": [2, 2], "pads": [1, 1, 1, 1]},
            KERNEL | {"strides": [2, 3], "ceil_mode": 1},
            KERNEL | {"dilations": [2, 1]},
            {"kernel_shape": [2, 3], "auto_pad": "SAME_UPPER"},
        )
    ],
    *[
        ("AveragePool", (), KERNEL | o | {"strides": [2, 2], "pads": [1, 1, 0, 1]})
        for o in ({}, {"count_include_pad": 1}, {"ceil_mode": 1})
    ],
    ("BatchNormalization", (floats(4), floats(4), floats(4), floats(4, least=0.5)), {}),
    (
        "BatchNormalization",
        (floats(4), floats(4), floats(4), floats(4, least=0.5)),
        {"epsilon": 0.1},
    ),
    ("InstanceNormalization", (floats(4), floats(4)), {"epsilon": 1e-3}),
    ("GroupNormalization", (floats(2), floats(2)), {"num_groups": 2}),
    ("LayerNormalization", (floats(8), floats(8)), {}),
    ("LayerNormalization", (floats(6, 8),), {"axis": 2, "epsilon": 1e-2}),
    ("DepthToSpace", (), {"blocksize": 2}),
    ("DepthToSpace", (), {"blocksize": 2, "mode": "CRD"}),
    ("SpaceToDepth", (), {"blocksize": 2}),
    ("Clip", (np.float32(-0.2), np.float32(0.3)), {}),
    ("Clip", (None, np.float32(0.3)), {}),
    ("Expand", (ints(3, 1, 1, 1, 1),), {}),
    ("Tile", (ints(1, 2, 1, 3),), {}),
    ("Reshape", (ints(0, -1, 4),), {}),
    ("Reshape", (ints(2, 192),), {"allowzero": 1}),
    ("Squeeze", (), {"shape": (2, 1, 6, 1)}),
    ("Unsqueeze", (ints(0, -1),), {}),
    ("Gather", (np.array(2, np.int64),), {"axis": 1}),
    ("Gather", (ints(1, -1, 0),), {"axis": 3}),
    ("Gather", (np.array([[0, 3], [2, -4]], np.int64),), {"axis": 1}),
    ("MatMul", (floats(8, 5),), {}),
    ("Einsum", (floats(8, 5),), {"equation": "bchw,wk->bchk"}),
    ("Gelu", (), {"opset": 20}),
    ("Gelu", (), {"opset": 20, "approximate": "tanh"}),
    *[
        (kind, (), {"axes": [2, -1], "opset": 17})
        for kind in ("ReduceMean", "ReduceMax", "ReduceL2")
    ],
    *[(f"Reduce{n}", (ints(1),), {"keepdims": 0}) for n in ("Mean", "Max", "Min", "Sum", "L2")],
    ("ReduceSum", (), {}),
    ("ReduceSum", (), {"noop_with_empty_axes": 1}),
    ("Slice", (ints(1), ints(2**63 - 1), ints(-1)), {}),
    ("Slice", (ints(-1, 5), ints(-(2**63), 0), ints(3, 2), ints(-1, -2)), {}),
    ("Slice", (ints(0, 1), ints(1, 4)), {}),
    ("Slice", (ints(1), ints(7), ints(3), ints(3)), {}),
    ("Split", (ints(1, 3),), {"axis": 1, "outputs": 2}),
    ("Split", (), {"axis": -1, "num_outputs": 3, "outputs": 3}),
    ("Split", (), {"axis": 1, "outputs": 2, "opset": 17}),
    ("Pad", (ints(0, 0, 1, 2, 0, 0, 3, 0),), {}),
    ("Pad", (ints(0, 0, 1, 2, 0, 0, 3, 0), np.float32(7)), {"opset": 17}),
    ("Pad", (ints(1, 2, 3, 0), None, ints(2, -1)), {"mode": "reflect"}),
    ("Pad", (ints(1, 2, 3, 0), None, ints(2, 3)), {"mode": "edge"}),
    ("Pad", (ints(1, 2, 3, 0), None, ints(2, 3)), {"mode": "wrap", "opset": 19}),
]
TESTED |= {kind for kind, _, _ in CASES} | {"Pow", "Cast", "Concat", "Gemm", "Resize"}


@pytest.mark.parametrize(("kind", "arrays", "options"), slow_but_first(CASES))
def test_with_attributes(kind, arrays, options):
    options = {**options}
    shape = options.get("shape", SHAPE)
    arrays = [None if a is None else np.asarray(a) for a in arrays]
    check(model_of(kind, *arrays, **options), shape=shape, outputs=options.get("outputs", 1))


def test_padding_may_cut():  # onnx's evaluator cannot
    network = read_graph(model_of("Pad", ints(0, 0, -1, 2, 0, 0, 1, -2)))
    x = floats(*SHAPE)
    found = run(network.graph, network.weights, np.moveaxis(x, 1, -1))
    expected = np.pad(x[:, :, 1:, :-2], ((0, 0), (0, 0), (0, 1), (2, 0)))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
def test_transposed_convolution_in_groups():  # onnx's evaluator fails for them
    torch = pytest.importorskip("torch", reason="it is the reference")
    x, weight, bias = floats(*SHAPE), floats(4, 3, 3, 2), floats(6)
    network = read_graph(model_of("ConvTranspose", weight, bias, group=2, strides=[2, 1]))
    found = run(network.graph, network.weights, jnp.asarray(np.moveaxis(x, 1, -1)))
    expected = torch.nn.functional.conv_transpose2d(
        *map(torch.from_numpy, (x, weight, bias)), stride=(2, 1), groups=2
    )
    np.testing.assert_allclose(found, expected.numpy(), atol=2e-5)


def test_every_operator_is_tested():
    known = {*operators.ANY_LAYOUT, *operators.DECLARED, *spatial.OPERATORS}
    assert known == TESTED


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose", "MaxPool", "InstanceNormalization"])
def test_volumes(kind):
    shape, cubes = (1, 2, 4, 5, 6), {"strides": [2, 2, 1], "pads": [1, 0, 1, 0, 1, 0]}
    arrays, options = {
        "Conv": ((floats(3, 2, 3, 2, 1),), cubes),
        "ConvTranspose": ((floats(2, 3, 3, 2, 1),), cubes),
        "MaxPool": ((), cubes | {"kernel_shape": [3, 2, 3]}),
        "InstanceNormalization": ((floats(2), floats(2)), {}),
    }[kind]
    check(model_of(kind, *arrays, shape=shape, **options), shape=shape)


MODES = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]


@pytest.mark.parametrize("size", [(12, 16), (9, 5), (3, 4), (1, 8), (6, 24)])
@pytest.mark.parametrize("where", MODES)
def test_resize_to_sizes(where, size):
    sizes = ints(2, 4, *size)
    # onnx's evaluator puts a single pixel to -0.5 instead of 0, as the text of the standard has it.
    one = where == "pytorch_half_pixel" and 1 in size
    for options in [{"mode": mode} for mode in ("linear", "nearest", "cubic")][: 2 if one else 3]:
        model = model_of(
            "Resize", None, None, sizes, coordinate_transformation_mode=where, **options
        )
        check(model)


@pytest.mark.parametrize("mode", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("where", MODES)
def test_resize_to_the_nearest(where, mode):
    # onnx's evaluator takes sizes that are not whole; runtimes round them down.
    whole = where == "align_corners"
    for scales in ((2.0, 3.0), (0.5, 0.25)) if whole else ((2.0, 3.0), (0.5, 0.6), (1.7, 1.0)):
        scales = np.array([1, 1, *scales], np.float32)
        options = {"nearest_mode": mode, "coordinate_transformation_mode": where}
        check(model_of("Resize", None, scales, **options))


@pytest.mark.parametrize(
    ("scales", "options"),
    [
        ((2.0, 2.5), {"mode": "cubic", "cubic_coeff_a": -0.5}),
        ((2.0, 2.5), {"mode": "cubic", "exclude_outside": 1}),
        ((0.5, 0.4), {"mode": "linear", "antialias": 1}),
        ((0.5, 0.4), {"mode": "cubic", "antialias": 1}),
        ((2.0, 2.0), {"mode": "linear", "antialias": 1}),
        ((1.3, 0.7), {"mode": "linear", "opset": 19, "where": "half_pixel_symmetric"}),
        ((2.0, 2.0), {"mode": "linear", "opset": 17}),
    ],
)
def test_resize_by_scales(scales, options):
    options = {**options}
    if "where" in options:
        options["coordinate_transformation_mode"] = options.pop("where")
    check(model_of("Resize", None, np.array([1, 1, *scales], np.float32), **options))


def test_resize_of_some_axes():
    check(model_of("Resize", None, np.array([2, 3], np.float32), axes=[3, 2], mode="linear"))


@pytest.mark.parametrize(
    "call",
    [
        "Gemm(f, t, b)",
        "Gemm<transA = 1>(f, f, b)",
        "Gemm<alpha = 0.5, beta = 2.0, transB = 1>(f, f, b)",
        "Gemm<transB = 1>(f, f)",
    ],
)
def test_gemm(call):
    body = (
        "f = Flatten<axis = 2>(x) t = Transpose<perm = [1, 0]>(f) "
        f"b = Constant<value = float[1] {{3.0}}>() y = {call}"
    )
    check(text_model(body), atol=1e-4)
