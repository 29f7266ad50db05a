"""Stores of earlier versions still open; copied to a new one, all is the same to the last bit."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from jaxseg_xai.core.errors import ConfigError, JaxsegError
from jaxseg_xai.core.types import Status
from jaxseg_xai.store import Entry, ZarrStore, copy_store

DATA = Path(__file__).parent / "data"


def extract(name, folder):
    with tarfile.open(DATA / f"{name}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of a version that had no entries, labels and metadata."""
    return extract("old_store", tmp_path_factory.mktemp("old"))


@pytest.mark.parametrize("name", ["old_store", "format1"])
def test_old_numbers(name, tmp_path):
    folder = extract(name, tmp_path)
    store = ZarrStore.open(folder / "old.zarr")
    copied = copy_store(store, folder / "new.zarr")
    for opened in (store, copied, ZarrStore.open(folder / "new.zarr")):
        assert opened.labels == ("misure", "ate", "confidence")
        assert opened.rank == 2
        assert_holds(opened, np.load(folder / "expected.npz"))
    for row, old in zip(copied.rows(), store.rows(), strict=True):
        assert (row.run, row.version, row.settings) == (old.run, old.version, old.settings)
    for image in range(3):
        ours, theirs = copied.read_image(image), store.read_image(image)
        assert (ours is None) == (theirs is None)
        for part in ("image", "labels", "prediction") if ours else ():
            np.testing.assert_array_equal(getattr(ours, part), getattr(theirs, part), strict=True)


def test_an_old_store_is_converted_before_it_continues(tmp_path):
    folder = extract("format1", tmp_path)
    path = folder / "old.zarr"
    with pytest.raises(ConfigError, match=r"earlier version.*store merge .*old.zarr --out NEW"):
        ZarrStore.create_or_resume(path, entries=[], plan={}, config={})


def assert_holds(store, expected):
    seen = set()
    for row in store.rows():
        key = f"{row.label}/{row.number}"
        stored = store.read(row)
        found = {
            "plan": row.id,
            "status": -1 if row.status is None else int(row.status),
            "reason": row.reason,
        }
        names = ("attribution", "region", "reference")
        found |= {n: getattr(stored, n) for n in names if getattr(stored, n) is not None}
        found |= {f"maps/{name}": value for name, value in stored.maps.items()}
        found |= {f"traces/{name}": value for name, value in stored.traces.items()}
        if stored.attribution is not None:
            found |= {f"scores/{name}": value for name, value in row.scores.items()}
        for name, value in found.items():
            np.testing.assert_array_equal(np.asarray(value), expected[f"{key}/{name}"], strict=True)
            seen.add(f"{key}/{name}")
    assert seen == set(expected.files)


def test_what_it_could_not_say(folder):
    store = ZarrStore.open(folder / "old.zarr")
    entry = store.entry("misure")
    assert entry.settings["tau"] == 0.9
    assert entry == Entry(label="misure", method="misure", settings=entry.settings)
    for row in store.rows("misure"):
        assert (row.method, row.run, row.version) == ("misure", "", "")
        assert row.settings == entry.settings
    failed = [row for row in store.rows("ate") if row.status is Status.FAILED]
    assert "31x31" in failed[0].reason
    image = store.read_image(0)
    assert image.id == "i0"
    assert image.image.shape == (32, 32, 3)
    assert image.labels.shape == image.prediction.shape == (32, 32)
    assert store.read_image(failed[0]) is None


def test_a_store_of_a_newer_version_is_left_alone(tmp_path):
    """Neither read, nor continued, nor overwritten: there may be more in it than this one knows."""
    path = tmp_path / "s.zarr"
    given = {"entries": [Entry(label="a", method="ate")], "plan": {"a": []}, "config": {}}
    ZarrStore.create_or_resume(path, **given)
    root = path / "zarr.json"
    about = json.loads(root.read_text())
    about["attributes"]["jaxseg_xai_store"] = 99
    root.write_text(json.dumps(about))
    before = sorted(path.rglob("*"))
    words = r"s.zarr is a store of a newer version .*\(format 99, this one reads \d+\); install"
    for action in (
        lambda: ZarrStore.open(path),
        lambda: ZarrStore.create_or_resume(path, **given),
        lambda: ZarrStore.create_or_resume(path, **given, overwrite=True),
    ):
        with pytest.raises(JaxsegError, match=words):
            action()
    assert sorted(path.rglob("*")) == before
