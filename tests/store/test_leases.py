"""Leases: one process has one, and another takes it over only when the first is silent."""

import os
import threading

import filelock
import pytest

from jaxseg_xai.core.errors import ConfigError, JaxsegError
from jaxseg_xai.store import ZarrStore
from jaxseg_xai.store import leases as module
from jaxseg_xai.store.leases import LeaseLost, Leases
from jaxseg_xai.store.place import Place
from jaxseg_xai.store.writer import Writer, erase, sole_writer


@pytest.fixture
def clock(monkeypatch):
    """Seconds that only the test lets pass; no lease renews itself in them."""
    now = [100.0]
    monkeypatch.setattr(module, "_now", lambda: now[0])
    return now


@pytest.fixture
def out(tmp_path):
    return tmp_path / "s.zarr"


def ours(out):
    """The leases as another process sees them."""
    return Leases(out, expiry=1000.0)


def test_one_of_many_gets_it(out):
    found, gate = [], threading.Barrier(8)

    def take():
        leases = ours(out)
        gate.wait()
        found.append(leases.take("7"))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (lease,) = filter(None, found)
    lease.release()


def test_who_is_silent_for_long_enough_loses_it(out, clock):
    one, other = ours(out), ours(out)
    lease = one.take("7")
    assert not other.look()["7"].free
    clock[0] += 700
    lease.check()
    assert other.take("7") is None
    clock[0] += 100  # later than three quarters: it writes nothing more
    with pytest.raises(LeaseLost):
        lease.check()
    assert not other.look()["7"].free
    clock[0] += 200
    assert other.look()["7"].free
    assert other.take("7", other.look()["7"]) is not None
    assert one.take("7", one.look().get("7")) is None
    with pytest.raises(LeaseLost):
        lease.finish()
    lease.release()
    seen = other.look()["7"]
    assert (seen.number, seen.free, seen.done) == (2, False, False)


def test_who_renews_keeps_it(out, clock):
    lease, other = ours(out).take("7"), ours(out)
    for _ in range(4):
        assert not other.look()["7"].free
        clock[0] += 600
        lease._place.write(lease._key, b"renewed %f" % clock[0])
    assert not other.look()["7"].free


def test_it_is_renewed_by_itself(out):
    short, watching = Leases(out, expiry=0.8), Leases(out, expiry=1000.0)
    lease = short.take("7")
    before = watching.place.stamps()
    for _ in range(500):
        if watching.place.stamps() != before:
            break
        threading.Event().wait(0.02)
    else:
        raise AssertionError("it was not")
    lease.release()


def test_what_is_given_up_is_free_at_once_and_what_is_done_for_ever(out):
    one, other = ours(out), ours(out)
    one.take("7").release()
    assert other.look()["7"].free
    other.take("7", other.look()["7"]).finish()
    seen = one.look()["7"]
    assert seen.done
    assert one.take("7", seen) is None
    one.undo("7")
    assert not other.look()["7"].done
    other.clear()
    assert not os.path.exists(one.place.path)
    assert one.look() == {}


def test_who_looked_long_ago_takes_nothing(out):
    slow = ours(out)
    ours(out).take("71")  # which is none of 7's
    slow.take("7").release()
    assert slow.look("7").keys() == {"7"}
    seen = slow.look()["7"]
    for _ in range(2):
        other = ours(out)
        other.take("7", other.look()["7"]).release()
    assert slow.take("7", seen) is None  # number 2, which is gone meanwhile
    assert slow.look()["7"].number == 3


@pytest.mark.parametrize("why", ["no hard links", "read-only", "no conditions"])
def test_a_place_where_no_leases_can_be_kept(out, monkeypatch, why):
    def refused(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    def last_wins(self, key, value):
        self.write(key, value)
        return True

    if why == "no hard links":
        monkeypatch.setattr(os, "link", refused)
    elif why == "read-only":
        monkeypatch.setattr("pathlib.Path.mkdir", refused)
    else:
        monkeypatch.setattr(Place, "create", last_wins)
    told = "two processes" if why == "no conditions" else "Operation not permitted"
    with pytest.raises(ConfigError, match=rf"no leases can be kept here \({told}.*--workers"):
        ours(out).check_place()


def test_a_probe_that_another_process_clears_is_no_fault(out, monkeypatch):
    create, calls = Place.create, []

    def cleared(self, key, value):
        calls.append(key)
        found = create(self, key, value)
        if len(calls) == 1:
            ours(out).clear()
        return found

    monkeypatch.setattr(Place, "create", cleared)
    ours(out).check_place()
    assert len(calls) == 4


def test_erase_deletes_a_store_only_where_nobody_writes_it(out):
    (out.parent / "notes").mkdir()
    (out.parent / "notes" / "a.txt").write_text("mine")
    with pytest.raises(Exception, match="is not an explanation store"):
        erase(out.parent / "notes", ours(out.parent / "notes"))
    leases = ours(out)
    leases.share()
    with sole_writer(out, leases), pytest.raises(ConfigError, match="another sweep is writing"):
        erase(out, ours(out))
    assert leases.shared
    erase(out, ours(out))
    assert not leases.shared


def test_the_working_folder_is_a_place_like_others(tmp_path, monkeypatch):
    (tmp_path / "notes.txt").write_text("mine")
    monkeypatch.chdir(tmp_path)
    with (
        pytest.raises(JaxsegError, match="is not an explanation store"),
        sole_writer("."),
    ):
        ZarrStore.create_or_resume(".", entries=[], plan={}, config={})
    assert Leases(".").place.path == ours(tmp_path).place.path


def test_a_folder_in_which_nobody_can_write_is_no_lock_of_another(out, monkeypatch):
    def refused(self, *_, **__):
        raise filelock.Timeout(self.lock_file)

    monkeypatch.setattr(filelock.FileLock, "acquire", refused)
    with pytest.raises(JaxsegError, match="Permission denied"):
        Writer(out, ours(out)).take()


def test_by_url_the_right_to_write_is_a_lease(out, monkeypatch):
    monkeypatch.setattr(Place, "path", None, raising=False)
    leases = Leases(out, expiry=0.4)
    monkeypatch.setattr(Writer, "_lock", None)
    stamps = {}
    monkeypatch.setattr(leases, "look", lambda name: stamps)
    writer = Writer("s3://runs/s.zarr", leases)
    taken = []
    monkeypatch.setattr(leases, "take", lambda *told: taken.append(told) or None)
    assert not writer.take()
    assert taken == [("writer", None)]
