"""One place that reads what a model returns, and one line for a model that is not as described."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxseg_xai.core.errors import ModelError
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.core.inputs import prepare
from jaxseg_xai.core.output_spec import OutputSpec
from jaxseg_xai.core.segmenter import Segmenter
from jaxseg_xai.core.types import Sample
from jaxseg_xai.models import as_model
from jaxseg_xai.models.zoo.unet import UNetConfig

NAMES = ("background", "a", "b")


def scores(images, count=3):
    """[B, *S, count], different in every pixel and class."""
    return jnp.concatenate([images[..., :1] * (k + 1) - k for k in range(count)], axis=-1)


def describe(function, class_names=NAMES, **description):
    description = {"channels": 1} | description
    return as_model(function, class_names=class_names, **description).segmenter


def images(*shape, seed=0):
    return jax.random.uniform(jax.random.key(seed), shape)


X = images(2, 4, 6, 1)

OUTPUTS = {
    "a dict": (lambda x: {"aux": 0 * x, "out": scores(x)}, {"select": ("out",)}),
    "a tuple in a dict": (lambda x: {"out": (0, scores(x))}, {"select": ("out", 1)}),
    "channels first": (lambda x: jnp.moveaxis(scores(x), -1, 1), {"channels_first": True}),
    "bfloat16": (lambda x: scores(x).astype(jnp.bfloat16), {}),
}


@pytest.mark.parametrize("case", OUTPUTS)
def test_outputs_that_the_description_makes_right(case):
    function, description = OUTPUTS[case]
    found = describe(function, **description).logits((), X)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, scores(X), atol=0.02 if case == "bfloat16" else 0)


@pytest.mark.parametrize("size", [(4, 6), (4, 6, 8)])
@pytest.mark.parametrize("method", ["linear", "nearest"])
def test_a_coarse_output_is_brought_to_the_grid(size, method):
    coarse = scores(images(2, *[n // 2 for n in size], 1))
    segmenter = describe(lambda x: coarse, rank=len(size), resize=method)
    found = segmenter.logits((), jnp.ones((2, *size, 1)))
    assert found.shape == (2, *size, 3)
    if method == "nearest":
        index = np.ix_(*[np.arange(n) // 2 for n in size])
        np.testing.assert_array_equal(found, coarse[(slice(None), *index)])
    else:  # pixel centres at halves: the first pixel takes all from the first, the second 3/4
        first = (slice(None),) + (0,) * len(size)
        np.testing.assert_allclose(found[first], coarse[first], atol=1e-6)
        second, inner = (slice(None), 1, *first[2:]), (slice(None), 1, *first[2:])
        wanted = 0.75 * coarse[first] + 0.25 * coarse[inner]
        np.testing.assert_allclose(found[second], wanted, atol=1e-6)


def raises(x):
    raise ValueError("no such layer\nand more")


def branches(x):
    return scores(x) if x.sum() > 0 else -scores(x)


WRONG = {
    "dict": (lambda x: {"out": scores(x)}, {}, r"not a dict of 'out'; set output.select"),
    "tuple": (lambda x: (scores(x), 1), {}, r"not a tuple of 2 outputs; set output.select"),
    "no such key": (lambda x: {"out": 1}, {"select": ("in",)}, r"no 'in' \(a dict of 'out'\)"),
    "no such index": (lambda x: [1], {"select": (1,)}, r"no 1 \(a list of 1 outputs\)"),
    "key of an array": (scores, {"select": ("out",)}, r"no 'out' \(an array"),
    "coarse": (lambda x: scores(x[:, ::2, ::2]), {}, "coarser .* set output.resize to linear"),
    "larger": (lambda x: scores(jnp.pad(x, [(0, 0), (0, 2), (0, 0), (0, 0)])), {}, "larger than"),
    "larger, to be resized": (
        lambda x: scores(jnp.repeat(x, 2, 1)),
        {"resize": "linear"},
        r"not \(2, 8, 6, 3\); it is larger than the input: crop",
    ),
    "channels first": (
        lambda x: jnp.moveaxis(scores(x), -1, 1),
        {},
        "channels come first: set output.channels_first to true",
    ),
    "channels last": (scores, {"channels_first": True}, "come last: .*channels_first to false"),
    "few classes": (lambda x: scores(x, 2), {}, "2 channels and class_names has 3"),
    "one logit of three": (lambda x: x, {}, "1 channels and class_names has 3"),
    "many classes": (lambda x: scores(x, 5), {}, r"logits \[B, 4, 6, 3\], not \(2, 4, 6, 5\)"),
    "few planes": (lambda x: scores(x, 2), {"activation": "sigmoid"}, r"name every class\b(?!,)"),
    "a label map": (lambda x: x[..., 0], {}, r"not an array \(2, 4, 6\); return one score"),
    "one image": (lambda x: scores(x)[:1], {}, "logits of 1 images for 2"),
    "it raises": (raises, {}, r"cannot be applied .* ValueError: no such layer; describe"),
    "control flow": (branches, {}, "TracerBoolConversionError"),
    "NumPy": (lambda x: np.asarray(x), {}, "TracerArrayConversionError"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_model_speaks_once(case):
    function, description, match = WRONG[case]
    segmenter = describe(function, **description)
    with pytest.raises(ModelError, match=match) as error:
        jax.jit(segmenter)((), X)
    assert "\n" not in str(error.value)


def test_errors_of_ours_inside_a_model_stay_what_they_are():
    def refuses(x):
        raise ModelError("mine")

    with pytest.raises(ModelError, match=r"^mine$"):
        describe(refuses).logits((), X)


@pytest.mark.parametrize(
    ("description", "shape", "match"),
    [
        ({}, (2, 4, 6, 3), r"takes \[B, H, W, 1\], not \(2, 4, 6, 3\)"),
        ({}, (4, 6, 1), r"takes \[B, H, W, 1\]"),
        ({"rank": 3}, (2, 4, 6, 1), r"takes \[B, D, H, W, 1\]"),
        ({"multiple_of": 4}, (2, 4, 6, 1), r"takes multiples of 4, not \(4, 6\); prepare"),
        ({"fixed_size": (4, 4)}, (2, 4, 6, 1), r"takes size \(4, 4\), not \(4, 6\); prepare"),
    ],
)
def test_inputs_must_be_prepared(description, shape, match):
    with pytest.raises(ModelError, match=match):
        describe(scores, **description).logits((), jnp.ones(shape))


def test_a_net_of_one_size_sees_that_size():
    weight = images(8 * 8, 8 * 8)

    def dense(x):  # works for 8 x 8 alone
        return scores((x.reshape(len(x), -1) @ weight).reshape(x.shape))

    segmenter = describe(dense, fixed_size=(8, 8))
    prepared = prepare(Sample(id="x", image=np.ones((5, 7, 1), np.float32)), segmenter.input)
    logits = segmenter.logits((), prepared.image[None])
    assert prepared.grid.back(np.asarray(logits[0])).shape == (5, 7, 3)
    open_ended = describe(dense)
    with pytest.raises(ModelError, match=r"input\.multiple_of or input\.fixed_size"):
        open_ended.logits((), jnp.ones((1, 5, 7, 1)))


# What an output means.


@pytest.mark.parametrize("size", [(4, 6), (3, 4, 5)])
def test_softmax_is_one_class_a_pixel(size):
    output = OutputSpec(class_names=NAMES)
    logits = jax.random.normal(jax.random.key(0), (2, *size, 3))
    largest = np.argmax(np.asarray(logits), -1)
    planes = output.segment(logits)
    assert (planes.sum(-1) == 1).all()
    np.testing.assert_array_equal(output.prediction(logits), largest)
    exponential = np.exp(np.asarray(logits))
    probability = exponential / exponential.sum(-1, keepdims=True)
    np.testing.assert_allclose(output.probability(logits), probability, rtol=1e-5)
    for index in range(3):
        np.testing.assert_array_equal(output.segment_of(logits, index), largest == index)
        np.testing.assert_array_equal(planes[..., index], largest == index)
        found = jax.jit(output.probability_of)(logits, index)
        np.testing.assert_allclose(found, probability[..., index], rtol=1e-5)
    assert output.foreground == (1, 2)


@pytest.mark.parametrize("activation", ["sigmoid", "threshold"])
@pytest.mark.parametrize("size", [(4, 6), (3, 4, 5)])
def test_classes_that_may_overlap(activation, size):
    output = OutputSpec(class_names=NAMES, activation=activation, threshold=0.75)
    z = jax.random.normal(jax.random.key(0), (2, *size, 3))
    wanted = np.asarray(z) > (0 if activation == "sigmoid" else 0.75)
    assert {0, 1, 2, 3} <= set(wanted.sum(-1).ravel())
    np.testing.assert_array_equal(output.segment(z), wanted)
    np.testing.assert_array_equal(output.prediction(z), wanted)
    exact = 1 / (1 + np.exp(-np.asarray(z))) if activation == "sigmoid" else np.clip(z, 0, 1)
    np.testing.assert_allclose(output.probability(z), exact, rtol=1e-5)
    for index in range(3):
        np.testing.assert_array_equal(output.segment_of(z, index), wanted[..., index])
        np.testing.assert_allclose(output.probability_of(z, index), exact[..., index], rtol=1e-5)
    assert output.foreground == (0, 1, 2)
    assert output.overlapping


def test_one_logit_is_two_classes_of_softmax_and_one_of_sigmoid():
    z = X - 0.5
    pair = describe(lambda x: x - 0.5, ("background", "object")).logits((), X)
    np.testing.assert_array_equal(pair, jnp.concatenate([0 * z, z], -1))
    alone = describe(lambda x: x - 0.5, ("object",), activation="sigmoid")
    np.testing.assert_array_equal(alone.logits((), X), z)
    np.testing.assert_array_equal(alone.output.segment_of(z, 0), z[..., 0] > 0)
    softmax = OutputSpec(class_names=("background", "object"))
    np.testing.assert_allclose(
        softmax.probability_of(pair, 1), alone.output.probability_of(z, 0), rtol=1e-5
    )
    np.testing.assert_array_equal(softmax.segment_of(pair, 1), alone.output.segment_of(z, 0))


@pytest.mark.parametrize(
    ("spec", "fields", "match"),
    [
        (OutputSpec, {"class_names": "ab"}, "give a list of names"),
        (OutputSpec, {"class_names": ("a",)}, "1 entries; softmax needs at least 2, background"),
        (OutputSpec, {"class_names": (), "activation": "sigmoid"}, "needs at least 1; describe"),
        (OutputSpec, {"class_names": NAMES, "activation": "relu"}, "'relu'; use softmax, sigmoid"),
        (OutputSpec, {"class_names": NAMES, "resize": "cubic"}, "'cubic'; use refuse, linear"),
        (InputSpec, {"rank": 4}, "rank 4"),
        (InputSpec, {"std": (1.0, 0.0, 1.0)}, "std holds 0"),
        (InputSpec, {"pad": "zeros"}, "'zeros'; use refuse, edge"),
        (InputSpec, {"grey": "yes"}, "'yes'; use refuse, repeat"),
    ],
)
def test_descriptions_that_contradict_themselves(spec, fields, match):
    with pytest.raises(ModelError, match=match):
        spec(**fields)


# Hashes, and what a model computes in.


def test_equal_descriptions_share_a_compiled_program():
    traces = []

    def make(**fields):
        return Segmenter(
            apply=scores_of,
            input=InputSpec(channels=1, mean=[0.5]),
            output=OutputSpec(class_names=list(NAMES), **fields),
        )

    @functools.partial(jax.jit, static_argnames="segmenter")
    def run(x, segmenter):
        traces.append(segmenter)
        return segmenter.logits((), x)

    for fields in ({}, {}, {"activation": "sigmoid"}):
        run(X, segmenter=make(**fields))
    assert make() == make()
    assert hash(make()) == hash(make())
    assert len({make(), make(), make(activation="sigmoid")}) == 2
    assert len(traces) == 2


def scores_of(variables, x):
    return scores(x)


def unet(dtype="float32"):
    """A segmenter, and random weights of it (drawing Flax's own would compile for seconds)."""
    config = UNetConfig.of_width(4, 1, norm="none")
    model = nnx.eval_shape(lambda: config.build(nnx.Rngs(0)))
    bundle = as_model(model, class_names=("background", "object"), multiple_of=2, dtype=dtype)
    rng = np.random.default_rng(0)
    weights = jax.tree.map(
        lambda leaf: 0.3 * rng.normal(size=leaf.shape).astype(np.float32), bundle.variables
    )
    return bundle.segmenter, weights


def test_bfloat16_computes_in_bfloat16_and_answers_in_float32():
    (exact, weights), (rough, _) = unet(), unet("bfloat16")
    x = images(1, 8, 8, 3)
    lowered = jax.jit(rough).lower(weights, x)
    found, wanted = lowered.compile()(weights, x), jax.jit(exact)(weights, x)
    assert found.dtype == jnp.float32
    assert "bf16" in lowered.as_text()
    assert 0 < jnp.abs(found - wanted).max() < 0.1 * jnp.abs(wanted).max() + 0.05


def test_bfloat16_of_weights_that_are_numbers_and_keys():
    def function(variables, x):
        scale, count, key = variables
        assert (scale.dtype, x.dtype) == (jnp.bfloat16, jnp.bfloat16)
        return scores(x) * scale * count + 0 * jax.random.uniform(key, (1,), jnp.bfloat16)

    variables = (0.5, 2, jax.random.key(0))
    segmenter = dataclasses.replace(describe(scores, dtype="bfloat16"), apply=function)
    np.testing.assert_allclose(segmenter.logits(variables, X), scores(X), atol=0.02)


@pytest.mark.parametrize(
    ("dtype", "precision"), [("float32", "HIGHEST"), ("tensorfloat32", "HIGH")]
)
def test_products_are_as_precise_as_asked_forwards_and_backwards(dtype, precision):
    segmenter, weights = unet(dtype)
    x = jnp.ones((1, 4, 4, 3))

    def loss(x):
        return segmenter(weights, x).sum()

    program = str(jax.make_jaxpr(jax.value_and_grad(loss))(x))
    found = set(re.findall(r"precision=(\S+)", program.replace("(", "").replace(",", "")))
    assert found == {f"Precision.{precision}"}


def test_replace_changes_what_is_done_with_inputs_and_what_is_computed_in():
    segmenter = describe(scores).replace(pad="edge", grey="repeat", dtype="bfloat16")
    assert (segmenter.input.pad, segmenter.input.grey) == ("edge", "repeat")
    assert segmenter.dtype == "bfloat16"
    with pytest.raises(ModelError, match="dtype is 'int8'; use float32"):
        segmenter.replace(dtype="int8")
