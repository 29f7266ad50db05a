import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxseg_xai.ops.random import make_key
from jaxseg_xai.ops.replacements import MADE, made_draws

SIDE = 4
#: Number of the block in the middle, which begins at pixel 4 along every axis.
MIDDLE = {2: 4, 3: 13}


@pytest.fixture(params=[(10, 12), (10, 12, 9)], ids=["image", "volume"])
def images(request):
    return np.random.default_rng(0).random((2, *request.param, 3)).astype(np.float32)


def draws_of(kind, images):
    keys = jax.random.split(make_key(0), len(images))
    return made_draws(kind, jnp.asarray(images), keys, SIDE, screen=2, full=5)


def block_of(draws, image, block, draw=0):
    return draws.patches[draws.full[image, block, draw]]


@pytest.mark.parametrize("kind", MADE)
def test_every_block_of_every_image_has_a_replacement(kind, images):
    draws, rank = draws_of(kind, images), images.ndim - 2
    assert draws.patches.shape[1:] == (*(SIDE,) * rank, 3)
    assert draws.full.shape[:2] == (2, 3**rank)
    assert draws.full.shape[2] == (5 if kind == "noise" else 1)
    assert draws.screen.shape[2] == (2 if kind == "noise" else 0)
    assert 0 <= int(draws.full.min()) <= int(draws.full.max()) < len(draws.patches)


@pytest.mark.parametrize("kind", MADE)
def test_padding_is_no_part_of_what_is_made(kind, images):
    """The mean, blur and noise of an image are those that it has without its padding."""
    own = tuple(n - SIDE for n in images.shape[1:-1])
    keys = jax.random.split(make_key(0), len(images))
    sizes = jnp.tile(jnp.array(own), (len(images), 1))
    padded = made_draws(kind, jnp.asarray(images), keys, SIDE, 2, 5, sizes)
    alone = draws_of(kind, images[:, *(slice(n) for n in own)])
    # The first block is the first one of both.
    for image in (0, 1):
        np.testing.assert_allclose(
            block_of(padded, image, 0), block_of(alone, image, 0), rtol=1e-5, atol=1e-6
        )


def test_zero_and_mean(images):
    assert not draws_of("zero", images).patches.any()
    for image in (0, 1):
        patch = block_of(draws_of("mean", images), image, 5)
        mean = images[image].mean(axis=tuple(range(images.ndim - 2)))
        np.testing.assert_allclose(patch, np.broadcast_to(mean, patch.shape), rtol=1e-5)


def test_blur_is_the_blurred_block(images):
    draws, rank = draws_of("blur", images), images.ndim - 2
    for image in (0, 1):
        deviations = (*(2,) * rank, 0)
        blurred = ndimage.gaussian_filter(images[image], deviations, mode="nearest", truncate=3.0)
        found = block_of(draws, image, MIDDLE[rank])
        np.testing.assert_allclose(found, blurred[(slice(4, 8),) * rank], atol=2e-3)


def test_noise_has_the_images_moments_and_differs(images):
    draws = draws_of("noise", images)
    assert not np.array_equal(block_of(draws, 0, 0, 0), block_of(draws, 0, 0, 1))
    assert not np.array_equal(block_of(draws, 0, 0), block_of(draws, 1, 0))
    own = draws.patches[np.unique(draws.full[1])]
    assert float(own.mean()) == pytest.approx(images[1].mean(), abs=0.1)
    assert float(own.std()) == pytest.approx(images[1].std(), rel=0.25)
