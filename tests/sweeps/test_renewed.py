"""Images whose files were rewritten between two runs of a sweep."""

import dataclasses
import os

import pytest
from PIL import Image

from jaxseg_xai.store import ZarrStore
from jaxseg_xai.store.copy import copy_store
from jaxseg_xai.sweeps.config import make_job
from jaxseg_xai.sweeps.run import run_sweep
from tests import tiny

NAMES = [f"i{k}" for k in range(5)]


@pytest.fixture
def config(tmp_path, model):
    images = tiny.write_images(tmp_path / "images", NAMES)
    explain = (make_job(tiny.MISURE), make_job(tiny.ATE))
    return tiny.sweep_config(tmp_path / "s.zarr", model, images, explain=explain)


def rewrite(path, seed):
    """Another picture, or another label map, in the place of one."""
    image, disc = tiny.picture(seed)
    Image.fromarray(disc if path.parent.name == "labels" else image).save(path)


@pytest.mark.parametrize(
    ("part", "name", "workers"), [("images", "i1", 0), ("labels", "i3", 0), ("images", "i4", 1)]
)
def test_only_the_rows_of_a_changed_image_are_computed_again(config, part, name, workers, caplog):
    config = dataclasses.replace(config, workers=workers)
    first = run_sweep(config)
    folder = config.out.parent / "images" / part
    rewrite(folder / f"{name}.png", 77)
    again = run_sweep(config)
    assert again.times.computed == {"misure": 1, "ate": 1}
    assert again.counts == first.counts
    assert (
        f"images that changed since they were explained: 1 (the first: {name}); 2 rows"
        in caplog.text
    )
    assert run_sweep(config).times.num_images == 0
    # MiSuRe, which draws no patches, is as if the image had always been so.
    only = {"explain": config.explain[:1], "store_labels": True}
    fresh = dataclasses.replace(config, out=config.out.with_name("fresh.zarr"), **only)
    run_sweep(fresh)
    kept, made = ZarrStore.open(config.out), ZarrStore.open(fresh.out)
    for one, other in zip(kept.rows("misure"), made.rows("misure"), strict=True):
        assert (one.status, one.scores) == (other.status, other.scores)
        if one.status == 0:
            assert (kept.read(one).attribution == made.read(other).attribution).all()
        a, b = kept.read_image(one), made.read_image(other)
        assert (a.image == b.image).all()
        assert (a.labels == b.labels).all()


def test_a_file_that_was_only_copied_is_read_once_more_and_kept(config):
    run_sweep(config)
    for path in (config.out.parent / "images").rglob("*.png"):
        os.utime(path, (1e9, 1e9))
    assert run_sweep(config).times.computed == {"misure": 0, "ate": 0}


def test_what_cannot_be_read_any_longer_stays(config, caplog):
    first = run_sweep(config)
    path = config.out.parent / "images" / "images" / "i2.png"
    path.write_bytes(path.read_bytes()[:60])
    assert run_sweep(config).counts == first.counts
    assert "i2 is explained as it was; now it cannot be read" in caplog.text


def test_killed_before_the_rows_were_computed_again(config, monkeypatch):
    first = run_sweep(config)
    rewrite(config.out.parent / "images" / "images" / "i0.png", 78)
    with monkeypatch.context() as patch:
        patch.setattr(ZarrStore, "write_image", None)
        with pytest.raises(TypeError):
            run_sweep(config)
    assert sum(found.get("PENDING", 0) for found in ZarrStore.open(config.out).counts().values())
    assert run_sweep(config).counts == first.counts


def test_rows_that_are_not_asked_for_now_are_of_the_old_image_too(config):
    run_sweep(config)
    rewrite(config.out.parent / "images" / "images" / "i1.png", 79)
    only = dataclasses.replace(config, explain=config.explain[:1])
    assert run_sweep(only).times.computed == {"misure": 1}
    assert run_sweep(config).times.computed == {"misure": 0, "ate": 1}


def test_a_copy_of_a_store_knows_it_too(config):
    run_sweep(config)
    copied = copy_store(ZarrStore.open(config.out), config.out.with_name("copy.zarr"))
    ours, theirs = ZarrStore.open(config.out).image_columns(), copied.image_columns()
    assert all(ours["stamp"])
    assert all(ours["content"])
    assert all((ours[name] == theirs[name]).all() for name in ours)
