"""Windows against the dense result: every kind of layer, random networks, all corners."""

import numpy as np
import pytest

from jaxseg_xai.models import as_model
from jaxseg_xai.models.zoo.unet import UNetConfig
from jaxseg_xai.models.zoo.unet3d import UNet3DConfig
from tests.incremental import layers, networks, tables

#: Of the range of the logits; float32 resolves 6e-8, a few layers add up.
TOLERANCE = 1e-6


def variety(k):
    """Ways back to the image's size, skips, and how interventions are mapped, one after another."""
    how = ("bilinear", "nearest", "crop")[k % 3]
    return {"how": how, "skip": (None, None, "add", None, "concat")[k % 5]}, ("vmap", "loop")[k % 2]


#: Layers that keep every pixel in its place need no network each.
TOGETHER = [
    ["batch-norm", "layer-norm", "dense", "gelu-softmax", "remat"],
    ["where", "channel-tricks", "stack", "cumulative", "positions"],
    ["conv-groups", "rows-first", "nchw", "depthwise"],
    ["matmul", "matmul-batched", "vecmat"],
]
ALONE = [name for name in tables.WINDOWED if not any(name in chain for chain in TOGETHER)]
CHAINS = [*TOGETHER, *([name] for name in ALONE)]


@pytest.mark.parametrize(("k", "names"), list(enumerate(CHAINS)), ids=["+".join(c) for c in CHAINS])
def test_layers_have_windows(k, names):
    options, mapped = variety(k)
    kinds = [tables.WINDOWED[name] for name in names]
    predict, variables = networks.network(k, kinds, **options)
    plan, worst = networks.compare(
        predict, variables, (24, 20, 2), (5, 4), (6, 7), seed=k, mapped=mapped
    )
    assert worst < TOLERANCE
    assert not [row.note for row in plan.table().rows if row.note]
    assert not any(step.rule.why_dense for step in plan.steps)


@pytest.mark.parametrize(("k", "name"), list(enumerate(tables.WHOLE)), ids=list(tables.WHOLE))
def test_layer_that_mixes_positions_is_computed_whole_and_the_plan_says_why(k, name):
    options, mapped = variety(k)
    make, why = tables.WHOLE[name]
    predict, variables = networks.network(k, [make], **options)
    plan, worst = networks.compare(
        predict, variables, (24, 20, 2), (5, 4), (6, 7), seed=k, mapped=mapped
    )
    assert worst < TOLERANCE
    if why is not None:
        assert why in " ".join(row.note for row in plan.table().rows)
    # What comes after it has windows again, be it the region's.
    assert np.prod(plan.table().rows[-1].window) <= 80
    assert plan.flops < plan.dense_flops


@pytest.mark.parametrize("seed", range(10))
def test_random_networks(seed):
    rng = np.random.default_rng(seed)
    kinds = [*tables.WINDOWED.values(), *(make for make, _ in tables.WHOLE.values())]
    usable = [kind for kind in kinds if kind not in _SIZE_BOUND]
    chosen = [usable[i] for i in rng.integers(len(usable), size=3)]
    shape = (*(int(n) for n in rng.integers(13, 30, size=2)), int(rng.integers(1, 4)))
    block = tuple(int(n) for n in rng.integers(1, 9, size=2))
    region = tuple(int(rng.integers(1, n + 1)) for n in shape[:2])
    options, mapped = variety(seed)
    predict, variables = networks.network(seed, chosen, channels=shape[-1], **options)
    _, worst = networks.compare(predict, variables, shape, block, region, seed=seed, mapped=mapped)
    # Up-sampled by as much as 27, with weights of the order of one: roundings add up.
    assert worst < 1e-5


#: Layers that need even or large maps.
_SIZE_BOUND = [
    tables.WINDOWED["window-attention"],
    tables.WINDOWED["shifted-windows"],
    tables.WINDOWED["dynamic-slice"],
    tables.WHOLE["swin"][0],
    tables.WHOLE["swin-shifted"][0],
    tables.WHOLE["transposed-image"][0],
    tables.WINDOWED["conv-wide-padding"],
]


@pytest.mark.parametrize(
    ("shape", "block", "region"),
    [
        ((24, 20, 2), (24, 20), (24, 20)),
        ((24, 20, 2), (1, 1), (1, 1)),
        ((7, 5, 1), (3, 5), (7, 1)),
        ((1, 9, 2), (1, 2), (1, 3)),
        ((1, 1, 3), (1, 1), (1, 1)),
    ],
)
def test_sizes_of_image_block_and_region(shape, block, region):
    kinds = [layers.conv((5, 5)), tables.WINDOWED["max-pool-same"]]
    predict, variables = networks.network(0, kinds, channels=shape[-1])
    _, worst = networks.compare(predict, variables, shape, block, region)
    assert worst < TOLERANCE


@pytest.mark.parametrize(
    ("norm", "upsample", "pad", "logits"),
    [
        ("batch", "bilinear", "edge", 1),
        ("none", "transposed", "reflect", 3),
        ("group", "nearest", "constant", 1),
    ],
)
def test_unet_of_images_that_are_padded(norm, upsample, pad, logits):
    config = UNetConfig.of_width(2, 2, num_logits=logits, norm=norm, upsample=upsample)
    segmenter, variables = networks.unet(config)
    predict = networks.padding(segmenter, segmenter.input.multiple_of, pad)
    plan, worst = networks.compare(predict, variables, (21, 18, 3), (4, 4), (5, 6))
    assert worst < TOLERANCE
    assert (norm == "group") == any(row.note for row in plan.table().rows)


