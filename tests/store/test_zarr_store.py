import asyncio
import dataclasses
import errno
import json

import numpy as np
import pytest
import xarray as xr
import zarr

from jaxseg_xai.core.errors import ConfigError, JaxsegError
from jaxseg_xai.core.types import Explanation, SegmentTarget, Status
from jaxseg_xai.store import Entry, PlanRow, StoredImage, ZarrStore
from jaxseg_xai.store.leases import LeaseLost
from jaxseg_xai.store.tables import consolidate, side_by_side, unfinished_ignored

CONFIG = {"seed": 3, "misure": {"tau": 0.9, "steps": [1, 2]}, "limit": None}
PLAN = {
    "misure": [PlanRow(image_index=i, image_id=f"im{i}", class_index=1) for i in range(3)],
    "ate": [PlanRow(image_index=2, image_id="im2", class_index=2, region_name="box")],
}


ENTRIES = (
    Entry(label="misure", method="misure", settings={"tau": 0.9}, meta={"unit": "share"}),
    Entry(label="ate", method="ate"),
)


def make(path, plan=PLAN, config=CONFIG, entries=ENTRIES, **options):
    return ZarrStore.create_or_resume(
        path,
        entries=entries,
        plan=plan,
        config=config,
        attrs={"class_names": ("background", "disc", "square"), "versions": {"jax": "0"}},
        **options,
    )


def write(store, label, row, *arguments):
    store.write(label, row, *arguments)
    store.flush()


def fail(store, label, row, reason):
    store.fail(label, row, reason)
    store.flush()


def read(store, label, row):
    return store.read(store.rows(label)[row])


def explanation(shape=(6, 5), seed=0, status=Status.OK, steps=4):
    rng = np.random.default_rng(seed)
    return Explanation(
        attribution=rng.random(shape, np.float32),
        status=np.int32(status),
        scores={"dice": np.float32(0.25 + seed), "undefined": np.float32(np.nan)},
        maps={"keep": rng.random(shape) > 0.5, "prediction": rng.integers(0, 300, shape)},
        traces={"dice": np.array([0.1, *[np.nan] * (steps - 1)]), "loss": np.arange(7.0)},
    )


def target(shape=(6, 5), seed=0):
    rng = np.random.default_rng(seed + 100)
    region, reference = rng.random((2, *shape)) > 0.5
    return SegmentTarget(class_index=np.int32(1), region=region, reference=reference)


def check_equal(stored, written, written_target):
    np.testing.assert_array_equal(stored.attribution, written.attribution)
    np.testing.assert_array_equal(stored.region, written_target.region)
    np.testing.assert_array_equal(stored.reference, written_target.reference)
    assert stored.region.dtype == bool
    assert set(stored.maps) == {"keep", "prediction"}
    assert stored.maps["keep"].dtype == bool
    for name, value in stored.maps.items():
        np.testing.assert_array_equal(value, written.maps[name])
    for name, value in stored.traces.items():
        np.testing.assert_allclose(value, written.traces[name], rtol=1e-6)
    assert stored.row.scores["dice"] == written.scores["dice"]
    assert np.isnan(stored.row.scores["undefined"])


def test_xarray_reads_it_without_a_warning(tmp_path):
    store = make(tmp_path / "s")
    store.write_image(0, StoredImage(id="im0", image=np.zeros((6, 5, 1), np.uint8)))
    for row in range(2):
        write(store, "misure", row, explanation(seed=row), target())
    store.set_description("misure", {"parts": ["a"]})
    store.set_attribute("tiles", {"tile": (48, 48)})
    assert ZarrStore.open(tmp_path / "s").attrs["tiles"] == {"tile": [48, 48]}
    fail(store, "misure", 2, "image is\ncorrupt")
    store.close()
    with xr.open_zarr(tmp_path / "s", group="misure", chunks=None) as data:
        assert data.attribution.dims == ("explanation", "y", "x")
        assert data.trace_loss.dims == ("explanation", "t_loss")
        assert data.attribution.dtype == np.float32
        assert data.score_dice.values.tolist()[:2] == [0.25, 1.25]
        assert data.status.values.tolist() == [0, 0, 5]
        assert data.reason.values.tolist() == ["", "", "image is corrupt"]
        assert data.id.values.tolist()[0] == "im0/1/image"
        runs = [data.attrs["runs"][index] for index in data.run_index.values]
        assert [run["settings"] for run in runs] == [{"tau": 0.9}] * 3
        assert data.attrs["parameters"] == {"tau": 0.9}
        assert data.attrs["method"] == "misure"
        assert data.attrs["meta"] == {"unit": "share"}
        assert data.attrs["describe"] == {"parts": ["a"]}
        assert "not_reached" in data.status.attrs["flag_meanings"]
        # Averaging over the good rows is one line.
        assert float(data.score_dice.where(data.status == 0).mean()) == 0.75
    with xr.open_datatree(tmp_path / "s", engine="zarr", chunks=None) as tree:
        assert tree.attrs["config"]["misure"]["tau"] == 0.9
        assert tree["images"].image.sizes == {"image": 3, "y": 6, "x": 5, "channel": 3}


