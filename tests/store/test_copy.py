import dataclasses

from jaxseg_xai.core.types import Status
from jaxseg_xai.store import MemoryStore, ZarrStore, copy_store
from tests.contracts.test_stores import ENTRIES, PLAN, Kind, assert_read


def test_from_memory_to_disk(tmp_path):
    kind = Kind("memory", 3, planes=True)
    store = MemoryStore(entries=ENTRIES, plan=PLAN, attrs={"class_names": ["a"]}, rank=3)
    store.write_image(1, kind.image(1))
    for row in range(2):
        store.run = f"run{row}"
        store.write("ate8", row, kind.explanation(row), kind.target(row))
    store.fail("ate16", 0, "corrupt")
    store.fail("ate8", 2, "all black", Status.EMPTY_IMAGE)
    store.set_description("parts", {"names": ["layer 1"]})
    assert copy_store(store, tmp_path / "s.zarr").path == tmp_path / "s.zarr"
    copied = ZarrStore.open(tmp_path / "s.zarr")
    assert [copied.entry(label) for label in copied.labels] == [
        store.entry(label) for label in store.labels
    ]
    assert copied.class_names == ("a",)
    assert copied.counts() == store.counts()
    for row, old in zip(copied.rows(), store.rows(), strict=True):
        assert dataclasses.replace(row, scores={}) == dataclasses.replace(old, scores={})
        if row.status is Status.OK:
            assert_read(copied.read(row), kind.explanation(row.number), kind.target(row.number))
    assert (copied.read_image(1).labels == kind.image(1).labels).all()
    assert copied.read_image(0) is None
