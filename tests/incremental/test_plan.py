"""The plan: its numbers, its table, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from jaxseg_xai.core.errors import ConfigError, ModelError
from jaxseg_xai.incremental import Place, intervene, make_plan, prepare
from jaxseg_xai.incremental.reads import kept_bytes
from jaxseg_xai.models import as_model
from jaxseg_xai.models.zoo.unet3d import UNet3DConfig
from tests.incremental import layers, networks, tables

NUMBERS = ("NHWC", "HWIO", "NHWC")


def plan_of(
    predict, shape=(16, 16, 2), *, variables=(), block=(4, 4), region=(4, 4), patches=2, step=None
):
    return make_plan(
        predict,
        variables,
        shape,
        block=block,
        region=region,
        num_patches=patches,
        block_step=step,
    )


def two_convolutions(variables, x):
    first, second = variables
    x = lax.conv_general_dilated(x, first, (1, 1), "SAME", dimension_numbers=NUMBERS)
    return lax.conv_general_dilated(x, second, (1, 1), "SAME", dimension_numbers=NUMBERS)


def test_flops_of_two_convolutions():
    variables = {"a": np.ones((3, 3, 2, 5), np.float32), "b": np.ones((3, 3, 5, 3), np.float32)}
    plan = plan_of(lambda v, x: two_convolutions((v["a"], v["b"]), x), variables=variables)
    table = plan.table()
    first, second = table.rows
    # A block of 4 reaches 6 pixels; the region needs 6 of the first map and 4 of the second.
    assert (first.layer, first.size, first.window) == ("a", (16, 16), (6, 6))
    assert (second.layer, second.size, second.window) == ("b", (16, 16), (4, 4))
    assert first.follows == ("block", "block")
    assert second.follows == ("region", "region")
    assert first.flops == 2 * 9 * 2 * 5 * 36
    assert second.flops == 2 * 9 * 5 * 3 * 16
    assert plan.flops == table.flops == first.flops + second.flops
    assert plan.dense_flops == table.dense_flops == 2 * 9 * (2 * 5 + 5 * 3) * 256
    assert table.ratio == plan.dense_flops / plan.flops
    # In 4x4 blocks, a region that begins at y sees those with a pixel in [y - 2, y + 6).
    seen = [[4 * b < y + 6 and y - 2 < 4 * b + 4 for y in range(13)] for b in range(4)]
    assert (plan.reaches["y"] == seen).all()
    assert table.reaching == np.mean(seen) ** 2


def test_flops_of_interpolations_and_transposed_convolutions():
    def doubled(variables, x):
        x = lax.conv_transpose(x, variables, (2, 2), "VALID")
        return aligned(x)

    def aligned(x):
        matrix = np.repeat(np.eye(16, dtype=np.float32), 2, axis=1)
        return jnp.einsum("pq,bqwc->bpwc", matrix, x)[:, :, ::2]

    plan = plan_of(
        doubled, variables=np.ones((2, 2, 2, 3), np.float32), block=(2, 2), region=(2, 2)
    )
    transposed, interpolated = plan.table().rows
    # Four taps, of which one meets a pixel and the others the zeros between pixels.
    assert transposed.dense_flops == 2 * 2 * 3 * 32 * 32
    assert transposed.window == (4, 4)
    assert transposed.flops == 2 * 2 * 3 * 16
    assert interpolated.operation == "interpolation"
    assert interpolated.dense_flops == 2 * 32 * 16 * 32 * 3
    assert interpolated.window == (2, 3)
    assert interpolated.flops == 2 * 4 * 2 * 3 * 3


def test_the_plan_reads_as_a_table():
    predict, variables = networks.network(0, [tables.WHOLE["attention"][0]])
    text = str(plan_of(predict, variables=variables))
    assert text.startswith("Image 16x16x2, blocks 4x4, region 4x4, 2 interventions at a time")
    head, first = text.splitlines()[2:4]
    assert " ".join(head.split()) == "layer operation output window follows MFLOP of dense share"
    assert first.split()[:5] == ["0", "convolution", "16x16", "6x6", "block"]
    assert "Computed whole:\n  1 x a reshape that mixes the image's axes with others" in text
    assert "times fewer" in text
    assert "Cost not counted" not in text


def test_loops_are_counted_as_far_as_they_can_be():
    weight = np.eye(2, dtype=np.float32)

    def scanned(variables, x):
        return lax.scan(lambda carry, _: (carry @ weight, None), x, length=5)[0]

    def looped(variables, x):
        return lax.while_loop(lambda y: jnp.max(y) < 1, lambda y: y + 1, x)

    plan = plan_of(scanned)
    assert plan.flops == plan.dense_flops == 5 * 2 * 2 * 2 * 256
    assert "no rule for scan" in str(plan)
    assert "Cost not counted: while (1)." in str(plan_of(looped))


@pytest.mark.parametrize("make", [tables.WHOLE["swin"][0], tables.WINDOWED["pad-edge"]])
def test_one_patch_reads_the_same_activations_as_several(make):
    # Reshapes that merge or split look different for a batch of one.
    predict, variables = networks.network(0, [make])
    image = np.random.default_rng(0).uniform(size=(16, 16, 2)).astype(np.float32)
    prepared = [
        prepare(plan_of(predict, variables=variables, patches=count), variables, image)
        for count in (1, 3)
    ]
    one, several = (p.sources for p in prepared)
    assert one.keys() == several.keys()
    for name, source in one.items():
        np.testing.assert_array_equal(source, several[name])


def test_a_model_that_treats_one_image_otherwise_is_computed_whole():
    def odd(variables, x):
        return jnp.sin(x) if len(x) == 1 else jnp.sin(x) * jnp.ones_like(x) + 0 * jnp.cos(x)

    plan, worst = networks.compare(odd, (), (9, 8, 2), (2, 3), (4, 4))
    assert worst < 1e-6
    assert "computes something else for one image than for several" in str(plan)


def test_weights_may_be_shapes_and_change_afterwards():
    predict, variables = networks.network(0, [layers.conv()])
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), variables)
    plan = plan_of(predict, variables=shapes)
    image = np.ones((16, 16, 2), np.float32)
    patches, place = np.zeros((2, 4, 4, 2), np.float32), Place(np.array([1, 1]), np.array([3, 3]))
    run = jax.jit(lambda v: intervene(plan, prepare(plan, v, image), place, patches))
    changed = image.copy()
    changed[4:8, 4:8] = 0
    wanted = predict(variables, changed[None])[0, 3:7, 3:7]
    np.testing.assert_allclose(run(variables)[0], wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"block": (17, 4)}, "block of 17x4 pixels is larger than the image of 16x16"),
        ({"region": (4, 20)}, "region of 4x20 pixels is larger than the image of 16x16"),
        ({"block": (0, 4)}, "block is 0x4; its sides must be at least 1"),
        ({"region": (4, -1)}, "region is 4x-1; its sides must be at least 1"),
        ({"patches": 0}, "num_patches is 0"),
        (
            {"step": (5, 4)},
            "block_step is 5 along the height; it must be between 1 and the block's 4",
        ),
        ({"step": (4, 0)}, "block_step is 0 along the width"),
        ({"shape": (0, 16, 2)}, "image_shape is (0, 16, 2)"),
        ({"shape": (16, 2)}, "image_shape is (16, 2); it must be (height, width, channels), or"),
        ({"shape": (8, 16, 16, 2)}, "the block is (4, 4); the image has 3 axes"),
        ({"step": (4,)}, "the block_step is (4,); the image has 2 axes"),
        ({"shape": (1, 1, 2)}, "larger than the image of 1x1"),
    ],
)
def test_sizes_out_of_range(options, words):
    with pytest.raises(ConfigError) as error:
        plan_of(lambda variables, x: jnp.sin(x), **options)
    assert words in str(error.value)


def halved(variables, x):
    return x[:, ::2, ::2]


def branching(variables, x):
    return x if x.sum() > 0 else -x


def wrong_size(variables, x):
    return x.reshape(-1, 7, 5, 2)


@pytest.mark.parametrize(
    ("predict", "words"),
    [
        (halved, "aligned with images (2, 16, 16, 2), not (2, 8, 8, 2); resize its output"),
        (lambda variables, x: (x, x), "not 2 arrays"),
        (lambda variables, x: jnp.zeros_like(x), "do not depend on the image"),
        (branching, "cannot be traced for images (2, 16, 16, 2): TracerBoolConversionError"),
        (wrong_size, "cannot be traced for images (2, 16, 16, 2): TypeError"),
    ],
)
def test_models_that_cannot_be_planned(predict, words):
    with pytest.raises(ModelError) as error:
        plan_of(predict)
    assert words in str(error.value)
    assert len(str(error.value).splitlines()) == 1


#: (side of the volume, of the block, of the region): how many times fewer FLOPs at least.
VOLUMES = {(96, 16, 24): 12, (128, 16, 32): 20, (192, 16, 32): 65}


@pytest.mark.parametrize(("sides", "least"), VOLUMES.items())
def test_volumes_are_planned_by_their_shapes_alone(sides, least):
    widths = (16, 32, 64, 128, 256)
    config = UNet3DConfig(encoder_channels=widths, decoder_channels=widths[-2::-1], norm="batch")
    spec = config.input_spec()
    model = as_model(
        nnx.eval_shape(lambda: config.build(nnx.Rngs(0))),
        class_names=["background", "organ"],
        rank=3,
        channels=1,
        multiple_of=spec.multiple_of,
    )
    size, block, region = ((side,) * 3 for side in sides)
    plan = plan_of(
        model.segmenter, (*size, 1), variables=model.variables, block=block, region=region
    )
    assert plan.table().ratio >= least
    assert kept_bytes(plan) < 2**30 * (sides[0] / 128) ** 3
    assert str(plan).startswith(f"Image {sides[0]}x{sides[0]}x{sides[0]}x1, blocks 16x16x16, ")


def test_what_the_description_says_comes_through():
    model = as_model(lambda x: x, class_names=["a", "b"], channels=2, multiple_of=3)
    with pytest.raises(ModelError, match="multiples of 3, not"):
        plan_of(model.segmenter)
