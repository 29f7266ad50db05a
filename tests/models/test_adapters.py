"""Python objects as models: what is taken, what is refused, when compiled programs are shared."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import jaxseg_xai
from jaxseg_xai.core.errors import ConfigError, ModelError
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.models import ADAPTERS, as_model
from jaxseg_xai.models.zoo.unet import UNetConfig

NAMES = ("background", "object")


class Wrapped(nnx.Module):
    """A model that calls its layers as Flax's transforms would have it."""

    def __init__(self, wrap):
        self.wrap, self.conv = wrap, nnx.Conv(1, 2, (3, 3), rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.wrap(lambda conv, x: conv(x))(self.conv, x)


@pytest.mark.parametrize("wrap", [nnx.remat, nnx.jit])
def test_models_that_use_transforms_of_flax_have_gradients(wrap):
    image = jnp.asarray(np.random.default_rng(0).normal(size=(6, 5, 1)), jnp.float32)

    def gradient(wrap):
        bundle = as_model(Wrapped(wrap), class_names=NAMES, channels=1)
        run = functools.partial(bundle.segmenter, bundle.variables)
        return jax.grad(lambda image: jnp.var(run(image[None])))(image)

    np.testing.assert_allclose(gradient(wrap), gradient(lambda f: f), atol=1e-6)


def random_unet(seed=0):
    return UNetConfig.of_width(2, 1).build(nnx.Rngs(seed))


def traces_of(models):
    """How often a function of the models is traced, and what it gives."""
    traces, outputs = [], []

    @functools.partial(jax.jit, static_argnums=0)
    def run(segmenter, variables, x):
        traces.append(1)
        return segmenter(variables, x)

    for model in models:
        outputs.append(run(model.segmenter, model.variables, jnp.ones((1, 4, 4, 3))))
    return len(traces), outputs


def test_models_of_one_architecture_share_a_compiled_program():
    description = {"class_names": NAMES, "multiple_of": 2}
    count, outputs = traces_of(as_model(random_unet(seed), **description) for seed in (0, 1))
    assert count == 1
    assert not np.allclose(*outputs)
    other = {"class_names": NAMES, "multiple_of": 4}
    count, _ = traces_of(as_model(random_unet(), **d) for d in (description, other))
    assert count == 2


def test_modules_are_in_evaluation_mode():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.norm, self.drop = nnx.BatchNorm(3, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x):
            return self.drop(self.norm(x))

    model = Net(nnx.Rngs(0))
    bundle = as_model(model, class_names=("a", "b", "c"))
    x = jax.random.uniform(jax.random.key(0), (4, 4, 4, 3))
    together = bundle.segmenter(bundle.variables, x)
    alone = [bundle.segmenter(bundle.variables, x[i : i + 1]) for i in range(4)]
    np.testing.assert_allclose(together, jnp.concatenate(alone), atol=1e-6)
    np.testing.assert_allclose(together, x / np.sqrt(1 + 1e-5), atol=1e-5)
    assert not model.drop.deterministic  # the object itself is as it was


def test_linen_modules():
    module = linen.Conv(2, (3, 3))
    x = jnp.ones((1, 4, 4, 3))
    variables = module.init(jax.random.key(0), x)
    bundle = as_model(module, variables, class_names=NAMES)
    again = as_model(linen.Conv(2, (3, 3)), variables, class_names=NAMES)
    assert hash(bundle.segmenter) == hash(again.segmenter)
    assert bundle.segmenter == again.segmenter
    found = bundle.segmenter(bundle.variables, x)
    np.testing.assert_array_equal(found, module.apply(variables, x))


def scaled(variables, images):
    return images * variables


@dataclasses.dataclass
class Unhashable:
    """Equal by value, and so without a hash."""

    scale: float

    def __call__(self, variables, images):
        return images * variables * self.scale


@dataclasses.dataclass(frozen=True)
class HoldsAnArray:
    """It has a hash function, which fails."""

    scale: jax.Array

    def __call__(self, variables, images):
        return images * variables * self.scale


FUNCTIONS = {
    "function": scaled,
    "lambda": lambda variables, images: images * variables,
    "jitted": jax.jit(scaled),
    "partial": functools.partial(lambda scale, v, x: scale * x * v, 1.0),
    "unhashable": Unhashable(1.0),
    "holds an array": HoldsAnArray(jnp.ones(())),
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_functions_of_weights_and_inputs(function):
    model = as_model(function, 2.0, class_names=("a", "b", "c"))
    assert hash(model.segmenter) == hash(dataclasses.replace(model).segmenter)
    count, (one, two) = traces_of([model, model])
    assert count == 1
    np.testing.assert_array_equal(one, 2 * jnp.ones((1, 4, 4, 3)))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("function", [lambda x: 2 * x, jax.jit(lambda x: 2 * x)])
def test_functions_of_inputs_alone(function):
    model = as_model(function, class_names=("a", "b", "c"))
    count, outputs = traces_of([model, model])
    assert count == 1
    np.testing.assert_array_equal(outputs[0], 2 * jnp.ones((1, 4, 4, 3)))


class Scales:
    """An object whose weights change in place."""

    def __init__(self):
        self.weights = {"scale": np.float32(1)}

    def __call__(self, x):
        return self.weights["scale"] * x

    def with_variables(self, variables, x):
        return variables * self(x)


@pytest.mark.parametrize("form", ["object", "method", "closure", "partial"])
def test_a_function_whose_weights_have_changed_is_another_model(form):
    scales = Scales()
    function, weights = {
        "object": (scales, None),
        "method": (scales.with_variables, 1.0),
        "closure": (lambda x: scales.weights["scale"] * x, None),
        "partial": (functools.partial(Scales.with_variables, scales), 1.0),
    }[form]
    image = np.random.default_rng(0).random((8, 8, 1)).astype(np.float32)
    description = {"class_names": ("whole", "half"), "channels": 2, "activation": "sigmoid"}
    pair = np.concatenate([image, image - 0.5], -1)

    def explained():
        model = as_model(function, weights, **description)
        found = jaxseg_xai.explain(model, pair, "half", "integrated_gradients", num_nodes=1)
        return found.attribution

    before = explained()
    scales.weights["scale"] = np.float32(-1)
    assert (before[pair[..., 1] > 0] > 0).all()
    after = explained()
    assert not after[pair[..., 1] > 0].any()
    assert (after[pair[..., 1] < 0] > 0).all()


def test_a_description_is_given_field_by_field():
    model = as_model(
        lambda x: {"out": jnp.moveaxis(x, -1, 1)},
        class_names=["a", "b"],
        name="mine",
        rank=3,
        channels=2,
        multiple_of=np.int64(2),
        mean=np.array([0.5, 0.25]),
        pad="edge",
        activation="sigmoid",
        select=["out"],
        channels_first=True,
        cam_layer="middle",
        dtype="bfloat16",
        differentiable=False,
    )
    segmenter = model.segmenter
    assert segmenter.input == InputSpec(
        rank=3, channels=2, multiple_of=2, mean=(0.5, 0.25), pad="edge"
    )
    assert (segmenter.output.activation, segmenter.sites.cam_layer) == ("sigmoid", "middle")
    assert (segmenter.dtype, segmenter.differentiable) == ("bfloat16", False)
    assert (model.name, model.class_names, model.card.class_names) == ("mine", *2 * [("a", "b")])
    assert segmenter(model.variables, jnp.ones((1, 2, 4, 2, 2))).shape == (1, 2, 4, 2, 2)
    assert as_model(model) is model


@pytest.mark.parametrize(
    ("model", "options", "match"),
    [
        (scaled, {"widht": 3}, "unknown field 'widht' .* multiple_of"),
        (scaled, {"channels": "three"}, "channels is 'three'"),
        (scaled, {"select": "out"}, "select is 'out'"),
        (scaled, {"class_names": "ab"}, "class_names is 'ab'"),
        (scaled, {"class_names": ()}, "class_names has 0 entries"),
        (scaled, {"class_names": ("a", "a")}, "a name twice"),
        (scaled, {"dtype": "float16"}, "dtype is 'float16'; use float32"),
        (scaled, {"fixed_size": (4, 4, 4)}, "one number per axis"),
        (scaled, {"fixed_size": (6, 8), "multiple_of": 4}, r"fixed_size .* multiple_of"),
        (scaled, {"mean": (0.5,)}, "mean has 1 values for 3 channels"),
        ("unet", {}, "a str is no model; there are adapters for callable, linen, nnx"),
        (Wrapped, {}, "the class Wrapped is no model"),
        (linen.Conv(2, (3, 3)), {}, "give variables, as module.init"),
        (as_model(scaled, class_names=NAMES), {}, "leave out variables, class_names"),
    ],
)
def test_bad_models_and_descriptions_are_one_line(model, options, match):
    with pytest.raises((ConfigError, ModelError), match=match) as error:
        as_model(model, **({"class_names": NAMES} | options))
    assert "\n" not in str(error.value)


def test_an_nnx_module_takes_no_weights():
    with pytest.raises(ConfigError, match="leave variables out"):
        as_model(random_unet(), {}, class_names=NAMES)


def test_every_adapter_answers_for_any_object():
    for _, adapter in ADAPTERS.usable():
        assert not any(adapter.matches(thing) for thing in (None, 3, "unet", np.ones(2), Wrapped))
