"""Every registered store, for images and volumes, label maps and planes of overlapping classes."""

import dataclasses

import numpy as np
import pytest

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.types import Explanation, SegmentTarget, Status
from jaxseg_xai.store import SINKS, Entry, PlanRow, StoredImage

SHAPES = {2: (6, 5), 3: (4, 3, 5)}
CLASS_NAMES = ("whole", "core", "enhancing")
#: The same method twice, and one that explains parts of the network.
ENTRIES = (
    Entry(label="ate8", method="ate", settings={"block_size": 8}, meta={"unit": "points"}),
    Entry(label="ate16", method="ate", settings={"block_size": 16}),
    Entry(label="parts", method="components", settings={"names": ["a", "b"]}),
)
PLAN = {
    "ate8": [PlanRow(image_index=i, image_id=f"im{i}", class_index=1) for i in range(3)],
    "ate16": [PlanRow(image_index=2, image_id="im2", class_index=2, region_name="box")],
    "parts": [PlanRow(image_index=1, image_id="im1", class_index=0)],
}


@dataclasses.dataclass(frozen=True)
class Kind:
    sink: str
    rank: int
    planes: bool

    @property
    def shape(self):
        return SHAPES[self.rank]

    def store(self, path, of=None, **options):
        known = {"entries": ENTRIES, "plan": PLAN, "config": {"seed": 3}, "rank": self.rank}
        known |= {"attrs": {"class_names": CLASS_NAMES}, "run": "run1", "version": "1.2"}
        of = SINKS.get(self.sink) if of is None else of
        return of.create_or_resume(path, **(known | options))

    def segmentation(self, seed, shape=None):
        shape = shape or self.shape
        rng = np.random.default_rng(seed)
        if self.planes:
            return rng.random((*shape, 3)) > 0.5
        return rng.integers(0, 3, shape).astype(np.int32)

    def explanation(self, seed=0, shape=None, status=Status.OK, **changes):
        shape = shape or self.shape
        rng = np.random.default_rng(seed)
        found = Explanation(
            attribution=rng.normal(size=shape).astype(np.float32),
            status=np.int32(status),
            scores={"dice": np.float32(0.1 + seed), "undefined": np.float32(np.nan)},
            maps={
                "keep": rng.random(shape) > 0.5,
                "error": rng.random(shape, np.float32),
                "prediction": self.segmentation(seed, shape),
            },
            traces={"loss": np.arange(3.0 + seed, dtype=np.float32)},
        )
        return dataclasses.replace(found, **changes)

    def target(self, seed=0, shape=None):
        region, reference = (
            np.random.default_rng(seed + 9).random((2, *(shape or self.shape))) > 0.5
        )
        return SegmentTarget(class_index=np.int32(1), region=region, reference=reference)

    def image(self, seed=0, shape=None, channels=3):
        picture = np.random.default_rng(seed).integers(0, 256, (*(shape or self.shape), channels))
        return StoredImage(
            id=f"im{seed}",
            image=picture.astype(np.uint8),
            labels=self.segmentation(seed, shape),
            prediction=self.segmentation(seed + 50, shape),
        )


@pytest.fixture(
    params=[(sink, rank, planes) for sink in SINKS.names() for rank in (2, 3) for planes in (0, 1)],
    ids=lambda p: f"{p[0]}-{p[1]}d-{'planes' if p[2] else 'map'}",
)
def kind(request):
    sink, rank, planes = request.param
    return Kind(sink, rank, bool(planes))


def assert_read(stored, explanation, target):
    for name in ("region", "reference"):
        np.testing.assert_array_equal(getattr(stored, name), getattr(target, name), strict=True)
    if explanation.attribution is None:
        assert stored.attribution is None
    else:
        np.testing.assert_array_equal(stored.attribution, explanation.attribution, strict=True)
    assert stored.maps.keys() == explanation.maps.keys()
    for name, value in stored.maps.items():
        np.testing.assert_array_equal(value, explanation.maps[name], strict=True)
    for name, value in explanation.traces.items():
        np.testing.assert_array_equal(stored.traces[name][: len(value)], value)
        assert np.isnan(stored.traces[name][len(value) :]).all()
    scores = {name: float(value) for name, value in explanation.scores.items()}
    assert_scores(stored.row.scores, scores)


