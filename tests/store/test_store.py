import errno
import itertools
import json
import shutil

import numpy as np
import pytest
import xarray as xr
import zarr

from jaxseg_xai.core.errors import ConfigError, JaxsegError
from jaxseg_xai.core.types import Explanation, SegmentTarget, Status
from jaxseg_xai.store.store import ExplanationStore, PlanRow

CONFIG = {"seed": 3, "misure": {"tau": 0.9, "steps": [1, 2]}, "limit": None}
PLAN = {
    "misure": [PlanRow(image_index=i, image_id=f"im{i}", class_index=1) for i in range(3)],
    "ate": [PlanRow(image_index=2, image_id="im2", class_index=2, region_name="box")],
}


class Killed(Exception):
    pass


def make(path, plan=PLAN, config=CONFIG, **options):
    return ExplanationStore.create_or_resume(
        path,
        plan=plan,
        config=config,
        attrs={"class_names": ("background", "disc", "square"), "versions": {"jax": "0"}},
        parameters={"misure": {"tau": 0.9}},
        **options,
    )


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
    assert stored.scores["dice"] == written.scores["dice"]
    assert np.isnan(stored.scores["undefined"])


def test_round_trip_through_another_process_view(tmp_path):
    store = make(tmp_path / "s")
    image = np.arange(90, dtype=np.uint8).reshape(6, 5, 3)
    labels = np.arange(30).reshape(6, 5) * 10
    store.write_image(2, image, labels)
    store.write("misure", 1, explanation(), target())
    store.write("ate", 0, explanation(seed=1, status=Status.NOT_REACHED), target(seed=1))
    seen = ExplanationStore.open(tmp_path / "s")
    check_equal(seen.read("misure", 1), explanation(), target())
    check_equal(seen.read("ate", 0), explanation(seed=1), target(seed=1))
    assert seen.read("ate", 0).status is Status.NOT_REACHED
    assert seen.read("ate", 0).plan == PLAN["ate"][0]
    assert seen.read("ate", 0).plan.id == "im2/2/box"
    pending = seen.read("misure", 0)
    assert pending.status is None
    assert pending.attribution is None
    assert not pending.maps
    stored = seen.read_image(2)
    assert stored.id == "im2"
    np.testing.assert_array_equal(stored.image, image)
    np.testing.assert_array_equal(stored.labels, labels)
    assert stored.prediction is None
    assert seen.read_image(0) is None
    assert seen.counts() == {"misure": {"PENDING": 2, "OK": 1}, "ate": {"NOT_REACHED": 1}}
    assert [(s.explainer, s.row) for s in seen] == [("misure", 1), ("ate", 0)]
    np.testing.assert_array_equal(seen.scores("misure")["dice"], [np.nan, 0.25, np.nan])
    assert seen.class_names == ("background", "disc", "square")
    assert seen.parameters("misure") == {"tau": 0.9}


def test_grey_image_is_stored_as_rgb(tmp_path):
    store = make(tmp_path / "s")
    store.write_image(0, np.full((6, 5, 1), 7, np.uint8))
    assert store.read_image(0).image.shape == (6, 5, 3)
    with pytest.raises(ValueError, match="uint8"):
        store.write_image(0, np.zeros((6, 5, 3), np.float32))


def test_xarray_reads_it_without_a_warning(tmp_path):
    store = make(tmp_path / "s")
    store.write_image(0, np.zeros((6, 5, 3), np.uint8))
    for row in range(2):
        store.write("misure", row, explanation(seed=row), target())
    store.fail("misure", 2, "image is\ncorrupt")
    with xr.open_zarr(tmp_path / "s", group="misure", chunks=None) as data:
        assert data.attribution.dims == ("explanation", "y", "x")
        assert data.trace_loss.dims == ("explanation", "t_loss")
        assert data.attribution.dtype == np.float32
        assert data.score_dice.values.tolist()[:2] == [0.25, 1.25]
        assert data.status.values.tolist() == [0, 0, 5]
        assert data.reason.values.tolist() == ["", "", "image is corrupt"]
        assert data.id.values.tolist()[0] == "im0/1/image"
        assert "not_reached" in data.status.attrs["flag_meanings"]
        # Averaging over the good rows is one line.
        assert float(data.score_dice.where(data.status == 0).mean()) == 0.75
    with xr.open_datatree(tmp_path / "s", engine="zarr", chunks=None) as tree:
        assert tree.attrs["config"]["misure"]["tau"] == 0.9
        assert tree["images"].image.dims == ("image", "y", "x", "channel")


