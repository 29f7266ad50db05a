"""`jaxseg-xai store`: damage is found, parts become one store, questions are answered."""

import csv
import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from jaxseg_xai.cli import main as cli
from jaxseg_xai.core.types import Explanation, SegmentTarget, Status
from jaxseg_xai.store import Entry, PlanRow, StoredImage, ZarrStore

ATE = Entry(label="ate8", method="ate", settings={"block_size": 8})


def store(path, images, *, failed=(), entry=ATE, seed=3, storage=None):
    """Rows of class 1 of some images, whose numbers depend on the image alone; the last is open."""
    size = (4, 5)
    rows = [PlanRow(image_index=i, image_id=f"im{n}", class_index=1) for i, n in enumerate(images)]
    made = ZarrStore.create_or_resume(
        path,
        entries=[entry],
        plan={entry.label: rows},
        config={"seed": seed},
        attrs={"class_names": ["background", "disc"], "seed": seed, "storage": storage or {}},
        run="monday",
    )
    for index, number in enumerate(images[:-1]):
        rng = np.random.default_rng(number)
        picture = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
        made.write_image(index, StoredImage(id=f"im{number}", image=picture))
        if number in failed:
            made.fail(entry.label, index, "no such file")
            continue
        region = rng.random(size) > 0.5
        target = SegmentTarget(class_index=np.int32(1), region=region, reference=region)
        scores = {"dice": np.float32(number), "odd": np.float32(number if number % 2 else np.nan)}
        values = rng.normal(size=size).astype(np.float32)
        found = Explanation(attribution=values, status=np.int32(Status.OK), scores=scores)
        made.write(entry.label, index, found, target, seconds=0.5)
    made.close()
    return path


def run(*arguments):
    return cli.main(["store", *map(str, arguments)])


def test_damage_is_found(tmp_path, capsys):
    path = store(tmp_path / "s.zarr", [0, 1, 2])
    assert run("verify", path) == 0
    assert "ate8: 1 PENDING, 2 OK" in capsys.readouterr().out
    (chunk,) = (path / "ate8" / "attribution").glob("c.*")
    whole = bytearray(chunk.read_bytes())
    whole[-9] ^= 1
    chunk.write_bytes(whole)
    assert run("verify", path) == 1
    assert "damaged: ate8/attribution, rows 0 to 2" in capsys.readouterr().out
    chunk.unlink()
    assert run("verify", path) == 1
    assert "rows 0 to 2: 2 of them are not there" in capsys.readouterr().out


def test_parts_become_one_store(tmp_path, capsys):
    one = store(tmp_path / "a.zarr", [0, 1, 2], failed=[1])
    two = store(tmp_path / "b.zarr", [2, 1, 5])
    assert run("merge", one, two, "--out", tmp_path / "c.zarr") == 0
    merged, whole = ZarrStore.open(tmp_path / "c.zarr"), store(tmp_path / "d.zarr", [0, 1, 2, 5])
    whole = ZarrStore.open(whole)
    assert [row.image_id for row in merged.rows()] == ["im0", "im1", "im2", "im5"]
    for ours, theirs in zip(merged.rows(), whole.rows(), strict=True):
        assert ours.status == theirs.status
        if ours.status is not None:
            a, b = merged.read(ours), whole.read(theirs)
            np.testing.assert_array_equal(a.attribution, b.attribution)
            np.testing.assert_array_equal(
                merged.read_image(ours).image, whole.read_image(theirs).image
            )
            assert ours.run == "monday"
    capsys.readouterr()
    assert run("merge", one, "--out", tmp_path / "c.zarr") == 2
    assert "c.zarr is there already" in capsys.readouterr().err
    for changes, named in (
        ({"seed": 4}, "seed is 3 and 4"),
        ({"entry": dataclasses.replace(ATE, settings={"block_size": 9})}, "ate8.settings is"),
    ):
        other = store(tmp_path / f"{len(named)}.zarr", [7, 8], **changes)
        assert run("merge", one, other, "--out", tmp_path / "e.zarr") == 2
        assert f"are not parts of one sweep: {named}" in capsys.readouterr().err


def test_questions(tmp_path, capsys):
    pytest.importorskip("duckdb")
    path = store(tmp_path / "s.zarr", [0, 1, 2, 3, 4], failed=[2])

    def ask(sql):
        assert run("query", sql, "--store", path) == 0
        return list(csv.reader(io.StringIO(capsys.readouterr().out)))

    assert ask("SELECT status, count(*) AS n FROM rows GROUP BY status ORDER BY n, status") == [
        ["status", "n"],
        ["FAILED", "1"],
        ["PENDING", "1"],
        ["OK", "3"],
    ]
    assert ask("SELECT avg(odd), max(dice), any_value(class), any_value(seed) FROM ate8")[1] == [
        *("2.0", "3.0", "disc", "3")
    ]
    assert ask("SELECT image, reason, run FROM rows WHERE status = 'FAILED'")[1:] == [
        ["im2", "no such file", "monday"]
    ]
    assert run("query", "SELECT * FROM rows", "--store", path, "--out", tmp_path / "r.csv") == 0
    assert len((tmp_path / "r.csv").read_text().splitlines()) == 6
    capsys.readouterr()
    assert run("query", "SELECT nose FROM rows", "--store", path) == 2
    error = capsys.readouterr().err
    assert "s.zarr cannot answer" in error
    assert "nose" in error
    assert error.count("\n") == 1


def test_maps_as_numbers_and_pictures(tmp_path):
    path = store(tmp_path / "s.zarr", [0, 1])
    (row,) = ZarrStore.open(path).rows(done_only=True)
    expected = ZarrStore.open(path).read(row)
    for kind in ("numpy", "png"):
        flags = ["--out", tmp_path / kind, "--to", kind, "--maps", "attribution", "region"]
        assert run("export", "--store", path, *flags) == 0
    values = np.load(tmp_path / "numpy" / "im0-disc-ate8-attribution.npy")
    np.testing.assert_array_equal(values, expected.attribution)
    with Image.open(tmp_path / "png" / "im0-disc-ate8-attribution.png") as image:
        grey = (np.asarray(image).astype(float) - 128) / 127
    np.testing.assert_allclose(grey, values / np.abs(values).max(), atol=1 / 127)
    with Image.open(tmp_path / "png" / "im0-disc-ate8-region.png") as image:
        np.testing.assert_array_equal(np.asarray(image) == 255, expected.region)


def test_half_precision_is_as_exact_as_it_says(tmp_path):
    half = {"precision": "half", "level": 9}
    one, two = store(tmp_path / "a.zarr", [0, 1]), store(tmp_path / "b.zarr", [0, 1], storage=half)
    full, rounded = (
        s.read(s.rows(done_only=True)[0]).attribution for s in map(ZarrStore.open, (one, two))
    )
    error = np.abs(rounded - full) / np.abs(full)
    assert 0 < error.max() <= 2.0**-11
