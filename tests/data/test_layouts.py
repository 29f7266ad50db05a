"""Data sets in their published layouts: every pixel as it was written, and what is wrong said."""

import json
import re
import shutil
import sys

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask

from jaxseg_xai.core.errors import ConfigError, DataError, MissingExtraError
from jaxseg_xai.data import as_source, name_of_source, open_dataset
from jaxseg_xai.data.sources.voc import CLASS_NAMES
from jaxseg_xai.sweeps.data import DataConfig
from tests.data import layouts
from tests.support import labels_fail

#: Those in which one file or folder says which images there are.
LISTED = [name for name in layouts.LAYOUTS if name != "ham10000"]
METADATA = "HAM10000_metadata.csv"


@pytest.fixture(params=layouts.LAYOUTS)
def made(request, tmp_path):
    return request.param, layouts.LAYOUTS[request.param](tmp_path)


def resized(path):
    """Writes the label maps of a file into it, one row shorter."""
    if path.suffix == ".json":
        table = json.loads(path.read_text().replace('"height": 12', '"height": 11'))
        polygons = [one for one in table["annotations"] if not one["iscrowd"]]
        path.write_text(json.dumps(table | {"annotations": polygons}))
        return
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


def test_files_that_are_gone(made):
    name, layout = made
    source = open_dataset(name, root=layout.root)
    layout.images[1].unlink()
    with pytest.raises(DataError, match=f"{re.escape(str(layout.images[1]))}: no such file; "):
        source[1]
    if layout.label_files[0] != layout.listing:
        layout.label_files[0].unlink()
        labels_fail(source[0], f"{re.escape(str(layout.label_files[0]))}: no such file; ")


def test_labels_of_another_size(made):
    name, layout = made
    resized(layout.label_files[0])
    sample = open_dataset(name, root=layout.root)[0]
    labels_fail(sample, f"{re.escape(str(layout.label_files[0]))}.* 11x10, its image 12x10; ")


@pytest.mark.parametrize("name", LISTED)
def test_no_listing(name, tmp_path):
    layout = layouts.LAYOUTS[name](tmp_path)
    layout.listing.rename(layout.listing.with_name("elsewhere"))
    with pytest.raises(DataError, match=f"{re.escape(str(layout.listing))}: .*; ") as caught:
        open_dataset(name, root=layout.root)
    assert "\n" not in str(caught.value)


def test_a_root_that_is_needed_or_in_the_way(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"voc needs the option 'root', the .* sweep\)$"):
        DataConfig(source="voc").open(None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "voc").mkdir()
    with pytest.raises(ConfigError, match=r"sweep\); ./voc is the folder of this name"):
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


def coco_stuff(tmp_path):
    """What `coco` writes, and stuff: a JSON file of run-length codes, and the same as PNG."""
    layout = layouts.coco(tmp_path)
    numbers = np.full((12, 10), 183, np.uint8)
    numbers[:, 4:], numbers[0] = 92, 0
    maps = layout.listing.with_name("stuff_val2017_pixelmaps")
    maps.mkdir()
    table = json.loads(layout.listing.read_text())
    table["categories"] = [{"id": 92, "name": "banner"}, {"id": 183, "name": "other"}]
    table["annotations"] = []
    for image in table["images"]:
        layouts.save_indexed(maps / image["file_name"].replace("jpg", "png"), numbers)
        for category in (92, 183):
            code = mask.encode(np.asfortranarray(numbers == category))
            code["counts"] = code["counts"].decode()
            one = {"image_id": image["id"], "category_id": category, "segmentation": code}
            table["annotations"].append(one | {"area": 1.0, "iscrowd": 0})
    layout.listing.with_name("stuff_val2017.json").write_text(json.dumps(table))
    wanted = np.where(numbers == 183, 2, np.where(numbers == 92, 1, -1))
    return layout, maps, wanted


def test_stuff_of_coco(tmp_path, monkeypatch):
    layout, maps, wanted = coco_stuff(tmp_path)
    with monkeypatch.context() as patch:  # PNG needs no decoder
        patch.setitem(sys.modules, "pycocotools", None)
        source = open_dataset(layout.root, annotations="stuff")
        assert source.class_names == ("background", "banner", "other")
        np.testing.assert_array_equal(source[0].labels, wanted)
        with pytest.raises(MissingExtraError, match=r"COCO's annotations .*jaxseg-xai\[coco\]"):
            open_dataset(layout.root)
        assert open_dataset(layout.root, read_labels=False)[0].labels is None
    layouts.save_indexed(maps / "000000000139.png", np.full((12, 10), 5))
    labels_fail(source[0], r"000000000139.png: 5 is no category of stuff_val2017.json; unpack")
    shutil.rmtree(maps)
    coded = open_dataset(layout.root, annotations="stuff", categories=["other"])
    np.testing.assert_array_equal(coded[0].labels, np.where(wanted == 1, 0, np.minimum(wanted, 1)))
    with pytest.raises(ConfigError, match="annotations='panoptic': choose one of instances, stuff"):
        open_dataset(layout.root, annotations="panoptic")