def test_xarray_reads_volumes_and_planes(tmp_path):
    store = make(tmp_path / "s", rank=3)
    shape, planes = (3, 6, 5), np.ones((3, 6, 5, 2), bool)
    image = StoredImage(id="im0", image=np.zeros((*shape, 1), np.uint8), labels=planes)
    store.write_image(0, image)
    found = dataclasses.replace(explanation(shape), maps={"prediction": planes})
    write(store, "misure", 0, found, target(shape))
    store.close()
    with xr.open_zarr(tmp_path / "s", group="misure", chunks=None) as data:
        assert data.attribution.dims == ("explanation", "z", "y", "x")
        assert data.map_prediction.dims == ("explanation", "z", "y", "x", "class")
        assert data.depth.values.tolist() == [3, 0, 0]
    with xr.open_zarr(tmp_path / "s", group="images", chunks=None) as data:
        assert data.image.sizes == {"image": 3, "z": 3, "y": 6, "x": 5, "channel": 1}
        assert data.labels_planes.dims == ("image", "z", "y", "x", "class")
        assert data.labels_planes.values[:, 0, 0, 0, 0].tolist() == [1, 255, 255]
        assert "labels" not in data


def test_many_rows_a_file(tmp_path):
    rows = [PlanRow(image_index=i, image_id=f"im{i}", class_index=1) for i in range(1100)]
    store = make(tmp_path / "s", plan={"misure": rows, "ate": []})
    for row in range(1100):
        store.write("misure", row, explanation((200, 5), seed=row), target((200, 5)))
        if row % 300 == 0:
            store.flush()
    assert (tmp_path / "s/journal").exists()
    store.close()
    assert not (tmp_path / "s/journal").exists()
    array = zarr.open_array(tmp_path / "s/misure/attribution")
    assert (array.shards, array.chunks) == ((1024, 200, 5), (128, 200, 5))
    assert sorted(p.name for p in (tmp_path / "s/misure/attribution").iterdir()) == [
        "c.0.0.0",
        "c.1.0.0",
        "zarr.json",
    ]
    seen = ZarrStore.open(tmp_path / "s")
    for row in (0, 1023, 1024, 1099):
        check_equal(read(seen, "misure", row), explanation((200, 5), seed=row), target((200, 5)))


def test_resume_continues_where_it_stopped(tmp_path):
    store = make(tmp_path / "s", run="first", version="1")
    assert store.pending("misure").tolist() == [0, 1, 2]
    write(store, "misure", 1, explanation(), target())
    fail(store, "misure", 0, "no such file")
    # Settings that change nothing may differ; each row says what it was computed with.
    other = [dataclasses.replace(ENTRIES[0], settings={"tau": 0.9, "lanes": 4}), ENTRIES[1]]
    again = make(tmp_path / "s", entries=other, run="second", version="2")
    assert again.pending("misure").tolist() == [2]
    assert again.pending("ate").tolist() == [0]
    write(again, "misure", 2, explanation(seed=2), target())
    check_equal(read(again, "misure", 1), explanation(), target())
    assert ZarrStore.open(tmp_path / "s").counts()["misure"] == {"OK": 2, "FAILED": 1}
    seen = ZarrStore.open(tmp_path / "s")
    rows = seen.rows("misure")
    assert rows[0].reason == "no such file"
    assert [(row.run, row.version) for row in rows] == [("first", "1")] * 2 + [("second", "2")]
    assert [row.settings for row in rows] == [{"tau": 0.9}] * 2 + [{"tau": 0.9, "lanes": 4}]
    assert seen.entry("misure") == ENTRIES[0]
    assert seen.class_names == ("background", "disc", "square")
    check_equal(read(seen, "misure", 2), explanation(seed=2), target())