def assert_scores(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_what_is_written_is_read(kind, tmp_path):
    store = kind.store(tmp_path / "s")
    written = {("ate8", 1): (0, {}), ("ate16", 0): (3, {"status": Status.NOT_REACHED})}
    for (label, row), (seed, options) in written.items():
        store.write(label, row, kind.explanation(seed, **options), kind.target(seed))
    store.flush()
    assert store.labels == ("ate8", "ate16", "parts")
    assert store.rank == kind.rank
    assert store.class_names == CLASS_NAMES
    assert store.attrs["config"] == {"seed": 3}
    done = store.rows(done_only=True)
    assert [(row.label, row.number) for row in done] == list(written)
    for row in done:
        seed = written[row.label, row.number][0]
        stored = store.read(row)
        assert_read(stored, kind.explanation(seed), kind.target(seed))
        assert stored.row.id == row.id
        assert_scores(row.scores, stored.row.scores)
        assert dataclasses.replace(stored.row, scores={}) == dataclasses.replace(row, scores={})
        assert (row.run, row.version, row.method) == ("run1", "1.2", "ate")
    assert [row.settings for row in done] == [{"block_size": 8}, {"block_size": 16}]
    assert [row.status for row in done] == [Status.OK, Status.NOT_REACHED]
    assert done[1].id == "im2/2/box"
    assert type(done[1].image_index) is type(done[1].number) is int


def test_images(kind, tmp_path):
    store = kind.store(tmp_path / "s")
    store.write_image(2, kind.image(2))
    store.flush()
    stored, written = store.read_image(2), kind.image(2)
    assert stored.id == "im2"
    assert stored.affine is None
    np.testing.assert_array_equal(stored.image, written.image, strict=True)
    for name in ("labels", "prediction"):
        found = getattr(stored, name)
        assert found.dtype == (bool if kind.planes else np.int16)
        np.testing.assert_array_equal(found, getattr(written, name))
    assert store.read_image(0) is None
    assert store.read_image(store.rows("ate8")[2]).id == "im2"
    # Pixels whose class nobody knows stay so.
    unknown = np.array(written.labels, np.int8 if kind.planes else np.int16)
    unknown[0, 0] = -1
    store.write_image(1, dataclasses.replace(kind.image(1), labels=unknown))
    store.flush()
    np.testing.assert_array_equal(store.read_image(1).labels, unknown, strict=True)
    # Grey, without labels: nowhere is not the same as unknown.
    empty = np.zeros_like(kind.segmentation(0))
    affine = np.arange(16.0).reshape(4, 4)
    changes = {"labels": None, "prediction": empty, "affine": affine}
    grey = dataclasses.replace(kind.image(1, channels=1), **changes)
    other = kind.store(tmp_path / "other")
    other.write_image(1, grey)
    other.flush()
    stored = other.read_image(1)
    np.testing.assert_array_equal(stored.image, np.broadcast_to(grey.image, (*kind.shape, 3)))
    assert stored.labels is None
    np.testing.assert_array_equal(stored.affine, affine)
    np.testing.assert_array_equal(stored.prediction, empty)
    for wrong in (grey.image.astype(np.float32), grey.image[0], grey.image[..., 0]):
        with pytest.raises(ValueError, match="uint8"):
            other.write_image(0, dataclasses.replace(grey, image=wrong))


def test_sizes_that_differ(kind, tmp_path):
    """A larger one after a smaller one, and one that is larger along another axis."""
    store = kind.store(tmp_path / "s")
    shapes = [kind.shape, tuple(n + 3 for n in kind.shape), (*kind.shape[:-1], 12)]
    for row, shape in enumerate(shapes):
        store.write_image(row, kind.image(row, shape))
        store.write("ate8", row, kind.explanation(row, shape), kind.target(row, shape))
    store.flush()
    for row, shape in zip(store.rows("ate8"), shapes, strict=True):
        written = kind.explanation(row.number, shape), kind.target(row.number, shape)
        assert_read(store.read(row), *written)
        image = kind.image(row.number, shape)
        np.testing.assert_array_equal(store.read_image(row).image, image.image)
        np.testing.assert_array_equal(store.read_image(row).labels, image.labels)


def test_a_method_without_a_map(kind, tmp_path):
    store = kind.store(tmp_path / "s")
    found = kind.explanation(attribution=None)
    store.write("parts", 0, found, kind.target())
    store.flush()
    (row,) = store.rows("parts")
    assert_read(store.read(row), found, kind.target())


def test_pending_and_failed_rows(kind, tmp_path):
    store = kind.store(tmp_path / "s")
    assert store.pending("ate8").tolist() == [0, 1, 2]
    store.fail("ate8", 0, "no such\nfile")
    store.fail("ate16", 0, "all black", Status.EMPTY_IMAGE)
    store.write("ate8", 2, kind.explanation(), kind.target())
    store.flush()
    assert store.pending("ate8").tolist() == [1]
    assert store.statuses("ate8").tolist() == [Status.FAILED, -1, Status.OK]
    assert store.counts() == {
        "ate8": {"PENDING": 1, "OK": 1, "FAILED": 1},
        "ate16": {"EMPTY_IMAGE": 1},
        "parts": {"PENDING": 1},
    }
    assert store.rows("ate16")[0].reason == "all black"
    failed, pending, done = store.rows("ate8")
    assert (failed.status, failed.reason) == (Status.FAILED, "no such file")
    assert (failed.run, failed.version) == ("run1", "1.2")
    assert np.isnan(list(failed.scores.values())).all()
    assert (pending.status, pending.reason, pending.run, pending.scores) == (None, "", "", {})
    assert pending.settings == {"block_size": 8}
    for row in (failed, pending):
        stored = store.read(row)
        assert stored.attribution is stored.region is stored.reference is None
        assert not stored.maps
        assert not stored.traces
    # What failed may be tried again.
    store.write("ate8", 0, kind.explanation(4), kind.target(4))
    store.flush()
    again = store.rows("ate8")[0]
    assert (again.status, again.reason) == (Status.OK, "")
    assert_read(store.read(again), kind.explanation(4), kind.target(4))
    assert_read(store.read(done), kind.explanation(), kind.target())


def test_a_score_that_appears_later(kind, tmp_path):
    store = kind.store(tmp_path / "s")
    store.write("ate8", 0, kind.explanation(scores={"dice": np.float32(0.5)}), kind.target())
    store.write("ate8", 2, kind.explanation(scores={"late": np.float32(2)}), kind.target())
    store.flush()
    rows = store.rows("ate8", done_only=True)
    assert_scores(rows[0].scores, {"dice": 0.5, "late": np.nan})
    assert_scores(rows[1].scores, {"dice": np.nan, "late": 2.0})


def test_entries(kind, tmp_path):
    store = kind.store(tmp_path / "s")
    assert [store.entry(label) for label in store.labels] == list(ENTRIES)
    store.set_description("parts", {"names": ["layer 1"]})
    store.flush()
    described = dataclasses.replace(ENTRIES[2], describe={"names": ["layer 1"]})
    assert store.entry("parts") == described
    assert store.entry("ate8") == ENTRIES[0]


def test_what_only_the_run_can_tell_is_an_attribute(kind, tmp_path):
    store = kind.store(tmp_path / "s")
    before = dict(store.attrs)
    store.set_attribute("tiles", {"tile": (48, 48), "margin": None})
    store.flush()
    found = store.attrs
    assert found["tiles"]["margin"] is None
    assert list(found["tiles"]["tile"]) == [48, 48]
    assert {name: found[name] for name in before} == before


def test_a_label_that_is_not_there(kind, tmp_path):
    store = kind.store(tmp_path / "s")
    for ask in (store.rows, store.entry, store.statuses):
        with pytest.raises(ConfigError, match=r"has no 'cam'; it has ate8, ate16, parts"):
            ask("cam")


def test_labels_that_cannot_be_used(kind, tmp_path):
    for label in ("images", "patch_pool_8", "a/b", ""):
        with pytest.raises(ConfigError, match="cannot name a group"):
            kind.store(tmp_path / "s", entries=[Entry(label=label, method="ate")], plan={label: []})
    twice = [ENTRIES[0], ENTRIES[0]]
    with pytest.raises(ConfigError, match="two entries are called 'ate8'"):
        kind.store(tmp_path / "s", entries=twice, plan={"ate8": []})
    with pytest.raises(ConfigError, match="the entries are ate8, the plan's ate16"):
        kind.store(tmp_path / "s", entries=ENTRIES[:1], plan={"ate16": []})
    assert not (tmp_path / "s").exists()
