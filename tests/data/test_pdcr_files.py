"""PdCR's files: what is written is what its code reads, and comes back the same."""

import numpy as np
import pytest

from jaxseg_xai.core.errors import DataError, JaxsegError
from jaxseg_xai.data.pdcr import (
    Patches,
    RegionRow,
    Result,
    Statistics,
    is_results,
    read_map,
    read_patches,
    read_regions,
    read_results,
    read_statistics,
    write_map,
    write_patches,
    write_regions,
    write_results,
    write_statistics,
)

#: As the published code writes it: two of 64 blocks' bins hold those of a region of 4 blocks.
TEXT = """base dice: 98.50746393203735
pos: 20, neg: 10, zero: 30
pos: 33.33, neg: 16.67, zero: 50.0
to -3_num: 1
-3 to -1_num: 2
-1 to -0.3_num: 3
-0.3 to -0.02_num: 4
-0.02 to 0.02_num: 34
0.02 to 0.3_num: 17
0.3 to 1_num: 2
1 to 3_num: 1
3 to_num: 0
"""
STATISTICS = Statistics(
    base=98.50746393203735,
    histogram=(1, 2, 3, 4, 30, 17, 2, 1, 0),
    num_positive=20,
    num_negative=10,
    num_zero=30,
    num_region=4,
)


def test_lists_of_regions(tmp_path):
    path = tmp_path / "list.txt"
    # As published: lines end in either way, the last in none.
    path.write_bytes(b"ISIC_0033556 72 88\r\n78_D 0 96\n\n196_N 192 0")
    rows = read_regions(path)
    assert rows == [("ISIC_0033556", 72, 88), ("78_D", 0, 96), ("196_N", 192, 0)]
    write_regions(path, rows)
    assert path.read_bytes() == b"ISIC_0033556 72 88\n78_D 0 96\n196_N 192 0\n"
    with pytest.raises(DataError, match="image 'a b': a list of regions takes no blanks"):
        write_regions(path, [RegionRow("a b", 0, 0)])
    with pytest.raises(JaxsegError, match="cannot be written"):
        write_regions(tmp_path, rows)


@pytest.mark.parametrize("line", ["im2 8", "im2 8 -8", "im2 8.0 8", "im2 8 8 8"])
def test_a_malformed_region_is_named(tmp_path, line):
    path = tmp_path / "list.txt"
    path.write_text(f"im1 0 0\n{line}\n")
    with pytest.raises(DataError, match=f"list.txt, line 2: '{line}'; expected IMAGE TOP LEFT"):
        read_regions(path)


def test_lists_that_cannot_be_read(tmp_path):
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "picture.txt").write_bytes(b"\x89PNG\xff\xfe")
    for name, words in {
        "empty.txt": "no region",
        "none.txt": "No such file",
        "picture.txt": "not a text file",
    }.items():
        with pytest.raises(DataError, match=words):
            read_regions(tmp_path / name)


@pytest.mark.parametrize("channels", [1, 3])
def test_folders_of_patches(tmp_path, channels):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, channels)).astype(np.uint8)
    names = ("78_D_3_10", "ISIC_0024313_10_23", "ISIC_0024313_2_1")
    write_patches(tmp_path / "new", Patches(pixels, names))
    found = read_patches(tmp_path / "new")
    assert found.names == names
    assert found.images == ["78_D", "ISIC_0024313", "ISIC_0024313"]
    np.testing.assert_array_equal(found.pixels, pixels)


def test_patches_of_several_sizes_and_none(tmp_path):
    with pytest.raises(DataError, match="no PNG file"):
        read_patches(tmp_path)
    for side in (8, 4):
        pixels = np.zeros((1, side, side, 3), np.uint8)
        write_patches(tmp_path, Patches(pixels, (f"a_0_{side}",)))
    with pytest.raises(DataError, match=r"a_0_8.png: \(8, 8, 3\).*one size"):
        read_patches(tmp_path)
    with pytest.raises(JaxsegError, match="cannot be written"):
        write_patches(tmp_path / "a_0_8.png", Patches(pixels, ("a_0_0",)))


def test_statistics_come_back_byte_by_byte(tmp_path):
    path = tmp_path / "s.txt"
    path.write_text(TEXT)
    assert read_statistics(path) == STATISTICS
    write_statistics(path, STATISTICS)
    assert path.read_text() == TEXT