@pytest.mark.parametrize(
    ("plan", "config", "named"),
    [
        (PLAN, CONFIG | {"seed": 4}, "seed was 3, is 4"),
        (PLAN, CONFIG | {"misure": {"tau": 0.95, "steps": [1, 2]}}, "misure.tau was 0.9, is 0.95"),
        (PLAN, CONFIG | {"new": 1}, "new was absent, is 1"),
        (PLAN | {"ate": []}, CONFIG, "ate had 1 rows, has 0"),
        (
            PLAN | {"cam": [PlanRow(image_index=2, image_id="im3", class_index=1)]},
            CONFIG,
            "1 rows of cam are of other images (the first is im3/1/image)",
        ),
        (
            PLAN | {"ate": [PlanRow(image_index=2, image_id="im2", class_index=1)]},
            CONFIG,
            "1 rows of ate differ (the first is im2/1/image instead of im2/2/box)",
        ),
    ],
)
def test_another_sweep_is_refused(tmp_path, plan, config, named):
    store = make(tmp_path / "s")
    write(store, "misure", 0, explanation(), target())
    entries = [*ENTRIES, Entry(label="cam", method="cam")][: len(plan)]
    with pytest.raises(ConfigError) as caught:
        make(tmp_path / "s", plan, config, entries)
    assert named in str(caught.value)
    assert "--overwrite" in str(caught.value)
    assert "\n" not in str(caught.value)
    fresh = make(tmp_path / "s", plan, config, entries, overwrite=True)
    assert len(fresh.pending("misure")) == 3


def test_another_method_under_the_label_begins_anew(tmp_path, caplog):
    store = make(tmp_path / "s")
    for label in ("misure", "ate"):
        write(store, label, 0, explanation(), target())
    other = [ENTRIES[0], Entry(label="ate", method="ate_gradient")]
    with pytest.raises(ConfigError, match="ate was ate, is ate_gradient"):
        make(tmp_path / "s", entries=other, strict=True)
    store = make(tmp_path / "s", entries=other)
    assert "ate was ate, is ate_gradient; 1 rows are computed, those of others" in caplog.text
    assert store.entry("ate").method == "ate_gradient"
    assert [len(store.pending(label)) for label in ("misure", "ate")] == [2, 1]
    assert [row.label for row in ZarrStore.open(tmp_path / "s").rows(done_only=True)] == ["misure"]


def test_tuples_and_lists_are_the_same_config(tmp_path):
    make(tmp_path / "s", config={"a": (1, 2)})
    make(tmp_path / "s", config={"a": [1, 2]})


def test_who_may_no_longer_write_leaves_nothing_at_the_end(tmp_path):
    store = make(tmp_path / "s")
    store.write("misure", 0, explanation(), target())

    def lost():
        raise LeaseLost("silent for too long")

    store.check_writer = lost
    with pytest.raises(LeaseLost):
        store.close()
    assert ZarrStore.open(tmp_path / "s").rows(done_only=True) == []


@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")
def test_consolidated_metadata_are_those_of_zarr(tmp_path):
    store = make(tmp_path / "s")
    write(store, "misure", 0, explanation(), target())
    store.set_attribute("note", "mine")
    store.close()
    (tmp_path / "s" / "misure" / "half_made").mkdir()  # of a process that was killed
    for group in ("", "images", "misure"):
        consolidate(store._place, group)
        file = tmp_path / "s" / group / "zarr.json"
        ours = json.loads(file.read_text())
        with unfinished_ignored():
            zarr.consolidate_metadata(tmp_path / "s", path=group, zarr_format=3)
        theirs = json.loads(file.read_text())
        assert ours == theirs
        assert len(ours["consolidated_metadata"]["metadata"]) > 2
    assert ZarrStore.open(tmp_path / "s").attrs["note"] == "mine"


def test_xarray_opens_a_store_while_it_is_written(tmp_path):
    store = make(tmp_path / "s")
    write(store, "misure", 0, explanation(), target())
    with xr.open_zarr(tmp_path / "s", group="misure", chunks=None) as data:
        assert data.sizes["explanation"] == 3
    with xr.open_datatree(tmp_path / "s", engine="zarr") as tree:
        assert {"/images", "/misure"} <= set(tree.groups)


def test_unflushed_rows_stay_pending_on_disk(tmp_path):
    store = make(tmp_path / "s")
    store.write("misure", 0, explanation(), target())
    assert 0 in ZarrStore.open(tmp_path / "s").pending("misure")
    store.flush()
    assert 0 not in ZarrStore.open(tmp_path / "s").pending("misure")


def test_images_of_different_sizes_share_an_array(tmp_path):
    store = make(tmp_path / "s")
    for row, size in enumerate([(6, 5), (9, 4), (3, 12)]):
        write(store, "misure", row, explanation(size, seed=row, steps=4 + row), target(size))
    store.close()
    with xr.open_zarr(tmp_path / "s", group="misure", chunks=None) as data:
        assert data.attribution.shape == (3, 9, 12)
        assert data.trace_dice.shape == (3, 6)
        assert np.isnan(data.attribution[0, 6:]).all()
        assert data.height.values.tolist() == [6, 9, 3]


