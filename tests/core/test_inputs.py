"""Samples on the grid that a model takes, and maps back on the sample's."""

import numpy as np
import pytest
from PIL import Image

from jaxseg_xai.core.errors import DataError, ModelError
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.core.inputs import prepare
from jaxseg_xai.core.types import Sample

SIZES = {2: (6, 9), 3: (5, 6, 9)}


def sample(rank, channels=2, planes=False):
    rng = np.random.default_rng(0)
    image = rng.random((*SIZES[rank], channels), np.float32)
    labels = rng.integers(0, 3, SIZES[rank])
    labels = np.arange(3) == labels[..., None] if planes else labels.astype(np.int32)
    return Sample(id="scan 3", image=image, labels=labels)


def spec(rank, **fields):
    return InputSpec(rank=rank, **({"channels": 2} | fields))


@pytest.mark.parametrize("rank", [2, 3])
def test_what_a_model_takes_as_it_is_stays_as_it_is(rank):
    given = sample(rank)
    found = prepare(given, spec(rank))
    np.testing.assert_array_equal(found.image, given.image)
    np.testing.assert_array_equal(found.grid.forward(given.labels), given.labels)
    assert found.grid.valid.all()
    np.testing.assert_array_equal(found.grid.back(given.labels), given.labels)


@pytest.mark.parametrize("rank", [2, 3])
def test_scaling_comes_before_the_mean_and_padding_comes_last(rank):
    given = sample(rank)
    fields = {"value_range": (-1.0, 3.0), "mean": (0.5, 1.0), "std": (2.0, 4.0)}
    found = prepare(given, spec(rank, **fields, multiple_of=4, pad="constant"))
    wanted = (given.image * 4 - 1 - np.array([0.5, 1.0])) / np.array([2.0, 4.0])
    inside = tuple(slice(n) for n in SIZES[rank])
    np.testing.assert_allclose(found.image[inside], wanted, rtol=1e-6, atol=1e-6)
    assert found.image.shape[:-1] == tuple(-(-n // 4) * 4 for n in SIZES[rank])
    assert (found.image[~found.grid.valid] == 0).all()
    assert found.image.dtype == np.float32


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("pad", ["edge", "reflect"])
def test_padding_is_at_the_end_and_no_part_of_the_sample(rank, pad):
    given = sample(rank, planes=True)
    found = prepare(given, spec(rank, multiple_of=8, pad=pad))
    extra = [(0, -n % 8) for n in SIZES[rank]]
    np.testing.assert_array_equal(found.image, np.pad(given.image, [*extra, (0, 0)], mode=pad))
    labels = found.grid.forward(given.labels)
    np.testing.assert_array_equal(labels, np.pad(given.labels, [*extra, (0, 0)]))
    assert found.grid.valid.sum() == np.prod(SIZES[rank])
    assert not labels[~found.grid.valid].any()
    np.testing.assert_array_equal(found.grid.back(found.image), given.image)
    np.testing.assert_array_equal(found.grid.back(labels), given.labels)


@pytest.mark.parametrize("rank", [2, 3])
def test_images_are_padded_to_the_smallest_common_size_that_holds_them(rank):
    given, first = sample(rank), (8,) * (rank - 2)
    shapes = tuple((*first, *size) for size in ((16, 16), (8, 12), (24, 24), (8, 8)))
    found = prepare(given, spec(rank, multiple_of=4, pad_to=shapes))
    assert found.grid.prepared == shapes[1]  # 6 x 9 does not fit into 8 x 8
    extra = [(0, b - a) for a, b in zip(SIZES[rank], shapes[1], strict=True)]
    np.testing.assert_array_equal(found.image, np.pad(given.image, [*extra, (0, 0)], mode="edge"))
    np.testing.assert_array_equal(found.grid.back(found.image), given.image)
    black = prepare(given, spec(rank, multiple_of=4, pad_to=shapes, pad="constant")).image
    assert not black[tuple(slice(n, None) for n in SIZES[rank])].any()
    # One that none of them holds goes to the next multiple.
    few = prepare(given, spec(rank, multiple_of=4, pad_to=shapes[-1:]))
    assert few.grid.prepared == tuple(-(-n // 4) * 4 for n in SIZES[rank])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"pad_to": ((8, 6),), "multiple_of": 4}, "give 2 multiples of multiple_of = 4"),
        ({"pad_to": ((8,),)}, "give 2 multiples of"),
        ({"pad_to": ((8, 8),), "fixed_size": (8, 8)}, r"they are resized to \(8, 8\); leave sizes"),
    ],
)
def test_sizes_that_nothing_can_be_padded_to(fields, words):
    with pytest.raises(ModelError, match=words):
        spec(2, **fields)


@pytest.mark.parametrize("rank", [2, 3])
def test_resizing_is_linear_for_images_and_nearest_for_labels(rank):
    given = sample(rank, planes=rank == 3)
    twice = tuple(2 * n for n in SIZES[rank])
    found = prepare(given, spec(rank, fixed_size=twice))
    assert found.image.shape == (*twice, 2)
    # Pixel centres at halves: along an axis pixel 1 is 3/4 of pixel 0 and 1/4 of pixel 1.
    first, inner = (0,) * rank, (1, *(0,) * (rank - 1))
    np.testing.assert_allclose(found.image[first], given.image[first], rtol=1e-6)
    wanted = 0.75 * given.image[first] + 0.25 * given.image[inner]
    np.testing.assert_allclose(found.image[inner], wanted, rtol=1e-5)
    labels, repeated = found.grid.forward(given.labels), given.labels
    for axis in range(rank):
        repeated = np.repeat(repeated, 2, axis)
    np.testing.assert_array_equal(labels, repeated)
    assert labels.dtype == given.labels.dtype
    assert found.grid.valid.all()
    np.testing.assert_array_equal(found.grid.back(labels), given.labels)


@pytest.mark.parametrize("size", [(5, 4), (3, 17), (23, 6), (12, 10)])
def test_images_are_resized_as_by_pil(size):
    image = np.random.default_rng(0).random((12, 10, 2)).astype(np.float32)
    found = prepare(Sample(id="a", image=image, labels=None), spec(2, fixed_size=size)).image
    for channel, ours in zip(np.moveaxis(image, -1, 0), np.moveaxis(found, -1, 0), strict=True):
        theirs = Image.fromarray(channel).resize(size[::-1], Image.Resampling.BILINEAR)
        np.testing.assert_allclose(ours, np.asarray(theirs), atol=1e-6)


def test_a_coarse_voxel_is_the_mean_of_what_it_covers():
    volume = np.zeros((8, 8, 8, 1), np.float32)
    volume[::4] = 1  # lost if a voxel looked at the two slices next to it only
    wanted = spec(3, channels=1, fixed_size=(2, 2, 2))
    found = prepare(Sample(id="a", image=volume, labels=None), wanted)
    np.testing.assert_allclose(found.image, 0.25, atol=0.08)


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("scale", [2, 3])
def test_maps_come_back_as_they_went(rank, scale):
    """The inverse property: exact for constants and ramps inside, and for nearest neighbours."""
    given = sample(rank)
    larger = tuple(scale * n for n in SIZES[rank])
    grid = prepare(given, spec(rank, fixed_size=larger)).grid
    np.testing.assert_array_equal(grid.back(grid.forward(given.labels)), given.labels)
    ramp = np.arange(np.prod(larger[-1:]), dtype=np.float32) * np.ones(larger, np.float32)
    back = grid.back(ramp)
    wanted = scale * (np.arange(SIZES[rank][-1]) + 0.5) - 0.5
    np.testing.assert_allclose(back, np.broadcast_to(wanted, back.shape), rtol=1e-5)
    # Further axes ride along: a map per class.
    pair = grid.back(np.stack([ramp, -ramp], axis=-1))
    np.testing.assert_allclose(pair, np.stack([back, -back], axis=-1), rtol=1e-6)
    assert grid.back(ramp > 3).dtype == bool
    assert grid.back(ramp.astype(np.int32)).dtype == np.int32


def test_grey_images_are_repeated_where_that_is_asked_for():
    given = sample(2, channels=1)
    found = prepare(given, spec(2, channels=3, grey="repeat", mean=(0.0, 0.5, 1.0)))
    np.testing.assert_allclose(found.image, given.image - np.array([0, 0.5, 1]), rtol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_model_that_takes_blue_first_gets_it_first(channels):
    given = sample(2, channels=channels)
    found = prepare(
        given, spec(2, channels=3, grey="repeat", channel_order="bgr", mean=(0.1, 0.2, 0.3))
    )
    blue_first = np.broadcast_to(given.image, found.image.shape)[..., ::-1]
    np.testing.assert_allclose(found.image, blue_first - np.array([0.1, 0.2, 0.3]), atol=1e-6)


@pytest.mark.parametrize(
    ("given", "fields", "match"),
    [
        (sample(3), {"rank": 2}, r"no image|is no .* the model takes an image \[H, W, C\]"),
        (sample(2), {"rank": 3}, r"the model takes a volume \[D, H, W, C\]"),
        (sample(2, channels=1), {"channels": 3}, "1 channels, the model takes 3; set channels"),
        (sample(2), {"channels": 3, "grey": "repeat"}, "2 channels, the model takes 3; convert"),
        *(
            (
                Sample(id="scan 3", image=np.ones((4, 4, 2), dtype)),
                {},
                f"pixels of type {dtype}; its source must give floats",
            )
            for dtype in ("uint8", "int16", "bool", "complex64", "object")
        ),
        (sample(2), {"multiple_of": 4}, "6x9 is not a multiple of the model's stride 4; set pad"),
    ],
)
def test_samples_that_a_model_does_not_take(given, fields, match):
    with pytest.raises(DataError, match=match) as error:
        prepare(given, InputSpec(**({"channels": 2} | fields)))
    assert str(error.value).startswith("scan 3: ")
    assert "\n" not in str(error.value)


def volume(spacing=None):
    """Two channels; numbers other than 0 in the middle only, and a hole in there."""
    image = np.zeros((6, 8, 10, 2), np.float32)
    image[1:4, 2:7, 3:9] = np.random.default_rng(1).random((3, 5, 6, 2)) + 0.5
    image[2, 4, 5] = 0
    labels = (image[..., 0] > 0).astype(np.int32)
    return Sample(id="scan 3", image=image, labels=labels, spacing=spacing)


def test_what_is_around_the_nonzero_pixels_is_left_out_and_comes_back_as_zeros():
    given = volume()
    found = prepare(given, spec(3, crop="nonzero", multiple_of=4, pad="constant"))
    assert found.image.shape == (4, 8, 8, 2)
    np.testing.assert_array_equal(found.image[:3, :5, :6], given.image[1:4, 2:7, 3:9])
    np.testing.assert_array_equal(found.grid.back(found.image), given.image)
    labels = found.grid.forward(given.labels)
    assert labels.sum() == given.labels.sum()
    np.testing.assert_array_equal(found.grid.back(labels), given.labels)
    assert found.grid.back(np.ones((4, 8, 8), bool)).sum() == 3 * 5 * 6
    assert found.grid.changes
    empty = Sample(id="scan 3", image=np.zeros((4, 4, 2), np.float32))
    assert prepare(empty, spec(2, crop="nonzero")).image.shape == (4, 4, 2)


def test_channels_are_limited_and_scaled_by_numbers_of_their_own():
    given = volume()
    inside = np.zeros(given.image.shape[:3], bool)
    inside[1:4, 2:7, 3:9] = True  # the hole is filled
    one, other = np.moveaxis(given.image.astype(np.float64), -1, 0)
    fields = {"clip": ((0.6, 1.2), None), "normalize": ("zscore", "zscore_nonzero")}
    found = prepare(given, spec(3, **fields, mean=(1.0, 0.0), std=(2.0, 1.0))).image
    limited = np.clip(one, 0.6, 1.2)
    wanted = ((limited - limited.mean()) / limited.std() - 1) / 2
    np.testing.assert_allclose(found[..., 0], wanted, atol=1e-5)
    values = other[inside]
    wanted = np.where(inside, (other - values.mean()) / values.std(), 0)
    np.testing.assert_allclose(found[..., 1], wanted, atol=1e-5)
    # By what is left after the crop.
    found = prepare(given, spec(3, crop="nonzero", normalize=("zscore", "minmax"))).image
    values = one[1:4, 2:7, 3:9]
    np.testing.assert_allclose(found[..., 0], (values - values.mean()) / values.std(), atol=1e-5)
    assert (found[..., 1].min(), found[..., 1].max()) == (0, 1)
    constant = Sample(id="scan 3", image=np.full((4, 4, 2), 3, np.float32))
    for kind in ("zscore", "minmax"):
        assert not prepare(constant, spec(2, normalize=(kind, kind))).image.any()


def test_images_are_resampled_to_a_spacing_and_maps_brought_back():
    given = sample(3)
    given = Sample(id="scan 3", image=given.image, spacing=(2.0, 1.0, 0.7))
    found = prepare(given, spec(3, spacing=(1.0, None, 1.4)))
    assert found.image.shape == (10, 6, 4, 2)  # round(4.5) is 4
    assert found.image.min() >= given.image.min()
    assert found.image.max() <= given.image.max()
    back = found.grid.back(np.full(found.grid.prepared, 0.25, np.float32))
    np.testing.assert_array_equal(back, np.full((5, 6, 9), 0.25, np.float32))
    # A cubic spline is exact for a straight line, away from the ends.
    line = np.broadcast_to(np.arange(40.0)[:, None, None], (40, 1, 1)).astype(np.float32)
    given = Sample(id="scan 3", image=line, spacing=(1.0, 1.0))
    halves = prepare(given, InputSpec(channels=1, spacing=(0.5, 1.0))).image[:, 0, 0]
    np.testing.assert_allclose(halves[20:60], (np.arange(20, 60) + 0.5) / 2 - 0.5, atol=1e-5)


def test_a_coarse_axis_is_resampled_by_its_nearest_slice():
    image = np.random.default_rng(2).random((4, 6, 5, 1), np.float32)
    given = Sample(id="scan 3", image=image, spacing=(5.0, 1.0, 1.0))
    found = prepare(given, InputSpec(rank=3, channels=1, spacing=(2.5, 1.0, 1.0)))
    np.testing.assert_array_equal(found.image, np.repeat(image, 2, axis=0))
    assert found.grid.apart == (0, 0)
    turned = prepare(given, InputSpec(rank=3, channels=1, spacing=(1.0, 1.0, 5.0)))
    assert turned.grid.apart == (0, 2)
    found = prepare(given, InputSpec(rank=3, channels=1, spacing=(5.0, 0.5, 1.0)))
    assert found.image.shape == (4, 12, 5, 1)
    alone = prepare(
        Sample(id="scan 3", image=image[2], spacing=(1.0, 1.0)),
        InputSpec(channels=1, spacing=(0.5, 1.0)),
    )
    np.testing.assert_allclose(found.image[2], alone.image, atol=1e-6)


@pytest.mark.parametrize("spacing", [None, (1.0, 1.0), (1.0, 0.0, 1.0)])
def test_a_volume_without_the_spacing_that_a_model_needs(spacing):
    match = r"scan 3: its spacing is .*, and the model takes any x 1.2 x 0.5 mm; give a Sample"
    with pytest.raises(DataError, match=match):
        prepare(volume(spacing), spec(3, spacing=(None, 1.2, 0.5)))
    with pytest.raises(DataError, match="nothing is left of"):
        prepare(volume((0.1, 1.0, 1.0)), spec(3, spacing=(10.0, 1.0, 1.0)))


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"spacing": (1.0,)}, r"spacing \(1.0,\) for images of rank 2"),
        ({"spacing": (1.0, -1.0)}, "give millimetres above 0"),
        ({"spacing": (1.0, 1.0), "fixed_size": (4, 4)}, "leave one out"),
        ({"crop": "all"}, "crop is 'all'; use none, nonzero"),
        ({"normalize": ("zscore",)}, "normalize has 1 values for 2 channels"),
        ({"normalize": ("zscore", "z")}, "normalize is 'z'; use none, zscore, "),
        ({"channel_order": "bgr"}, "channel_order 'bgr' for 2 channels; .* leave it out"),
        ({"channel_order": "gbr"}, "channel_order is 'gbr'; use rgb, bgr"),
        ({"clip": (None, (1.0, 1.0))}, r"clip holds \(1.0, 1.0\); the low one must be below"),
    ],
)
def test_descriptions_of_inputs_that_contradict_themselves(fields, match):
    with pytest.raises(ModelError, match=match):
        InputSpec(channels=2, **fields)
