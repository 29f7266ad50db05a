"""Data sets in their published layouts: every pixel as it was written, and what is wrong said."""

import re

import numpy as np
import pytest
from PIL import Image

from jaxseg_xai.core.errors import ConfigError, DataError
from jaxseg_xai.data import as_source, name_of_source, open_dataset
from jaxseg_xai.data.sources.voc import CLASS_NAMES
from jaxseg_xai.sweeps.data import DataConfig
from tests.data import layouts
from tests.support import labels_fail


@pytest.fixture(params=layouts.LAYOUTS)
def made(request, tmp_path):
    return request.param, layouts.LAYOUTS[request.param](tmp_path)


def resized(path):
    """Writes the picture of a file into it, one row shorter."""
    with Image.open(path) as image:
        image.load()
        image.crop((0, 0, image.width, image.height - 1)).save(path)


def test_a_layout_is_recognised_and_read(made):
    name, layout = made
    assert name_of_source(layout.root) == name
    sources = [
        open_dataset(name, "test", root=layout.root),
        open_dataset(layout.root),
        as_source(layout.root),
        DataConfig(source=name, root=layout.root).open(None)[0],
        DataConfig(source=str(layout.root)).open(None)[0],
    ]
    for source in sources:
        assert tuple(source.ids) == layout.ids
        sample = source[0]
        np.testing.assert_array_equal(sample.labels, layout.classes)
        with Image.open(layout.images[0]) as image:
            np.testing.assert_array_equal(sample.image, np.asarray(image) / np.float32(255))
        assert sample.group == layout.group
    assert open_dataset(name, root=layout.root, read_labels=False)[0].labels is None


def test_no_two_splits_share_an_image(made):
    name, layout = made
    train, validation = (
        set(open_dataset(name, split, root=layout.root).ids) for split in ("train", "validation")
    )
    assert train
    assert not train & {*validation, *layout.ids}


def test_a_split_that_is_not_there(made):
    name, layout = made
    with pytest.raises(ConfigError, match="split='dev': choose one of train, validation, test"):
        open_dataset(name, "dev", root=layout.root)


def test_files_that_are_not_there(made):
    name, layout = made
    layout.images[1].unlink()
    source = open_dataset(name, root=layout.root)
    if layout.images[1].stem in "".join(layout.ids):
        with pytest.raises(DataError, match=f"{layout.images[1].name}: no such file; "):
            source[source.ids.index(layout.ids[1])]
    layout.label_files[0].unlink()
    labels_fail(source[0], re.escape(str(layout.label_files[0])))


def test_labels_of_another_size(made):
    name, layout = made
    resized(layout.label_files[0])
    sample = open_dataset(name, root=layout.root)[0]
    labels_fail(sample, f"{re.escape(str(layout.label_files[0]))}.* 11x10, its image 12x10; ")


def test_no_listing(made):
    name, layout = made
    layout.listing.rename(layout.listing.with_name("elsewhere"))
    with pytest.raises(DataError, match=f"{re.escape(str(layout.listing))}: .*; ") as caught:
        open_dataset(name, root=layout.root)
    assert "\n" not in str(caught.value)


def test_a_root_that_is_needed_or_in_the_way(tmp_path):
    with pytest.raises(ConfigError, match="voc needs the option 'root', the folder of your copy"):
        DataConfig(source="voc").open(None)
    root = layouts.voc(tmp_path).root
    with pytest.raises(ConfigError, match=r"data.root goes with the name .* leave it out"):
        DataConfig(source=str(root), root=root).open(None)


def test_options_reach_the_data_set():
    config = DataConfig(source="triangle", size=32, num=2, options={"seed": 3})
    seeded = open_dataset("triangle", size=32, num=2, seed=3)
    np.testing.assert_array_equal(config.open(None)[0][1].image, seeded[1].image)
    with pytest.raises(ConfigError, match="triangle has no option 'sead'; it has num, seed, size"):
        DataConfig(source="triangle", options={"sead": 3}).open(None)


def test_voc(tmp_path):
    layout = layouts.voc(tmp_path)
    assert open_dataset(layout.root).class_names == CLASS_NAMES
    assert len(CLASS_NAMES) == 21
    assert len(open_dataset(layout.root, "trainval")) == 4
    layout.listing.write_text("2007_000033\n2007_000033\n")
    with pytest.raises(DataError, match=r"val.txt: 2007_000033 is in it twice"):
        open_dataset(layout.root)
    layout.listing.write_text("\n")
    with pytest.raises(DataError, match=r"val.txt: lists no image; unpack"):
        open_dataset(layout.root)
    layout.listing.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"val.txt: no text file"):
        open_dataset(layout.root)
