"""A writer of a store that is killed in the middle: nothing is lost, and no row is half there."""

import contextlib
import itertools
import shutil

import numpy as np
import xarray as xr
import zarr

from jaxseg_xai.core.types import Status
from jaxseg_xai.store import StoredImage, ZarrStore, shards
from tests.store.test_zarr_store import check_equal, explanation, make, read, target, write


class Killed(Exception):
    pass


@contextlib.contextmanager
def dying(monkeypatch, kill_at):
    """What runs in it is killed at a write, counted from 0; a list that is empty if it was not."""
    died, done, real_put = [], itertools.count(), zarr.storage.LocalStore.set_sync

    def put(self, key, value):
        if next(done) >= kill_at:
            raise Killed
        real_put(self, key, value)

    with monkeypatch.context() as patched:
        patched.setattr(zarr.storage.LocalStore, "set_sync", put)
        try:
            yield died
        except Killed:
            died.append(kill_at)


def test_status_reaches_the_disk_last(tmp_path, monkeypatch):
    """Kill the writer at every second of its writes: the row is pending, or complete."""
    write(make(tmp_path / "s"), "misure", 0, explanation(seed=5), target())
    for kill_at in itertools.count(step=2):
        path = tmp_path / f"s{kill_at}"
        shutil.copytree(tmp_path / "s", path)
        store = make(path)
        with dying(monkeypatch, kill_at) as died:
            write(store, "misure", 1, explanation((8, 9), seed=1), target((8, 9)))
            store.close()
        seen = ZarrStore.open(path)
        check_equal(read(seen, "misure", 0), explanation(seed=5), target())
        if 1 not in seen.pending("misure"):
            check_equal(read(seen, "misure", 1), explanation((8, 9), seed=1), target((8, 9)))
        resumed = make(path)
        write(resumed, "misure", 1, explanation((8, 9), seed=1), target((8, 9)))
        resumed.close()
        with xr.open_zarr(path, group="misure", chunks=None) as data:
            assert data.attribution.shape == (3, 8, 9)
        check_equal(read(resumed, "misure", 1), explanation((8, 9), seed=1), target((8, 9)))
        if not died:
            break
    assert kill_at > 10


def test_what_was_there_survives_a_kill_while_it_is_replaced(tmp_path, monkeypatch):
    """Images written again and a row retried, in tables of several shards."""
    monkeypatch.setattr(shards, "MOST_ROWS", 2)
    images = range(3)

    def picture(index, seed):
        rng = np.random.default_rng(10 * index + seed)
        image, prediction = rng.integers(0, 255, (6, 5, 3), np.uint8), rng.integers(0, 300, (6, 5))
        stamp = f"stamp {seed}"
        return StoredImage(id=f"im{index}", image=image, prediction=prediction, stamp=stamp)

    first = make(tmp_path / "s")
    for index in images:
        first.write_image(index, picture(index, 0))
    for row in (0, 2):
        first.write("misure", row, explanation(seed=row), target())
    first.fail("misure", 1, "out of luck")
    first.close()
    for kill_at in itertools.count():
        path = tmp_path / f"s{kill_at}"
        shutil.copytree(tmp_path / "s", path)
        store = make(path)
        with dying(monkeypatch, kill_at) as died:
            for index in images:
                store.write_image(index, picture(index, 1))
            store.write("misure", 1, explanation(seed=7), target())
            store.close()
        make(path).close()
        seen = ZarrStore.open(path)
        for index in images:
            found = seen.read_image(index)
            pictures = [picture(index, seed).image for seed in (0, 1)]
            assert any(np.array_equal(found.image, one) for one in pictures)
        row = seen.rows("misure")[1]
        if row.status == Status.FAILED:
            assert row.reason == "out of luck"
            assert np.isnan(row.scores.get("dice", np.nan))
        else:
            check_equal(seen.read(row), explanation(seed=7), target())
        if not died:
            break
    assert kill_at > 10
    assert row.status == Status.OK
