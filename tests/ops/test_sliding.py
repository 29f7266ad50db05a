"""Sliding windows: every pixel's logits are the weighted mean of those of its tiles."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg_xai.ops import sliding
from jaxseg_xai.ops.sliding import SlidingWindow, gaussian, tile_starts


def network(weights, tiles):
    """Two logits that depend on where in its tile a pixel lies, on its neighbours and on sides."""
    size = tiles.shape[1:-1]
    place = jnp.arange(np.prod(size), dtype=tiles.dtype).reshape(1, *size) / np.prod(size)
    x = jnp.sum(tiles, axis=-1)
    before = jnp.cumsum(x, axis=1)
    return weights * jnp.stack([x * place, jnp.sin(before) + place], axis=-1)


def by_hand(image, patch, mirror, weights):
    """[*S, C] -> [*S, 2], tile by tile."""
    size = image.shape[:-1]
    extra = [max(p - n, 0) for n, p in zip(size, patch, strict=True)]
    around = [(n // 2, n - n // 2) for n in extra]
    padded = np.pad(image, [*around, (0, 0)])
    total, weight = np.zeros((*padded.shape[:-1], 2)), np.zeros((*padded.shape[:-1], 1))
    starts = [tile_starts(n, p) for n, p in zip(padded.shape, patch, strict=False)]
    subsets = [s for k in range(len(mirror) + 1) for s in itertools.combinations(mirror, k)]
    for corner in itertools.product(*starts):
        place = tuple(slice(a, a + p) for a, p in zip(corner, patch, strict=True))
        found = []
        for axes in subsets:
            turned = np.flip(padded[place], axes)[None]
            for one in weights:
                found.append(np.flip(np.asarray(network(one, jnp.asarray(turned)))[0], axes))
        total[place] += np.mean(found, axis=0) * gaussian(patch)[..., None]
        weight[place] += gaussian(patch)[..., None]
    inside = tuple(slice(a, a + n) for (a, _), n in zip(around, size, strict=True))
    return (total / weight)[inside]


CASES = {
    "one tile": ((8, 9), SlidingWindow(network=network, patch=(8, 9), axes=(0, 1))),
    "smaller than the patch": ((5, 4), SlidingWindow(network=network, patch=(8, 9), axes=(0, 1))),
    "smaller in one axis, mirrored": (
        (5, 20),
        SlidingWindow(network=network, patch=(8, 9), axes=(0, 1), mirror=(0, 1)),
    ),
    "two folds, turned": (
        (20, 13),
        SlidingWindow(network=network, patch=(6, 7), axes=(1, 0), num_folds=2),
    ),
    "slices of a volume": (
        (13, 7, 3),
        SlidingWindow(network=network, patch=(6, 7), axes=(2, 0, 1)),
    ),
    "volume": (
        (5, 9, 8),
        SlidingWindow(network=network, patch=(4, 4, 6), axes=(2, 0, 1), mirror=(0, 2)),
    ),
}


@pytest.fixture(params=["all tiles at once", "one by one"])
def memory(request, monkeypatch):
    if request.param == "one by one":
        monkeypatch.setattr(sliding, "_PIXELS", 60)


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_the_definition(name):
    size, window = CASES[name]
    images = np.random.default_rng(0).random((2, *size, 3)).astype(np.float32)
    folds = (1.0, 2.0)[: window.num_folds]
    found = jax.jit(window)(folds if window.num_folds > 1 else folds[0], images)
    assert found.shape == (2, *size, 2)
    back = np.argsort(window.axes)
    for image, logits in zip(images, found, strict=True):
        turned = image.transpose(*window.axes, len(size))
        slices = turned[None] if len(size) == len(window.patch) else turned
        wanted = [by_hand(one, window.patch, window.mirror, folds) for one in slices]
        wanted = wanted[0] if len(size) == len(window.patch) else np.stack(wanted)
        np.testing.assert_allclose(logits, wanted.transpose(*back, len(size)), atol=2e-5)


@pytest.mark.usefixtures("memory")
def test_gradients_are_those_of_finite_differences():
    size, window = CASES["volume"]
    rng = np.random.default_rng(1)
    image = rng.random((1, *size, 1))
    with jax.enable_x64(True):
        weight = jnp.asarray(rng.normal(size=(1, *size, 2)))

        @jax.jit
        def value(image):
            return jnp.sum(weight * window(1.0, image))

        slope = np.asarray(jax.jit(jax.grad(value))(image))
        for place in ((0, 0, 0, 0, 0), (0, 2, 4, 3, 0), (0, 4, 8, 7, 0)):
            step = np.zeros_like(image)
            step[place] = 1e-6
            wanted = (value(image + step) - value(image - step)) / 2e-6
            assert slope[place] == pytest.approx(float(wanted), rel=1e-5)


def test_tiles_overlap_by_half_and_reach_both_ends():
    assert tile_starts(32, 32) == [0]
    assert tile_starts(33, 32) == [0, 1]
    assert tile_starts(110, 64) == [0, 23, 46]
    for size, patch in ((57, 40), (100, 7), (8, 2)):
        starts = tile_starts(size, patch)
        assert starts[-1] == size - patch
        assert max(np.diff(starts)) <= np.ceil(patch / 2)


def test_the_gaussian_is_highest_in_the_middle_and_nowhere_zero():
    weight = gaussian((32, 200))
    assert weight.max() == weight[16, 100] == 10
    assert weight.min() > 0
    assert weight[16, 75] == pytest.approx(10 * np.exp(-0.5), rel=1e-3)


def test_equal_windows_are_equal():
    window = CASES["volume"][1]
    assert hash(window) == hash(dataclasses.replace(window))
    assert window != dataclasses.replace(window, mirror=())