def test_another_threshold(tmp_path):
    path = tmp_path / "s.txt"
    path.write_text(TEXT.replace("0.02", "0.05"))
    assert read_statistics(path).threshold == "0.05"


@pytest.mark.parametrize(
    ("number", "old", "new", "expected"),
    [
        (1, "98.50746393203735", "high", "base dice: NUMBER"),
        (2, "pos: 20", "pos: 2x", "pos: N, neg: N, zero: N"),
        (3, "33.33", "many", "pos: PERCENT"),
        (4, "to -3_num: 1", "to -4_num: 1", "to -3_num: N"),
        (8, "-0.02 to 0.02_num: 34", "-0.02 to 0.03_num: 34", "-T to T_num: N"),
        (9, "0.02 to 0.3", "0.03 to 0.3", "0.02 to 0.3_num: N"),
        (12, "3 to_num: 0\n", "", "3 to_num: N"),
    ],
)
def test_a_malformed_line_of_statistics_is_named(tmp_path, number, old, new, expected):
    path = tmp_path / "s.txt"
    before, after = TEXT.split("\n", number - 1)[:-1], TEXT.split("\n", number - 1)[-1]
    path.write_text("\n".join([*before, after.replace(old, new, 1)]))
    with pytest.raises(DataError, match=rf"s.txt, line {number}: .*expected {expected}"):
        read_statistics(path)


def test_statistics_that_contradict_themselves(tmp_path):
    path = tmp_path / "s.txt"
    path.write_text(TEXT.replace("zero: 30", "zero: 40"))
    with pytest.raises(DataError, match="64 blocks in the bins, 70 in line 2"):
        read_statistics(path)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 2, 3)), "one plane of numbers"),
        (np.array([["a"]]), "one plane of numbers"),
        (np.array([[np.nan]]), "NaN or infinity"),
        (np.array([[None]], object), "no array of numpy"),
    ],
)
def test_what_is_no_map(tmp_path, array, words):
    np.save(tmp_path / "m.npy", array)
    with pytest.raises(DataError, match=rf"m.npy: .*{words}"):
        read_map(tmp_path / "m.npy")


def test_a_file_that_is_no_array(tmp_path):
    (tmp_path / "m.npy").write_text("no")
    np.savez(tmp_path / "m.npz", a=np.zeros(2))
    for name in ("m.npy", "m.npz", "none.npy"):
        with pytest.raises(DataError, match=name):
            read_map(tmp_path / name)
    with pytest.raises(JaxsegError, match="cannot be written"):
        write_map(tmp_path, np.zeros((2, 2)))


def test_a_folder_of_results(tmp_path):
    effects = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    place = {"top": 8, "left": 16, "side": 16, "block_size": 8, "effects": effects}
    results = [
        Result(model="hrnet", image="78_D", **place, statistics=STATISTICS),
        # Names that files or the pattern cannot have.
        Result(model="deeplab_v3/b", image="scan/a_x1_y2_p3_b4#007", **place),
    ]
    write_results(tmp_path, results)
    assert (tmp_path / "heatmap_np" / "hrnet_78_D_x8_y16_p16_b8.png.npy").exists()
    assert is_results(tmp_path)
    assert not is_results(tmp_path / "heatmap_np")
    other, first = read_results(tmp_path)
    assert (first.model, first.image, first.statistics) == ("hrnet", "78_D", STATISTICS)
    assert (other.model, other.image) == ("deeplab-v3/b", "scan/a_x1_y2_p3_b4#007")
    assert (other.top, other.left, other.side, other.block_size) == (8, 16, 16, 8)
    assert other.statistics is None
    np.testing.assert_array_equal(first.effects, effects)


def test_folders_that_are_no_results(tmp_path):
    with pytest.raises(DataError, match="no map in heatmap_np"):
        read_results(tmp_path)
    (tmp_path / "heatmap_np").mkdir()
    write_map(tmp_path / "heatmap_np" / "result.png.npy", np.zeros((8, 8)))
    with pytest.raises(DataError, match=r"result.png.npy: the name must be MODEL_IMAGE_x72"):
        read_results(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(JaxsegError, match="cannot be written"):
        write_results(tmp_path / "file", [])