def test_one_chunk_an_explanation(tmp_path):
    store = make(tmp_path / "s")
    store.write("misure", 0, explanation(), target())
    assert zarr.open_array(tmp_path / "s/misure/attribution").chunks == (1, 6, 5)


def test_resume_continues_where_it_stopped(tmp_path):
    store = make(tmp_path / "s")
    assert store.pending("misure").tolist() == [0, 1, 2]
    store.write("misure", 1, explanation(), target())
    store.fail("misure", 0, "no such file")
    again = make(tmp_path / "s")
    assert again.pending("misure").tolist() == [2]
    assert again.pending("ate").tolist() == [0]
    again.write("misure", 2, explanation(seed=2), target())
    check_equal(again.read("misure", 1), explanation(), target())
    assert ExplanationStore.open(tmp_path / "s").counts()["misure"] == {"OK": 2, "FAILED": 1}
    assert again.read("misure", 0).reason == "no such file"


@pytest.mark.parametrize(
    ("plan", "config", "named"),
    [
        (PLAN, CONFIG | {"seed": 4}, "seed was 3, is 4"),
        (PLAN, CONFIG | {"misure": {"tau": 0.95, "steps": [1, 2]}}, "misure.tau was 0.9, is 0.95"),
        (PLAN, CONFIG | {"new": 1}, "new was absent, is 1"),
        (PLAN | {"ate": []}, CONFIG, "ate had 1 rows, has 0"),
        (PLAN | {"cam": []}, CONFIG, "explainers were misure, ate, are misure, ate, cam"),
        (
            PLAN | {"ate": [PlanRow(image_index=2, image_id="im2", class_index=1)]},
            CONFIG,
            "1 rows of ate differ (the first is im2/1/image instead of im2/2/box)",
        ),
    ],
)
def test_another_sweep_is_refused(tmp_path, plan, config, named):
    store = make(tmp_path / "s")
    store.write("misure", 0, explanation(), target())
    with pytest.raises(ConfigError) as caught:
        make(tmp_path / "s", plan, config)
    assert named in str(caught.value)
    assert "--overwrite" in str(caught.value)
    assert "\n" not in str(caught.value)
    fresh = make(tmp_path / "s", plan, config, overwrite=True)
    assert len(fresh.pending("misure")) == 3


def test_tuples_and_lists_are_the_same_config(tmp_path):
    make(tmp_path / "s", config={"a": (1, 2)})
    make(tmp_path / "s", config={"a": [1, 2]})


def test_status_reaches_the_disk_last(tmp_path, monkeypatch):
    """Kill the writer at every second of its writes: the row is pending, or complete."""
    real_put = zarr.storage.LocalStore.set
    make(tmp_path / "s").write("misure", 0, explanation(seed=5), target())
    for kill_at in itertools.count(step=2):
        path = tmp_path / f"s{kill_at}"
        shutil.copytree(tmp_path / "s", path)
        store = make(path)
        done = itertools.count()

        async def dying_put(self, key, value, done=done, kill_at=kill_at):
            if next(done) == kill_at:
                raise Killed
            await real_put(self, key, value)

        monkeypatch.setattr(zarr.storage.LocalStore, "set", dying_put)
        try:
            store.write("misure", 1, explanation((8, 9), seed=1), target((8, 9)))
            killed = False
        except Killed:
            killed = True
        monkeypatch.undo()
        seen = ExplanationStore.open(path)
        check_equal(seen.read("misure", 0), explanation(seed=5), target())
        if 1 not in seen.pending("misure"):
            check_equal(seen.read("misure", 1), explanation((8, 9), seed=1), target((8, 9)))
        resumed = make(path)
        with xr.open_zarr(path, group="misure", chunks=None) as data:
            assert data.attribution.shape[0] == 3
        resumed.write("misure", 1, explanation((8, 9), seed=1), target((8, 9)))
        check_equal(resumed.read("misure", 1), explanation((8, 9), seed=1), target((8, 9)))
        if not killed:
            break
    assert kill_at > 10


