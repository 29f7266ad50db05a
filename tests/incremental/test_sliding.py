"""Interventions on images that a network sees patch by patch, against the whole sliding window."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg_xai.incremental import sliding
from jaxseg_xai.incremental.patches import (
    grid_shape_of,
    intervene_in_patches,
    prepare_patches,
    reachable,
    seen_pixels,
)
from jaxseg_xai.incremental.sliding import make_sliding_plan, slides
from jaxseg_xai.ops.sliding import SlidingWindow
from tests.incremental import networks
from tests.incremental.networks import quick
from tests.support import segmenter_of

#: Of the range of the logits.
TOLERANCE = 1e-6


def network(weights, patches):
    """Two convolutions of 3 pixels, and where in the patch a pixel lies."""
    kernel = jnp.ones((3,) * (patches.ndim - 2)) / 3 ** (patches.ndim - 2)

    def blur(x):
        return jax.vmap(lambda one: jax.scipy.signal.convolve(one, kernel, "same"))(x)

    place = jnp.arange(np.prod(patches.shape[1:-1])).reshape(patches.shape[1:-1])
    first = jnp.sin(4 * blur(jnp.sum(patches, axis=-1)) + weights)
    return jnp.stack([blur(first), jnp.cos(first + 0.01 * place)], axis=-1)


def mixing(weights, patches):
    """The same less its mean: nothing of a patch has windows."""
    logits = network(weights, patches)
    return logits - jnp.mean(logits, axis=tuple(range(1, patches.ndim - 1)), keepdims=True)


def model(patch, *, of=network, axes=None, **options):
    axes = tuple(range(len(patch))) if axes is None else axes
    apply = SlidingWindow(network=of, patch=patch, axes=axes, **options)
    return segmenter_of(apply, rank=len(axes))


def check(segmenter, variables, shape, block, region, *, most=6):
    """The plan, having compared corners and some places with the model on changed images."""
    rng = np.random.default_rng(0)
    image = rng.random((*shape, 1)).astype(np.float32)
    held = rng.random((2, *block, 1)).astype(np.float32)
    sizes = {"block": block, "region": region, "num_patches": 2}
    plan = make_sliding_plan(segmenter, variables, (*shape, 1), **sizes)

    @quick
    def found_in(place, corner):
        logits = segmenter.logits(variables, image[None])[0]
        patches = prepare_patches(plan, variables, image, logits, corner)
        changed = intervene_in_patches(plan, patches, place, held)
        return changed, reachable(plan, corner), seen_pixels(plan, corner)

    whole = quick(lambda images: segmenter.logits(variables, images))
    before = np.asarray(whole(np.stack([image, image])))[0]
    grid, free = grid_shape_of(plan), [n - side for n, side in zip(shape, region, strict=True)]
    ends = itertools.product(*([0, n] for n in free))
    corners = [*ends, *(tuple(int(rng.integers(n + 1)) for n in free) for _ in range(2))]
    for corner in corners[:: max(1, len(corners) // most)]:
        place = tuple(int(rng.integers(n)) for n in grid)
        changed = np.stack([image, image])
        start = [i * side for i, side in zip(place, block, strict=True)]
        here = networks.box_at(start, block)
        part = changed[here]
        part[...] = held[:, *map(slice, part.shape[1:-1])]
        box = networks.box_at(corner, region)
        wanted = np.asarray(whole(changed))[box]
        found, reached, seen = found_in(np.array(place), np.array(corner))
        assert np.abs(found - wanted).max() <= TOLERANCE * np.ptp(before)
        if np.abs(wanted - before[None][box]).max() > 1e-5:
            assert reached[place]
            assert np.any(seen[here[1:]])
    return plan


#: (model, weights, shape, block, region, whether patches have windows, fewer of them are evaluated)
CASES = {
    "volume": (model((6, 5, 4)), 1.0, (9, 12, 8), (3, 3, 3), (4, 3, 2), True, True),
    "turned, two folds": (
        model((4, 6), axes=(1, 0), num_folds=2),
        (1.0, 2.0),
        *((12, 9), (2, 5), (3, 3), True, True),
    ),
    "patch larger than an axis": (model((8, 9)), 1.0, (5, 20), (4, 4), (3, 6), True, False),
    "all of the image is the block": (model((6, 7)), 1.0, (14, 12), (14, 12), (2, 2), True, True),
    "all of it is the region": (model((6, 7)), 1.0, (14, 12), (3, 4), (14, 12), True, True),
    "mixing": (model((6, 7), of=mixing), 1.0, (14, 12), (3, 4), (4, 5), True, True),
    "mirrored": (model((6, 7), mirror=(0, 1)), 1.0, (10, 12), (3, 4), (4, 5), False, False),
    "mixing, all of both": (model((6, 7), of=mixing), 1.0, *((9, 9),) * 3, False, False),
}


@pytest.mark.parametrize("name", CASES)
def test_equals_the_whole_sliding_window(name):
    segmenter, weights, shape, block, region, windowed, fewer = CASES[name]
    plan = check(segmenter, weights, shape, block, region)
    assert plan.windowed == windowed
    assert (plan.evaluated < plan.total) == fewer
    assert plan.saves_nothing == (not windowed and not fewer)
    assert 0 < plan.share <= 1


def test_patches_whose_activations_do_not_fit_are_evaluated_whole(monkeypatch):
    monkeypatch.setattr(sliding, "_MOST_KEPT", 0)
    plan = check(model((6, 7)), 1.0, (14, 12), (3, 4), (4, 5), most=2)
    assert not plan.windowed


def test_the_plan_says_how_many_patches_are_evaluated():
    plan = make_sliding_plan(
        model((8, 8, 8)), 1.0, (24, 24, 24, 1), block=(4,) * 3, region=(4,) * 3, num_patches=2
    )
    # Patches begin at 0, 4, 8, 12, 16: a block and a region in the middle lie in two of an axis.
    assert plan.total == 5**3
    assert plan.evaluated == 2**3
    assert str(plan).startswith("Sliding window: 8 of 125 patches are evaluated at most, in windo")
    assert plan.step == (4, 4, 4)
    assert plan.flops == plan.evaluated * plan.patch.flops


def test_slices_of_a_volume_have_no_patches():
    slices = SlidingWindow(network=network, patch=(6, 7), axes=(2, 0, 1))
    assert not slides(segmenter_of(slices, rank=3))
    assert not slides(segmenter_of(network))
    assert slides(model((4, 4)))