def test_bfloat16():
    config = UNetConfig.of_width(4, 1)
    predict, variables = networks.unet(config, dtype="bfloat16")
    _, worst = networks.compare(predict, variables, (24, 20, 3), (4, 4), (5, 6))
    # bfloat16 resolves 2^-8, and XLA keeps more digits inside what it fuses, here and there.
    assert worst < 2**-6


def test_a_function_without_layers():
    identity = as_model(lambda images: images, class_names=["a", "b"], channels=2)
    plan, worst = networks.compare(identity.segmenter, (), (9, 8, 2), (2, 3), (4, 4))
    assert worst == 0
    assert np.isnan(plan.table().ratio)


@pytest.mark.parametrize(
    ("k", "name"), list(enumerate(tables.VOLUME_WINDOWED)), ids=list(tables.VOLUME_WINDOWED)
)
def test_volumes_have_windows(k, name):
    options, mapped = variety(k)
    kinds = tables.VOLUME_WINDOWED[name]
    predict, variables = networks.network(k, kinds, rank=3, **options)
    plan, worst = networks.compare(
        predict, variables, (9, 12, 10, 2), (2, 3, 2), (3, 2, 4), seed=k, mapped=mapped
    )
    assert worst < TOLERANCE
    assert not any(step.rule.why_dense for step in plan.steps)
    assert not [row.note for row in plan.table().rows if row.note]


@pytest.mark.parametrize(
    ("k", "name"), list(enumerate(tables.VOLUME_WHOLE)), ids=list(tables.VOLUME_WHOLE)
)
def test_volumes_with_layers_that_mix_voxels(k, name):
    make, why = tables.VOLUME_WHOLE[name]
    predict, variables = networks.network(k, [make], rank=3, channels=1)
    plan, worst = networks.compare(predict, variables, (8, 7, 9, 1), (2, 2, 3), (3, 2, 2), seed=k)
    assert worst < TOLERANCE
    assert why in " ".join(row.note for row in plan.table().rows)
    # What comes after it has windows again.
    assert plan.table().rows[-1].window == (3, 2, 2)
    assert plan.flops < plan.dense_flops


def few(*values):
    """The first as a test, the others as slow ones."""
    return [
        pytest.param(*value, marks=[pytest.mark.slow] if k else [])
        for k, value in enumerate(values)
    ]


@pytest.mark.parametrize("seed", few(*([seed] for seed in range(12))))
def test_random_networks_of_volumes(seed):
    rng = np.random.default_rng(seed)
    kinds = [kind for chain in tables.VOLUME_WINDOWED.values() for kind in chain]
    kinds += [make for make, _ in tables.VOLUME_WHOLE.values()]
    chosen = [kinds[i] for i in rng.integers(len(kinds), size=3)]
    shape = (*(int(n) for n in rng.integers(7, 14, size=3)), int(rng.integers(1, 4)))
    block = tuple(int(n) for n in rng.integers(1, 6, size=3))
    region = tuple(int(rng.integers(1, n + 1)) for n in shape[:3])
    options, mapped = variety(seed)
    predict, variables = networks.network(seed, chosen, rank=3, channels=shape[-1], **options)
    _, worst = networks.compare(predict, variables, shape, block, region, seed=seed, mapped=mapped)
    assert worst < TOLERANCE


@pytest.mark.parametrize(
    ("shape", "block", "region"),
    few(
        ((1, 9, 2, 1), (1, 2, 2), (1, 3, 1)),
        ((8, 6, 7, 2), (8, 6, 7), (8, 6, 7)),
        ((6, 6, 6, 1), (1, 1, 1), (1, 1, 1)),
        ((3, 12, 5, 1), (2, 5, 4), (3, 12, 1)),
    ),
)
def test_sizes_of_volume_block_and_region(shape, block, region):
    kinds = [layers.conv((5, 3, 3)), tables.VOLUME_WINDOWED["pooled"][0]]
    predict, variables = networks.network(0, kinds, rank=3, channels=shape[-1])
    _, worst = networks.compare(predict, variables, shape, block, region)
    assert worst < TOLERANCE


@pytest.mark.parametrize(
    ("norm", "upsample", "down"),
    few(
        ("batch", "transposed", "max_pool"),
        ("none", "trilinear", "strided"),
        ("group", "trilinear", "max_pool"),
    ),
)
def test_unet_of_volumes(norm, upsample, down):
    widths = (2, 4, 4)
    config = UNet3DConfig(
        encoder_channels=widths,
        decoder_channels=widths[-2::-1],
        norm=norm,
        upsample=upsample,
        down=down,
        num_groups=2,
    )
    segmenter, variables = networks.unet(config)
    plan, worst = networks.compare(segmenter, variables, (12, 16, 8, 1), (4, 3, 2), (3, 4, 5))
    assert worst < TOLERANCE
    assert (norm == "group") == any(row.note for row in plan.table().rows)
