"""What is computed from the maps of several models, by hand and against other code."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

import jaxseg_xai
from jaxseg_xai.comparison import compare_effects, compare_models
from jaxseg_xai.comparison.maps import block_values
from jaxseg_xai.comparison.pdcr import write_pdcr
from jaxseg_xai.core.errors import ConfigError, DataError
from jaxseg_xai.core.types import Status
from jaxseg_xai.data.pdcr import (
    Patches,
    read_map,
    read_regions,
    read_results,
    read_statistics,
    write_patches,
)
from jaxseg_xai.store.pools import read_pool
from jaxseg_xai.sweeps.config import RoiConfig
from tests import tiny
from tests.comparison.made_up import OUTSIDE, REGION, SIDE, effects_entry, paint, store_of

#: Twelve blocks lie outside the region: six without effect, two that hurt, four that help.
A = np.array([[-4, -0.5, 0, 0], [0.1, 9, 9, 0], [-0.1, 9, 9, 0], [2, -1, 0, 0]], np.float64)
#: Effects where `A` has none, and the other way round.
B = np.where(A == 0, 1.0, np.where(A == 2, 1.5, 0))
NOTHING = np.zeros((4, 4))


def test_shares_and_histogram_by_hand():
    found = compare_models([store_of({"im0": A, "im1": NOTHING})])
    (row,) = found.per_model
    assert (row["num_maps"], row["num_blocks"]) == (2, 24)
    assert (row["positive"], row["negative"], row["zero"]) == (2 / 24, 4 / 24, 18 / 24)
    assert row["histogram"] == [1, 0, 2, 1, 18, 1, 0, 1, 0]  # -1 begins its bin
    assert (row["lowest"], row["highest"], row["base"]) == (-4, 2, 90.5)
    first, second = found.per_map
    assert (first["image_id"], first["class_name"], first["region"]) == ("im0", "lesion", "box")
    assert (first["zero"], second["zero"]) == (0.5, 1)
    assert "one model only (unet): there is no agreement" in found.notes[0]
    assert found.pairs == []


def test_agreement_is_that_of_the_blocks_outside_the_region():
    found = compare_models({"a": store_of({"im0": A}), "b": store_of({"im0": B})})
    (row,) = found.pairs
    expected = stats.spearmanr(A[OUTSIDE], B[OUTSIDE]).statistic
    assert row["spearman"] == pytest.approx(expected)
    assert row["pearson"] == pytest.approx(np.corrcoef(A[OUTSIDE], B[OUTSIDE])[0, 1])
    assert row["same_sign"] == pytest.approx(1 / 12)
    assert row["same_sign_nonzero"] == pytest.approx(1 / 12)
    np.testing.assert_allclose(found.matrix("spearman"), [[1, expected], [expected, 1]])
    assert found.names == ["a", "b"]


def test_maps_of_zeros_have_no_correlation_and_it_is_said():
    empty = store_of({"im0": NOTHING, "im1": A}, model="b")
    found = compare_models([store_of({"im0": A, "im1": A}), empty])
    (row,) = found.pairs
    assert row["spearman"] == pytest.approx(1)  # of im1 alone
    assert row["num_spearman"] == 1
    assert row["same_sign"] == pytest.approx((6 / 12 + 1) / 2)
    assert any("not defined on 1 of 2 maps" in note for note in found.notes)
    nothing = compare_models([store_of({"im0": NOTHING}, model=name) for name in "ab"])
    assert np.isnan(nothing.pairs[0]["spearman"])
    assert np.isnan(nothing.pairs[0]["same_sign_nonzero"])
    assert np.isnan(nothing.matrix("spearman")[0, 1])
    assert "nan" in str(nothing)


def test_arrays_are_compared_the_same_way():
    by_store = compare_models({"a": store_of({"0": A}), "b": store_of({"0": B})})
    found = compare_effects({"a": A[None], "b": B[None]}, where=OUTSIDE)
    assert found.pairs_per_map[0]["spearman"] == by_store.pairs_per_map[0]["spearman"]
    for name in ("positive", "negative", "zero", "histogram"):
        assert found.per_model[1][name] == by_store.per_model[1][name]
    with pytest.raises(DataError, match=r"effects of \(4, 4\) \(a\), \(1, 4, 4\) \(b\)"):
        compare_effects({"a": A, "b": B[None]})
    with pytest.raises(DataError, match="b: effects are not all finite"):
        compare_effects({"a": A[None], "b": np.where(B == 0, np.nan, B)[None]})
    with pytest.raises(DataError, match="no model"):
        compare_effects({})


def test_a_larger_threshold_makes_more_blocks_zero():
    found = compare_models([store_of({"im0": A})], threshold=0.2)
    assert found.per_model[0]["zero"] == 8 / 12
    with pytest.raises(ConfigError, match=r"no effects below 0\.02; choose at least 0\.02"):
        compare_models([store_of({"im0": A})], threshold=0.01)


def test_only_maps_that_all_models_have_are_compared():
    moved = np.roll(REGION, SIDE, axis=1)
    names = {"im0": A, "im1": A, "im2": A, "im3": A}
    a = store_of(names, model="a")
    b = store_of(names, model="b", statuses={"im1": Status.EMPTY_TARGET}, images={"im2": 99})
    found = compare_models([a, b])
    assert [one.image_id for one in found.models[1].maps] == ["im0", "im3"]
    assert any("left out, no map of b: im1 lesion" in note for note in found.notes)
    assert any("left out, another image for b than for a: im2" in note for note in found.notes)
    assert any("b has no map of some: 1 EMPTY_TARGET" in note for note in found.notes)
    with pytest.raises(DataError, match=r"no map in common: left out, another region for c than"):
        compare_models([a, store_of({"im0": A}, model="c", region=moved)])
    with pytest.raises(DataError, match="no map of c: im0 lesion, im1 lesion, im2 lesion and 1 mo"):
        compare_models([a, store_of({"other": A}, model="c")])
    small = store_of({"im0": A[:2, :2].repeat(4, 0).repeat(4, 1)}, model="c", region=REGION[:8, :8])
    with pytest.raises(DataError, match="c has 1 x 1 blocks, 4 x 4 blocks a"):
        compare_models([a, small])


def test_stores_that_cannot_be_compared(tmp_path):
    a = store_of({"im0": A}, model="a")

    def other(**settings):
        return store_of({"im0": A}, model="b", entries=[effects_entry(**settings)])

    with pytest.raises(DataError, match=r"blocks of side 8 \(a\), 16 \(b\); compare"):
        compare_models([a, other(block_size=16)])
    with pytest.raises(DataError, match=r"effects in points \(a\), summed logits \(b\)"):
        compare_models([a, other(outcome="summed_logits")])
    with pytest.raises(ConfigError, match=r"thresholds 0.02 \(a\), 0.1 \(b\).*--threshold 0.1"):
        compare_models([a, other(threshold=0.1)])
    found = compare_models([a, other(num_patches=3)])
    assert "another num_patches: 50 (a), 3 (b)" in found.notes[0]
    with pytest.raises(ConfigError, match="no store to compare"):
        compare_models([])
    with pytest.raises(ConfigError, match="no entry wrong; it has effects"):
        compare_models([a], labels=["wrong"])
    with pytest.raises(jaxseg_xai.JaxsegError, match="does not exist"):
        compare_models([tmp_path / "none.zarr"])
    cropped = store_of({"im0": A}, config={"input": {"crop": "nonzero"}})
    with pytest.raises(DataError, match="cropped or at another spacing"):
        compare_models([cropped])
    only_parts = store_of({"im0": A}, entries=[dataclasses.replace(effects_entry(), meta={})])
    with pytest.raises(DataError, match=r"no effects of blocks in effects \(a method\)"):
        compare_models([only_parts])
    with pytest.raises(ConfigError, match="measure is 'kendall'; use same_sign"):
        found.matrix("kendall")


def test_names_of_models_are_told_apart():
    entries = [effects_entry("one"), effects_entry("two")]
    both = store_of({"im0": A}, entries=entries)
    assert compare_models([both]).names == ["unet one", "unet two"]
    assert compare_models([both], labels=["two"]).names == ["unet"]
    assert compare_models({"x": both}).names == ["x unet one", "x unet two"]
    twice = [store_of({"im0": A}, model="runs/unet/") for _ in range(2)]
    for store, name in zip(twice, ("a.zarr", "b.zarr"), strict=True):
        store.name = name
    assert compare_models(twice).names == ["unet (a)", "unet (b)"]


def test_networks_are_compared_by_their_parts():
    a, b = (store_of({"im0": A}, model=name, parts=True) for name in "ab")
    found = compare_models([a, b, store_of({"im0": A}, model="c")])
    layers = [row for row in found.part_shares if row["kind"] == "layer"]
    assert [(row["model"], row["num_parts"]) for row in layers] == [("a", 2), ("b", 2)]
    assert (layers[0]["positive"], layers[0]["negative"]) == (0.5, 0.5)
    (pair,) = found.part_pairs
    assert (pair["num_parts"], pair["spearman"]) == (3, pytest.approx(1))
    assert {row["model"] for row in found.parts} == {"a", "b"}
    assert "no parts of the network in the store of c" in found.notes
    without = compare_models([store_of({"im0": A})])
    assert (without.parts, without.part_shares, without.part_pairs) == ([], [], [])


def swept(folder, *, size=32, **options):
    """The maps of a sweep by a tiny model."""
    tiny.write_model(folder / "model")
    tiny.write_images(folder / "data", ["i0", "i1", "i2"], size=size)
    settings = {"roi": RoiConfig(side=8), "num_patches": 40} | options
    jaxseg_xai.sweep(
        model=str(folder / "model"),
        data=str(folder / "data"),
        classes="bright",
        explain=tiny.ATE,
        out=folder / "s.zarr",
        progress=False,
        **settings,
    )
    return compare_models([folder / "s.zarr"])


def check_counts(found):
    """Counted from the maps as the sweep counted."""
    store = found.models[0].store
    assert store is not None
    assert any(one.values.any() for one in found.models[0].maps)
    for one, row in zip(found.models[0].maps, found.per_map, strict=True):
        scores, stored = one.row.scores, store.read(one.row)
        counts = [round(row[name] * row["num_blocks"]) for name in ("positive", "negative", "zero")]
        assert counts == [scores[f"num_{name}"] for name in ("positive", "negative", "zero")]
        assert row["histogram"] == stored.traces["histogram"].tolist()


def test_blocks_of_a_sweep_are_counted_as_the_sweep_counted_them(tmp_path):
    found = swept(tmp_path)
    assert len(found.models[0].maps) == 3
    check_counts(found)


def test_pdcrs_regions_and_patches_go_through_a_sweep(tmp_path):
    """As it uses them: on the grid of the resized images."""
    (tmp_path / "list.txt").write_text("i2 8 8\ni0 16 4\nelsewhere 0 0\n")
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3)).astype(np.uint8)
    names = tuple(f"i{k // 3}_0_{k}" for k in range(9))
    write_patches(tmp_path / "patches", Patches(pixels, names))
    roi = RoiConfig(side=8, file=tmp_path / "list.txt")
    found = swept(tmp_path, size=53, sizes=(32, 32), roi=roi, patches=tmp_path / "patches")
    boxes = {one.image_id: one.box for one in found.models[0].maps}
    assert boxes == {"i0": (16, 4, 8), "i2": (8, 8, 8)}
    check_counts(found)
    pool = read_pool(tmp_path / "s.zarr", 8)
    assert pool is not None
    np.testing.assert_allclose(np.sort(pool.patches.ravel()), np.sort(pixels.ravel()) / 255, 1e-6)
    write_pdcr(found, tmp_path / "out")
    again = read_regions(tmp_path / "out" / "block_coords_p8_b8.txt")
    assert set(again) == {("i2", 8, 8), ("i0", 16, 4)}


def test_lists_of_regions_that_a_sweep_cannot_use(tmp_path):
    for text, message in {
        "other 0 0": r"no region for any of the images \(i0, i1, i2, ...\)",
        "i0 0 0\ni0 8 8": "i0 twice; a sweep explains one region an image",
        "i0 0": "line 1: 'i0 0'; expected IMAGE TOP LEFT",
    }.items():
        (tmp_path / "list.txt").write_text(text)
        with pytest.raises(DataError, match=message):
            swept(tmp_path, roi=RoiConfig(side=8, file=tmp_path / "list.txt"))
    roi = RoiConfig(corner=(0, 0), file=tmp_path / "list.txt")
    with pytest.raises(ConfigError, match=r"leave out roi.kind and roi.corner"):
        swept(tmp_path, roi=roi)


def test_blocks_are_cut_off_at_the_end_of_an_axis():
    region = np.zeros((20, 12), bool)
    region[:3, :3] = True
    values = np.arange(6.0).reshape(3, 2)
    painted = np.kron(values, np.ones((8, 8)))[:20, :12]
    found, outside, seen = block_values(painted, region, 8, region.shape)
    np.testing.assert_array_equal(found, values)
    assert (~outside).sum() == 1
    assert not outside[0, 0]
    np.testing.assert_array_equal(seen, region)


def test_pdcrs_files_say_what_its_code_would(tmp_path):
    """Pixels are counted here as `visualize_heatmap_pie` does."""
    a = store_of({"im0": A, "im1": B}, model="u_net")
    found = compare_models([a, store_of({"im0": B, "im1": A}, model="hrnet")])
    assert write_pdcr(found, tmp_path) == [tmp_path]
    assert read_regions(tmp_path / "block_coords_p16_b8.txt") == [("im0", 8, 8), ("im1", 8, 8)]
    name = "u-net_im0_x8_y8_p16_b8"
    effects = read_map(tmp_path / "heatmap_np" / f"{name}.png.npy")
    np.testing.assert_array_equal(effects, np.where(REGION, 0, paint(A)).astype(np.float32))
    statistics = read_statistics(tmp_path / "statistics" / f"{name}.txt")
    edges = [-np.inf, -3, -1, -0.3, -0.02, 0.02, 0.3, 1, 3, np.inf]
    expected = np.histogram(effects, edges)[0] // 64
    expected[4] -= statistics.num_region
    assert statistics.histogram == tuple(expected)
    assert statistics.histogram == tuple(found.per_map[0]["histogram"])
    assert (statistics.num_positive, statistics.num_negative) == (2, 4)
    assert (statistics.num_zero, statistics.num_region, statistics.base) == (6, 4, 90)
    # And back again, beside a store; published files do not say the class.
    assert len(read_results(tmp_path)) == 4
    again = compare_models([tmp_path, a])
    assert again.names == ["hrnet", "u-net", "u_net"]
    assert again.class_names == ["lesion"]
    np.testing.assert_allclose(again.matrix("spearman")[1, 2], 1)
    for mine, theirs in zip(found.per_map[:2], again.per_map[2:4], strict=True):
        assert mine["histogram"] == theirs["histogram"]
        assert mine["base"] == theirs["base"]


def test_regions_that_pdcrs_files_cannot_say(tmp_path):
    region = REGION.copy()
    region[8, 8] = False
    found = compare_models([store_of({"im0": A}, region=region)])
    with pytest.raises(DataError, match="im0 lesion: PdCR's files are of square regions"):
        write_pdcr(found, tmp_path)