def test_not_a_store_is_left_alone(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/diary.txt").write_text("dear diary")
    for overwrite in (False, True):
        with pytest.raises(JaxsegError, match=r"notes is not an explanation store"):
            make(tmp_path / "notes", overwrite=overwrite)
    assert (tmp_path / "notes/diary.txt").exists()
    with pytest.raises(JaxsegError, match="does not exist"):
        ZarrStore.open(tmp_path / "absent")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/zarr.json").write_text(json.dumps({"attributes": {}}))
    with pytest.raises(JaxsegError, match="is not an explanation store"):
        ZarrStore.open(tmp_path / "other")


def test_an_empty_folder_is_fine(tmp_path):
    (tmp_path / "s").mkdir()
    assert len(make(tmp_path / "s").pending("ate")) == 1


def test_unwritable_path(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(JaxsegError) as caught:
        make(tmp_path / "file/s")
    assert str(tmp_path / "file/s") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_full_disk_leaves_the_row_pending(tmp_path, monkeypatch):
    store = make(tmp_path / "s")

    def full(self, key, value):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zarr.storage.LocalStore, "set_sync", full)
    with pytest.raises(JaxsegError, match=r"s: cannot .*No space left on device"):
        write(store, "misure", 0, explanation(), target())
    monkeypatch.undo()
    assert 0 in make(tmp_path / "s").pending("misure")


def test_the_end_of_a_sweep_writes_rows_once(tmp_path, monkeypatch):
    keys, real_put = [], zarr.storage.LocalStore.set_sync

    def noting_put(self, key, value):
        keys.append(key)
        real_put(self, key, value)

    store = make(tmp_path / "s")
    store.write("misure", 0, explanation(), target())
    monkeypatch.setattr(zarr.storage.LocalStore, "set_sync", noting_put)
    store.close()
    assert "misure/attribution/c.0.0.0" in keys
    assert not [key for key in keys if key.startswith("journal")]


def test_rows_that_do_not_fit_into_a_shard_are_in_a_journal(tmp_path, monkeypatch):
    """As on a disk that is full for the one and not for the other."""
    real_put = zarr.storage.LocalStore.set_sync

    def full(self, key, value):
        if "/c." in key:
            raise OSError(errno.ENOSPC, "No space left on device")
        real_put(self, key, value)

    store = make(tmp_path / "s")
    store.write("misure", 0, explanation(seed=3), target())
    monkeypatch.setattr(zarr.storage.LocalStore, "set_sync", full)
    with pytest.raises(JaxsegError, match="No space left on device"):
        store.close()
    monkeypatch.undo()
    again = make(tmp_path / "s")
    assert 0 not in again.pending("misure")
    check_equal(read(again, "misure", 0), explanation(seed=3), target())


def test_damage_is_named(tmp_path):
    """A byte that changed, a file that is gone, a journal that does not fit its checksum."""
    store = make(tmp_path / "s")
    write(store, "misure", 0, explanation(), target())
    (batch,) = (tmp_path / "s/journal").glob("*.arrays")
    whole = batch.read_bytes()
    batch.write_bytes(whole[:-1] + b"!")
    assert make(tmp_path / "s").pending("misure").tolist() == [0, 1, 2]
    assert not any((tmp_path / "s/journal").iterdir())
    store = make(tmp_path / "s")
    write(store, "misure", 0, explanation(), target())
    store.close()
    chunk = tmp_path / "s/misure/attribution/c.0.0.0"
    whole = bytearray(chunk.read_bytes())
    whole[20] ^= 1
    chunk.write_bytes(whole)
    with pytest.raises(JaxsegError, match=r"s is damaged: misure/attribution of row 0 .*checksum"):
        read(ZarrStore.open(tmp_path / "s"), "misure", 0)
    chunk.unlink()
    with pytest.raises(JaxsegError, match="s is damaged: misure lacks the maps of row 0"):
        read(ZarrStore.open(tmp_path / "s"), "misure", 0)


def test_an_error_is_raised_when_no_write_is_under_way_any_more():
    """Or it could land on top of what is written after the error."""
    ended = []

    async def full():
        raise OSError("no space left")

    async def slow():
        await asyncio.sleep(0.05)
        ended.append(True)

    with pytest.raises(OSError, match="no space left"):
        side_by_side([full(), slow()])
    assert ended == [True]
