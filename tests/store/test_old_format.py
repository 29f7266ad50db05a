"""Stores that were written before sweeps had entries, labels and metadata still open."""

import tarfile
from pathlib import Path

import numpy as np
import pytest

from jaxseg_xai.core.types import Status
from jaxseg_xai.store import Entry, ZarrStore

ARCHIVE = Path(__file__).parent / "data" / "old_store.tar.xz"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


def test_old_numbers(folder):
    store, expected = ZarrStore.open(folder / "old.zarr"), np.load(folder / "expected.npz")
    assert store.labels == ("misure", "ate", "confidence")
    assert store.rank == 2
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
