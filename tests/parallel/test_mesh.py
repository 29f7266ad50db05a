import jax
import jax.numpy as jnp
import numpy as np

from jaxseg_xai.parallel.mesh import device_mesh, pad_batch, predict_labels, shard_examples
from tests.conftest import NUM_DEVICES


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


def bright(variables, images):
    return jnp.concatenate([jnp.zeros_like(images), images - variables], axis=-1)


def test_predicted_labels_equal_a_plain_argmax():
    images = np.random.default_rng(0).random((4, 5, 6, 1)).astype(np.float32)
    images[2, 0, 0] = np.nan
    found, finite = predict_labels(bright, jnp.float32(0.5), images, device_mesh())
    assert finite.tolist() == [True, True, False, True]
    expected = images[..., 0] > 0.5
    np.testing.assert_array_equal(found[:2], expected[:2])
