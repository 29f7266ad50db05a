import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg_xai.devices.mesh import deal_batch, device_mesh, pad_batch, shard_examples
from jaxseg_xai.program.predict import predict_batch
from tests.conftest import NUM_DEVICES
from tests.support import segmenter_of


def test_there_is_a_device_for_every_shard():
    assert device_mesh().size == jax.local_device_count() == NUM_DEVICES


def test_every_device_gets_its_own_examples():
    function = jax.jit(
        shard_examples(lambda shared, x: jnp.full(x.shape, x.sum()) + shared, device_mesh())
    )
    x = np.arange(8.0)
    expected = np.repeat(x.reshape(NUM_DEVICES, -1).sum(axis=1), 8 // NUM_DEVICES) + 100
    found = function(100.0, x)
    np.testing.assert_array_equal(found, expected)
    assert len(found.sharding.device_set) == NUM_DEVICES


def test_padding_repeats_the_last_example():
    padded = pad_batch({"a": np.arange(6).reshape(3, 2), "b": np.arange(3)}, 4)
    np.testing.assert_array_equal(padded["a"][2:], [[4, 5], [4, 5]])
    np.testing.assert_array_equal(padded["b"], [0, 1, 2, 2])
    np.testing.assert_array_equal(pad_batch(np.arange(4), 4), np.arange(4))


@pytest.mark.parametrize("count", [1, 6, 7, 12])
def test_every_device_is_dealt_its_share(count):
    examples = {"a": 2 * np.arange(count), "b": np.ones((count, 3))}
    dealt, which = deal_batch(examples, 12, device_mesh())
    np.testing.assert_array_equal(dealt["a"], 2 * np.minimum(which, count - 1))
    assert dealt["b"].shape == (12, 3)
    assert sorted(which) == list(range(12))
    valid = (which < count).reshape(NUM_DEVICES, -1)
    assert np.ptp(valid.sum(axis=1)) <= 1
    assert (np.diff(valid.astype(int)) <= 0).all()  # the filling comes last


def bright(variables, images):
    return jnp.concatenate([jnp.zeros_like(images), images - variables], axis=-1)


@pytest.mark.parametrize("size", [(5, 6), (3, 4, 5)])
def test_predictions_equal_a_plain_argmax(size):
    images = np.random.default_rng(0).random((4, *size, 1)).astype(np.float32)
    images[2, 0, 0] = np.nan
    segmenter = segmenter_of(bright, rank=len(size))
    found, finite = predict_batch(segmenter, jnp.float32(0.5), images, device_mesh())
    assert found.dtype == jnp.int32
    assert finite.tolist() == [True, True, False, True]
    expected = images[..., 0] > 0.5
    np.testing.assert_array_equal(found[:2], expected[:2])
    np.testing.assert_array_equal(found[3], expected[3])


def test_predictions_of_classes_that_may_overlap_are_planes():
    images = np.random.default_rng(0).random((4, 5, 6, 1)).astype(np.float32)
    segmenter = segmenter_of(bright, activation="sigmoid")
    found, _ = predict_batch(segmenter, jnp.float32(0.5), images, device_mesh())
    np.testing.assert_array_equal(found, np.stack([images < 0, images > 0.5], axis=-1)[..., 0, :])


def many_channels(variables, images):
    kernel = jnp.ones((3, 3, 1, 32))
    features = jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return jnp.stack([features.min(axis=-1), features.max(axis=-1)], axis=-1)


def test_the_memory_for_predictions_does_not_grow_with_the_batch():
    needs = []
    for count in (NUM_DEVICES, 16 * NUM_DEVICES):
        images = jax.ShapeDtypeStruct((count, 32, 32, 1), jnp.float32)
        segmenter = segmenter_of(many_channels)
        program = predict_batch.lower(segmenter, None, images, device_mesh()).compile()
        needs.append(program.memory_analysis().temp_size_in_bytes)
    assert needs[1] < 2 * needs[0]
