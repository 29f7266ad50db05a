"""Other images of a data set: which, in which order, and for which size."""

import numpy as np
import pytest

from jaxseg_xai.core.errors import DataError
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.core.inputs import prepare
from jaxseg_xai.core.types import Sample
from jaxseg_xai.data.others import choose_others, read_others

SLICES = [f"{volume}#{i}" for volume in "abc" for i in range(3)]


def test_other_volumes_come_first_and_the_image_itself_is_left_out():
    order = choose_others(SLICES, "b#1", seed=0)
    names = [SLICES[index] for index in order]
    assert sorted(names) == sorted(set(SLICES) - {"b#1"})
    assert {name[0] for name in names[:6]} == {"a", "c"}
    assert {name[0] for name in names[6:]} == {"b"}


def test_the_order_depends_on_the_seed_and_the_name_alone():
    orders = {
        tuple(choose_others(SLICES, name, seed=s)[:6]) for name in ("a#0", "a#1") for s in (0, 1)
    }
    assert len(orders) == 4
    assert choose_others(SLICES, "a#0", seed=0) == choose_others(SLICES, "a#0", seed=0)
    # As an image of another data set.
    assert len(choose_others(SLICES, "z", seed=0)) == len(SLICES)


class Images:
    """Sizes by name, values the index; "bad" cannot be read."""

    class_names = ("background", "object")

    def __init__(self, sizes, groups=None):
        self.ids, self.sizes, self.groups = tuple(sizes), sizes, groups or {}

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        name = self.ids[index]
        if name == "bad":
            raise DataError("bad: cannot be read")
        image = np.full((*self.sizes[name], 1), index / 10, np.float32)
        return Sample(id=name, image=image, group=self.groups.get(name, ""))


def test_only_images_of_its_size_that_can_be_read_and_prepared_as_it_is():
    source = Images({"x": (6, 6), "bad": (6, 6), "y": (6, 6), "z": (6, 6), "small": (3, 3)})
    spec = InputSpec(channels=1, multiple_of=4, pad="edge", mean=(0.5,))
    found = read_others(source, spec, source[0], (8, 8), count=2, seed=3)
    expected = [prepare(source[i], spec).image for i in (2, 3)]
    assert found.shape == (2, 8, 8, 1)
    np.testing.assert_array_equal(np.sort(found[:, 0, 0, 0]), [e[0, 0, 0] for e in expected])
    with pytest.raises(DataError, match="x: 2 other images of its size, 3 are needed; lower num_o"):
        read_others(source, spec, source[0], (8, 8), count=3, seed=3)


@pytest.mark.parametrize("seed", range(3))
def test_images_of_its_own_group_are_no_others(seed):
    sizes = dict.fromkeys("uvwxyz", (4, 4))
    source = Images(sizes, groups=dict.fromkeys("uvw", "one"))
    found = read_others(source, InputSpec(channels=1), source[0], (4, 4), count=3, seed=seed)
    values = np.round(10 * found[:, 0, 0, 0]).astype(int)
    assert sorted(values) == [3, 4, 5]
    message = r"u: 3 other images of its size \(2 more belong to one as it does\), 4 are needed"
    with pytest.raises(DataError, match=message):
        read_others(source, InputSpec(channels=1), source[0], (4, 4), count=4, seed=seed)