def test_unflushed_rows_stay_pending_on_disk(tmp_path):
    store = make(tmp_path / "s")
    store.write("misure", 0, explanation(), target(), flush=False)
    assert 0 in ExplanationStore.open(tmp_path / "s").pending("misure")
    store.flush()
    assert 0 not in ExplanationStore.open(tmp_path / "s").pending("misure")


def test_images_of_different_sizes(tmp_path):
    """A larger one after smaller ones, and one that is larger in the other direction."""
    store = make(tmp_path / "s")
    sizes = [(6, 5), (9, 4), (3, 12)]
    for row, size in enumerate(sizes):
        store.write_image(row, np.full((*size, 3), row + 1, np.uint8), np.full(size, row))
        store.write("misure", row, explanation(size, seed=row, steps=4 + row), target(size))
    seen = ExplanationStore.open(tmp_path / "s")
    for row, size in enumerate(sizes):
        stored = seen.read("misure", row)
        assert stored.attribution.shape == size
        np.testing.assert_array_equal(stored.attribution, explanation(size, row).attribution)
        np.testing.assert_array_equal(stored.maps["keep"], explanation(size, row).maps["keep"])
        assert seen.read_image(row).image.shape == (*size, 3)
        assert (seen.read_image(row).labels == row).all()
    with xr.open_zarr(tmp_path / "s", group="misure", chunks=None) as data:
        assert data.attribution.shape == (3, 9, 12)
        assert data.trace_dice.shape == (3, 6)
        assert np.isnan(data.attribution[0, 6:]).all()
        assert data.height.values.tolist() == [6, 9, 3]


def test_a_score_that_appears_later(tmp_path):
    store = make(tmp_path / "s")
    store.write("misure", 0, explanation(), target())
    more = Explanation(
        attribution=np.zeros((6, 5), np.float32), status=np.int32(0), scores={"late": np.float32(2)}
    )
    store.write("misure", 1, more, target())
    scores = ExplanationStore.open(tmp_path / "s").scores("misure")
    np.testing.assert_array_equal(scores["late"], [np.nan, 2, np.nan])
    np.testing.assert_array_equal(scores["dice"], [0.25, np.nan, np.nan])


def test_not_a_store_is_left_alone(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/diary.txt").write_text("dear diary")
    for overwrite in (False, True):
        with pytest.raises(JaxsegError, match=r"notes is not an explanation store"):
            make(tmp_path / "notes", overwrite=overwrite)
    assert (tmp_path / "notes/diary.txt").exists()
    with pytest.raises(JaxsegError, match="does not exist"):
        ExplanationStore.open(tmp_path / "absent")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/zarr.json").write_text(json.dumps({"attributes": {}}))
    with pytest.raises(JaxsegError, match="is not an explanation store"):
        ExplanationStore.open(tmp_path / "other")


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

    async def full(self, key, value):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zarr.storage.LocalStore, "set", full)
    with pytest.raises(JaxsegError, match=r"s: cannot .*No space left on device"):
        store.write("misure", 0, explanation(), target())
    monkeypatch.undo()
    assert 0 in make(tmp_path / "s").pending("misure")


def test_a_damaged_chunk_is_named(tmp_path):
    store = make(tmp_path / "s")
    store.write("misure", 0, explanation(), target())
    (tmp_path / "s/misure/attribution/c.0.0.0").write_bytes(b"rubbish")
    with pytest.raises(JaxsegError, match="cannot read or write the explanation store"):
        store.read("misure", 0)


def test_names_that_are_no_group(tmp_path):
    for name in ("images", "a/b", ""):
        with pytest.raises(ConfigError, match="cannot name a group"):
            make(tmp_path / "s", plan={name: []})
