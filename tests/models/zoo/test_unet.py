import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxseg_xai.core.errors import ConfigError, DataError
from jaxseg_xai.models.predict import from_linen, from_nnx
from jaxseg_xai.models.zoo.unet import UNetConfig


@pytest.mark.parametrize(
    ("norm", "upsample"),
    [
        (norm, upsample)
        for norm in ("batch", "group", "instance", "none")
        for upsample in ("bilinear", "nearest", "transposed")
    ],
)
def test_every_variant_has_the_shape_it_promises(norm, upsample):
    config = UNetConfig.of_width(
        4, 2, in_channels=2, num_logits=3, norm=norm, upsample=upsample, skip_first=False
    )
    model = nnx.eval_shape(lambda: config.build(nnx.Rngs(0)))
    predict, variables = from_nnx(model, stride=config.stride)
    shape = jax.eval_shape(predict, variables, jnp.ones((2, 8, 12, 2)))
    assert shape.shape == (2, 8, 12, 3)
    assert shape.dtype == jnp.float32


def test_a_network_without_poolings():
    model = UNetConfig(encoder_channels=(4,), decoder_channels=()).build(nnx.Rngs(0))
    assert model(jnp.ones((1, 7, 5, 3))).shape == (1, 7, 5, 1)


def test_of_width_is_the_pyramid_of_the_reference():
    assert UNetConfig.of_width(16, 4) == UNetConfig()
    assert UNetConfig.of_width(16, 4).stride == 16


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"decoder_channels": (4,)}, "one fewer"),
        ({"norm": "layer"}, "'layer'"),
        ({"upsample": "bicubic"}, "'bicubic'"),
        ({"in_channels": 0}, "at least 1"),
    ],
)
def test_bad_configurations_are_named(options, match):
    with pytest.raises(ConfigError, match=match):
        UNetConfig(**options)


def test_adapters_of_one_architecture_are_equal_so_that_jit_compiles_once():
    config = UNetConfig.of_width(2, 1)
    traces = []

    def run(predict, variables, x):
        traces.append(1)
        return predict(variables, x)

    jitted = jax.jit(run, static_argnums=0)
    outputs = []
    for seed in (0, 1):
        predict, variables = from_nnx(config.build(nnx.Rngs(seed)), stride=2)
        outputs.append(jitted(predict, variables, jnp.ones((1, 4, 4, 3))))
    assert len(traces) == 1
    assert not np.allclose(*outputs)


def test_one_logit_becomes_two_classes():
    config = UNetConfig.of_width(2, 1)
    predict, variables = from_nnx(config.build(nnx.Rngs(0)))
    logits = predict(variables, jnp.ones((1, 4, 4, 3)))
    assert logits.shape[-1] == 2
    np.testing.assert_array_equal(logits[..., 0], 0)


def test_sizes_that_the_stride_does_not_divide():
    model = UNetConfig.of_width(2, 2).build(nnx.Rngs(0))
    x = jax.random.uniform(jax.random.key(0), (1, 9, 14, 3))
    refusing, variables = from_nnx(model, stride=4)
    with pytest.raises(DataError, match=r"9x14 is not a multiple .* 4: set pad"):
        refusing(variables, x)
    padding, _ = from_nnx(model, stride=4, pad="edge")
    padded = jnp.pad(x, ((0, 0), (0, 3), (0, 2), (0, 0)), mode="edge")
    np.testing.assert_array_equal(padding(variables, x), refusing(variables, padded)[:, :9, :14])


def test_bfloat16_computes_in_bfloat16_and_answers_in_float32():
    model = UNetConfig.of_width(4, 2).build(nnx.Rngs(0))
    x = jax.random.uniform(jax.random.key(0), (1, 8, 8, 3))
    exact, variables = from_nnx(model)
    rough, _ = from_nnx(model, dtype="bfloat16")
    lowered = jax.jit(rough).lower(variables, x)
    found, wanted = lowered.compile()(variables, x), jax.jit(exact)(variables, x)
    assert found.dtype == jnp.float32
    assert "bf16" in lowered.as_text()
    assert 0 < jnp.abs(found - wanted).max() < 0.1 * jnp.abs(wanted).max() + 0.05


def test_batch_statistics_are_used_and_not_updated():
    model = UNetConfig.of_width(2, 1).build(nnx.Rngs(0))
    predict, variables = from_nnx(model)
    x = jax.random.uniform(jax.random.key(0), (4, 4, 4, 3))
    together = predict(variables, x)
    alone = jnp.concatenate([predict(variables, x[i : i + 1]) for i in range(4)])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_linen_modules_are_accepted():
    linen = pytest.importorskip("flax.linen")
    module = linen.Conv(2, (3, 3))
    x = jnp.ones((1, 4, 4, 3))
    variables = module.init(jax.random.key(0), x)
    predict = from_linen(module)
    assert predict == from_linen(linen.Conv(2, (3, 3)))
    np.testing.assert_array_equal(predict(variables, x), module.apply(variables, x))


@pytest.mark.parametrize(
    ("dtype", "precision"), [("float32", "HIGHEST"), ("tensorfloat32", "HIGH")]
)
def test_products_are_as_precise_as_asked_forwards_and_backwards(dtype, precision):
    predict, variables = from_nnx(UNetConfig.of_width(2, 1).build(nnx.Rngs(0)), dtype=dtype)
    x = jnp.ones((1, 4, 4, 3))

    def loss(x):
        return predict(variables, x).sum()

    program = str(jax.make_jaxpr(jax.value_and_grad(loss))(x))
    found = set(re.findall(r"precision=(\S+)", program.replace("(", "").replace(",", "")))
    assert found == {f"Precision.{precision}"}