def test_some_categories_of_coco(tmp_path):
    layout = layouts.coco(tmp_path)
    (layout.root / "images").mkdir()
    (layout.root / "val2017").rename(layout.root / "images" / "val2017")
    options = {"categories": "toothbrush, person"}
    source, _ = DataConfig(source=str(layout.root), options=options).open(None)
    assert source.class_names == ("background", "toothbrush", "person")
    # The tie is no class here, but still hides the person.
    wanted = np.where(layout.classes == 1, 2, np.where(layout.classes == 2, 0, layout.classes))
    np.testing.assert_array_equal(source[0].labels, wanted)
    with pytest.raises(ConfigError, match="no category 'dog' in the annotations: person, tie, too"):
        open_dataset(layout.root, categories="person,dog")
    shutil.rmtree(layout.root / "images")
    with pytest.raises(DataError, match=r"val2017: no such folder; unpack val2017.zip there"):
        open_dataset(layout.root)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"images"', '"pictures"', r"damaged \(KeyError: 'images'\); unpack it again"),
        ("{", "[", r"damaged \(JSONDecodeError: .*\); unpack it again"),
        ('"category_id": 90', '"category_id": 91', "has no name of category 91; unpack it again"),
    ],
)
def test_damaged_annotations_of_coco(tmp_path, old, new, words):
    layout = layouts.coco(tmp_path)
    layout.listing.write_text(layout.listing.read_text().replace(old, new))
    with pytest.raises(DataError, match=f"{re.escape(str(layout.listing))}: {words}"):
        open_dataset(layout.root)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"counts": [', '"counts": ["x", '),
        ('"counts": [8', '"counts": [7'),  # pixels of whatever was in memory
        ('"counts": [8', '"counts": [-8'),
        ('"counts": [8, 4, 8, 4, 8, 4, 8, 4, 8, 4, 8, 4, 48]', '"counts": "84"'),
        ("[[3, 2", "[[3, 99999999999999999999"),  # the end of the process
        ("[[3, 2", "[[3, NaN"),
    ],
)
def test_a_damaged_region_of_coco_fails_its_image(tmp_path, old, new):
    layout = layouts.coco(tmp_path)
    text = layout.listing.read_text()
    assert old in text
    layout.listing.write_text(text.replace(old, new))
    source = open_dataset(layout.root)
    labels_fail(source[0], r"instances_val2017.json, image 000000000139: corrupt")
    assert source[1].labels is not None


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


def test_lesions_of_ham10000_are_split_not_their_images(tmp_path):
    layout = layouts.ham10000(tmp_path)
    parts = {split: open_dataset(layout.root, split) for split in ("train", "validation", "test")}
    assert [len(source) for source in parts.values()] == [8, 2, 2]
    assert {sample.group for sample in parts["validation"]} == {"HAM_0000008"}
    assert sum(map(len, parts.values())) == len(open_dataset(layout.root, "all"))
    (tmp_path / METADATA).unlink()
    assert [len(open_dataset(layout.root, split)) for split in parts] == [10, 1, 1]
    assert open_dataset(layout.root)[0].group == ""


def test_what_is_left_out_of_ham10000_is_told(tmp_path, caplog):
    layout = layouts.ham10000(tmp_path)
    layout.images[0].unlink()
    layout.label_files[1].unlink()
    assert len(open_dataset(layout.root, "all")) == 10
    assert f"label maps without an image (1): {layout.ids[0]}" in caplog.text
    assert f"images without a label map (1): {layout.ids[1]}" in caplog.text
    with pytest.raises(DataError, match="no image of the split 'test', only train, validation"):
        open_dataset(layout.root, "test")


def challenge(root):
    """ISIC 2018, with the spelling of 2016 in one name."""
    for part in ("Training", "Validation", "Test"):
        for n in range(2):
            name, folder = f"ISIC_{part}{n}", root / f"ISIC2018_Task1-2_{part}_Input"
            layouts.save(folder / f"{name}.jpg", layouts.picture(n))
            mask = np.eye(12, 10, dtype=np.uint8) * 255
            ending = "Segmentation" if n else "segmentation"
            folder = root / f"ISIC2018_Task1_{part}_GroundTruth"
            layouts.save(folder / f"{name}_{ending}.png", mask)
    return root


def test_the_splits_of_a_challenge_are_those_of_its_folders(tmp_path):
    challenge(tmp_path)
    assert name_of_source(tmp_path) == "ham10000"
    assert open_dataset(tmp_path).ids == ("ISIC_Test0", "ISIC_Test1")
    assert open_dataset(tmp_path, "train").ids == ("ISIC_Training0", "ISIC_Training1")
    sample = open_dataset(tmp_path, "validation")[1]
    np.testing.assert_array_equal(sample.labels, np.eye(12, 10))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda r: [p.unlink() for p in r.rglob("*.jpg")], r"no \*.jpg in it; root is"),
        (lambda r: [p.unlink() for p in r.rglob("*.png")], r"no \*_segmentation.png in it; unpack"),
        (
            lambda r: (r / METADATA).write_text("a,b\n1,2"),
            "no column image_id; down",
        ),
        (
            lambda r: (r / METADATA).write_bytes(b"\xff"),
            "metadata.csv: no text file",
        ),
        (
            lambda r: layouts.save(r / "b" / "ISIC_0024306.jpg", layouts.picture(0)),
            "ISIC_0024306 is in it twice; delete",
        ),
    ],
)
def test_a_damaged_ham10000(tmp_path, spoil, words):
    layout = layouts.ham10000(tmp_path)
    spoil(layout.root)
    with pytest.raises(DataError, match=words):
        open_dataset(layout.root)


def test_drive_outside_the_field_of_view(tmp_path):
    layout = layouts.drive(tmp_path)
    assert open_dataset(layout.root, "validation").ids == ("25_training", "30_training")
    assert len(open_dataset(layout.root, "train")) == 9
    field = layout.root / "test" / "mask" / "01_test_mask.gif"
    field.unlink()
    labels_fail(open_dataset(layout.root)[0], f"{re.escape(str(field))}: no such file")


def test_drive_without_labels_of_test_images(tmp_path):
    layout = layouts.drive(tmp_path)
    shutil.rmtree(layout.root / "test" / "1st_manual")
    sample = open_dataset(layout.root)[0]
    assert sample.labels is None
    assert sample.labels_error is None
