"""A model on an image that is black but for a window: values and gradients against dense ones."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.devices.mesh import device_mesh, shard_examples
from jaxseg_xai.incremental import crop_predict
from jaxseg_xai.models.zoo.unet import UNetConfig
from tests.incremental import layers, networks, tables
from tests.incremental.networks import quick

#: Of the range of the logits, and of the largest gradient.
TOLERANCE = 1e-5


def unet(norm="batch", upsample="bilinear", depth=2, pad=None):
    """(predict, variables) whose ReLUs are on in places and off in others."""
    config = UNetConfig.of_width(3, depth, norm=norm, upsample=upsample, num_logits=2)
    predict, shapes = networks.unet(config)
    if pad:
        predict = networks.padding(predict, config.input_spec().multiple_of, pad)
    rng = np.random.default_rng(0)

    def weight(leaf):
        found = layers.kernel(rng, *leaf.shape)
        return abs(found) + 0.1 if leaf.ndim == 1 else found  # variances are positive

    return predict, jax.tree.map(weight, shapes)


def positions_of(crop, most=12):
    """Corners, and others at random."""
    counts = [len(starts) for starts in crop.plan.block_starts.values()]
    every = np.array(list(itertools.product(*map(range, counts))), np.int32)
    corners = np.flatnonzero(np.all((every == 0) | (every == np.array(counts) - 1), axis=1))
    rest = np.setdiff1d(np.arange(len(every)), corners)
    return every[[*corners, *np.random.default_rng(0).permutation(rest)[: most - len(corners)]]]


def black_but(crop, block, window):
    black = jnp.zeros(crop.plan.image_shape)
    return lax.dynamic_update_slice(black, window, (*crop.start(block), 0))


def compare(predict, variables, shape, window, step, local=False):
    """The crop, and the worst errors of logits and gradients at many positions."""
    crop = crop_predict(predict, variables, shape, window=window, step=step, local=local)
    blocks, rng = positions_of(crop), np.random.default_rng(0)
    windows = rng.uniform(-1, 1, size=(len(blocks), *window, shape[-1])).astype(np.float32)
    weights = rng.normal(size=(*shape[:-1], 1)).astype(np.float32)

    def cropped(variables, block, window):
        prepared = crop.prepare(variables)
        return crop.logits(prepared, crop.put(prepared, block), window)

    def dense(variables, block, window):
        logits = predict(variables, black_but(crop, block, window)[None])[0]
        return crop.cut(logits, block) if local else logits

    def results(logits_of):
        def weighted(window, block):
            logits = logits_of(variables, block, window)
            seen = crop.cut(weights, block) if local else weights
            return jnp.sum(logits * seen), logits

        both = jax.vmap(jax.value_and_grad(weighted, has_aux=True))
        (_, logits), gradient = quick(both)(windows, blocks)
        return np.asarray(logits), np.asarray(gradient)

    (found, found_gradient), (wanted, wanted_gradient) = results(cropped), results(dense)
    assert np.isfinite(found_gradient).all()
    assert np.abs(wanted_gradient).max() > 0
    return (
        crop,
        np.abs(found - wanted).max() / np.ptp(wanted),
        np.abs(found_gradient - wanted_gradient).max() / np.abs(wanted_gradient).max(),
    )


@pytest.mark.parametrize(
    ("norm", "upsample", "depth"),
    [
        ("batch", "bilinear", 2),
        ("none", "nearest", 1),
        ("batch", "transposed", 1),
        ("group", "bilinear", 1),
    ],
)
def test_unets(norm, upsample, depth):
    crop, of_logits, of_gradient = compare(
        *unet(norm, upsample, depth), (40, 48, 3), (8, 8), (4, 8)
    )
    assert max(of_logits, of_gradient) < TOLERANCE
    mixes = norm == "group"
    assert any(row.note for row in crop.plan.table().rows) == mixes
    assert (crop.share < 0.7) != mixes
    assert crop.share == crop.flops / crop.dense_flops
    assert not crop.derivatives


@pytest.mark.parametrize(
    ("options", "shape", "window", "step"),
    [
        ({}, (40, 48, 3), (16, 16), (4, 8)),
        ({"upsample": "transposed"}, (32, 40, 3), (8, 12), (8, 4)),
        ({"norm": "group"}, (24, 24, 3), (8, 8), (4, 4)),  # nothing has windows
        ({"pad": "reflect"}, (21, 18, 3), (9, 8), (3, 5)),
    ],
)
def test_logits_under_the_window_alone(options, shape, window, step):
    crop, *errors = compare(*unet(**options), shape, window, step, local=True)
    everything = crop_predict(*unet(**options), shape, window=window, step=step)
    assert max(errors) < TOLERANCE
    assert crop.share < everything.share or options.get("norm") == "group"


@pytest.mark.parametrize("upsample", ["bilinear", "nearest", "transposed"])
def test_windows_keep_their_distance(upsample):
    """Nothing is looked up at traced indices, but where the window goes in the output."""
    crop = crop_predict(*unet("batch", upsample), (128, 128, 3), window=(24, 16), step=(8, 4))
    for step in crop.plan.steps:
        for value, frames in zip(step.equation.inputs, step.frames, strict=True):
            for axis, frame in (frames or {}).items():
                assert not np.ptp(frame.start - crop.plan.windows[value][axis].start)


@pytest.mark.parametrize(
    ("shape", "window", "step", "options"),
    [
        ((24, 20, 3), (7, 6), (3, 5), {}),  # steps that have nothing to do with the stride
        ((21, 18, 3), (8, 8), (4, 8), {"pad": "reflect"}),  # the last windows end at odd pixels
        ((24, 20, 3), (24, 20), (8, 4), {}),  # the whole image
    ],
)
def test_sizes(shape, window, step, options):
    predict, variables = unet(depth=1, **options)
    crop, of_logits, of_gradient = compare(predict, variables, shape, window, step)
    assert max(of_logits, of_gradient) < TOLERANCE
    assert (crop.plan.flops == crop.plan.dense_flops) == (window == shape[:2])


@pytest.mark.parametrize("local", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_volumes(local):
    kinds = [tables.VOLUME_WINDOWED["pooled"][0], layers.transposed((2,) * 3, (2,) * 3, "VALID")]
    predict, variables = networks.network(0, kinds, rank=3, skip="concat")
    sizes = {"shape": (12, 8, 9, 2), "window": (4, 4, 3), "step": (2, 4, 3)}
    crop, *errors = compare(predict, variables, **sizes, local=local)
    assert max(errors) < TOLERANCE
    assert crop.share < 0.7


@pytest.mark.parametrize(
    "names",
    [
        ["pad-reflect", "take-rows", "conv-strides"],
        ["avg-pool-uncounted", "flip", "layer-norm"],
        ["max-pool-same", "positions", "transposed-gaps"],
        ["squeeze-excite", "pixel-shuffle"],
    ],
    ids="+".join,
)
def test_layers(names):
    kinds = [tables.WINDOWED.get(name) or tables.WHOLE[name][0] for name in names]
    predict, variables = networks.network(0, kinds, how="bilinear", skip="concat")
    _, of_logits, of_gradient = compare(predict, variables, (24, 20, 2), (8, 6), (2, 2))
    assert max(of_logits, of_gradient) < TOLERANCE


def test_lanes_do_not_depend_on_each_other_nor_on_the_device():
    predict, variables = networks.network(0, [tables.WINDOWED["conv-dilated"]], channels=3)
    crop = crop_predict(predict, variables, (24, 20, 3), window=(8, 8), step=(4, 4))
    blocks = positions_of(crop, most=8)
    windows = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype(np.float32)

    def descend(prepared, lane):
        window, placed = lane

        def step(window, _):
            def loss(w):
                return jnp.mean(jax.nn.log_softmax(crop.logits(prepared, placed, w))[..., 1])

            value, gradient = jax.value_and_grad(loss)(window)
            return window - gradient, value

        return lax.scan(step, window, length=2)

    def several(prepared, lanes):
        return jax.vmap(lambda lane: descend(prepared, lane))(lanes)

    prepared = crop.prepare(variables)
    lanes = windows, quick(jax.vmap(crop.put, in_axes=(None, 0)))(prepared, blocks)
    together = quick(several)(prepared, lanes)
    sharded = quick(shard_examples(several, device_mesh()))(prepared, lanes)
    alone = quick(lambda p, lanes: lax.map(lambda lane: descend(p, lane), lanes))(prepared, lanes)
    for found in (sharded, alone):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, together
        )


def test_relus_at_zero_have_the_models_gradient():
    # On a black image, without biases, every ReLU is at 0, where its gradient is 0 and not 1/2.
    weights = np.ones((3, 3, 1, 1), np.float32)

    def predict(variables, images):
        first = lax.conv(images.transpose(0, 3, 1, 2), variables.T, (1, 1), "SAME")
        return jax.nn.relu(first).transpose(0, 2, 3, 1) + images

    crop = crop_predict(predict, weights, (8, 8, 1), window=(4, 4), step=(2, 2))

    def total(window):
        prepared = crop.prepare(weights)
        return crop.logits(prepared, crop.put(prepared, np.array([1, 1])), window).sum()

    gradient = quick(jax.grad(total))(jnp.zeros((4, 4, 1)))
    np.testing.assert_array_equal(gradient, 1.0)


def test_functions_that_define_their_derivative_are_named():
    @jax.custom_jvp
    def straight_through(x):
        return jnp.round(x)

    straight_through.defjvps(lambda t, _, x: t)
    crop = crop_predict(lambda _, x: straight_through(x), (), (8, 8, 2), window=(4, 4), step=(2, 2))
    assert crop.derivatives == {"straight_through"}


@pytest.mark.parametrize(
    ("size", "side", "step"), [(20, 8, 4), (21, 8, 4), (20, 8, 8), (9, 9, 3), (9, 1, 1), (17, 6, 5)]
)
def test_a_window_that_holds_a_box_is_found(size, side, step):
    crop = crop_predict(
        lambda _, x: jnp.sin(x), (), (size, size, 2), window=(side, side), step=(step, step)
    )
    low, high = (a.ravel() for a in np.mgrid[:size, : size + 1])
    other = np.zeros_like(low)  # an empty interval along the other axis fits anywhere
    spots = quick(jax.vmap(crop.spot))(np.stack([low, other], 1), np.stack([high, other], 1))
    start = quick(jax.vmap(crop.start))(spots.block)[:, 0]
    assert (start >= 0).all()
    assert (start + side <= size).all()
    holds = (high <= low) | ((start <= low) & (high <= start + side))
    np.testing.assert_array_equal(spots.fits, holds)
    promised = (high - low <= side - step + 1) | ((high == size) & (high - low <= side))
    assert np.asarray(spots.fits)[promised].all()


def test_cutting_the_window_out_of_a_map():
    crop = crop_predict(lambda _, x: jnp.sin(x), (), (9, 8, 2), window=(4, 3), step=(2, 3))
    image = np.arange(9 * 8).reshape(9, 8)
    np.testing.assert_array_equal(crop.cut(image, np.array([3, 2])), image[5:9, 5:8])


@pytest.mark.parametrize(
    ("window", "step", "words"),
    [
        ((9, 4), (2, 2), "the window's height is 9; it must be between 1 and the image's 8"),
        ((4, 0), (2, 2), "the window's width is 0"),
        ((4, 4), (0, 2), "the window's step along the height is 0; it must be between 1 and the"),
        ((4, 4), (2, 5), "the window's step along the width is 5"),
    ],
)
def test_sizes_that_are_refused(window, step, words):
    with pytest.raises(ConfigError) as error:
        crop_predict(lambda _, x: jnp.sin(x), (), (8, 8, 2), window=window, step=step)
    assert words in str(error.value)
