"""Parts of a store that other processes write, and how they come into it."""

import dataclasses

import numpy as np
import pytest

from jaxseg_xai.store import PlanRow, ZarrStore
from jaxseg_xai.store.leases import LeaseLost, Leases
from jaxseg_xai.store.part import Part
from jaxseg_xai.store.shared import SharedStore
from tests import tiny
from tests.contracts.test_stores import ENTRIES, Kind, assert_read

KIND = Kind("zarr", 2, planes=False)
ROWS = [PlanRow(image_index=i, image_id=f"im{i}", class_index=1) for i in range(4)]
PLAN = {entry.label: ROWS for entry in ENTRIES}
SETTINGS = {entry.label: entry.settings for entry in ENTRIES}


def make(path, **options):
    return KIND.store(path, plan=PLAN, **options)


def fill(store, images):
    for i in images:
        store.write_image(i, KIND.image(i))
        for entry in ENTRIES[:2]:
            store.set_description(entry.label, {"sites": ["a"]})
            store.write(entry.label, i, KIND.explanation(i), KIND.target(i), seconds=1.0)
        store.fail("parts", i, "no such thing")
    store.flush()


@pytest.fixture
def out(tmp_path):
    return tmp_path / "s.zarr"


@pytest.fixture
def leases(out):
    return Leases(out, expiry=1000.0)


def part(out, leases, name="0", run="run2"):
    lease = leases.take(name, leases.look().get(name))
    return Part(out, name, lease, settings=SETTINGS, run=run, version="1.3")


def test_the_same_store_whoever_writes_it(out, leases, tmp_path):
    alone = make(tmp_path / "alone")
    fill(alone, range(4))
    alone.close()
    writer = make(out, of=SharedStore)
    for name, images in (("1", range(2, 4)), ("0", range(2))):
        one = part(out, leases, name, run=f"run{name}")
        fill(one, images)
        assert not writer.rows(done_only=True) or name == "0"
        one.close()
        assert writer.adopt(name, images)
        writer.flush()
    assert writer.counts()["parts"] == {"FAILED": 4}
    writer.close()
    tiny.assert_same_store(out, tmp_path / "alone")
    assert not (out / "journal").exists()
    store = ZarrStore.open(out)
    assert store.damage() == []
    assert store.entry("ate8").describe == {"sites": ["a"]}
    for row in store.rows("ate8"):  # of two runs, which came one after the other
        assert_read(store.read(row), KIND.explanation(row.number), KIND.target(row.number))
    assert (row.run, row.version, row.settings) == ("run1", "1.3", {"block_size": 8})


def test_what_is_in_parts_is_read_and_continued_by_one_process(out, leases):
    make(out, of=SharedStore)
    one = part(out, leases)
    fill(one, range(2))
    store = ZarrStore.open(out)
    assert store.pending("ate8").tolist() == [2, 3]
    assert_read(store.read(store.rows("ate8")[1]), KIND.explanation(1), KIND.target(1))
    alone = make(out)
    assert alone.pending("ate8").tolist() == [2, 3]
    fill(alone, range(2, 4))
    alone.close()
    assert ZarrStore.open(out).counts()["ate8"] == {"OK": 4}
    assert not (out / "journal").exists()


def test_who_takes_a_part_over_has_what_was_written(out, leases):
    make(out, of=SharedStore)
    first = part(out, leases)
    fill(first, range(1))
    first._lease.release()
    second = part(out, leases)
    assert second.pending("ate8").tolist() == [1, 2, 3]
    # The first does not know yet, and destroys nothing.
    first._lease.check = lambda: None
    fill(first, range(1))
    fill(second, range(1, 2))
    second.close()
    writer = make(out, of=SharedStore)
    assert writer.adopt("0", range(2))
    assert writer.pending("ate8").tolist() == [2, 3]


def test_who_lost_its_lease_writes_nothing(out, leases, monkeypatch):
    make(out, of=SharedStore)
    one = part(out, leases)
    monkeypatch.setattr("jaxseg_xai.store.leases._now", lambda: 1e12)
    with pytest.raises(LeaseLost):
        fill(one, range(2))
    with pytest.raises(LeaseLost):
        one.close()
    assert ZarrStore.open(out).rows(done_only=True) == []


@pytest.mark.parametrize("damage", ["list", "arrays", "lost"])
def test_a_damaged_part_is_done_again(out, leases, damage):
    make(out, of=SharedStore)
    one = part(out, leases)
    fill(one, range(2))
    one.close()
    ending = "arrays" if damage == "arrays" else "json"
    (file,) = (out / "journal" / "0").glob(f"*.{ending}")
    if damage == "lost":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1] + b"?")
    writer = make(out, of=SharedStore)
    assert not writer.adopt("0", range(2))
    leases.undo("0")
    again = leases.take("0", dataclasses.replace(leases.look()["0"], free=True))
    other = Part(out, "0", again, settings=SETTINGS, run="run3", version="1")
    assert other.pending("ate8").tolist() == [0, 1, 2, 3]
    fill(other, range(2))
    other.close()
    assert writer.adopt("0", range(2))
    np.testing.assert_array_equal(writer.pending("ate8"), [2, 3])


def test_a_writer_that_died_between_shards_and_the_end(out, leases):
    """The journals of what is in shards are gone, and the part is done all the same."""
    writer = make(out, of=SharedStore)
    one = part(out, leases)
    fill(one, range(4))
    one.close()
    assert writer.adopt("0", range(4))
    writer.flush()
    next_one = make(out, of=SharedStore)
    assert next_one.adopt("0", range(4))
