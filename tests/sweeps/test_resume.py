"""A sweep that is run again: what continues, what is tried again, what is refused."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.store import ZarrStore
from jaxseg_xai.store.pools import read_pool
from jaxseg_xai.store.writer import sole_writer
from jaxseg_xai.sweeps.config import make_job
from jaxseg_xai.sweeps.run import run_sweep
from tests import tiny
from tests.sweeps.programs import CompileLog

MISURE, ATE = (make_job(explainer) for explainer in (tiny.MISURE, tiny.ATE))


def rows_of(pool):
    return {tuple(row) for row in pool.sources.tolist()}


def interrupt_after(monkeypatch, writes):
    """The store's `write` raises KeyboardInterrupt at the given call."""
    calls = iter(range(10**6))
    write = ZarrStore.write

    def wrapped(*args, **options):
        if next(calls) == writes:
            raise KeyboardInterrupt
        return write(*args, **options)

    monkeypatch.setattr(ZarrStore, "write", wrapped)


def test_a_second_run_computes_and_changes_nothing(done):
    config, _ = done
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in config.out.rglob("c.*")}
    with CompileLog() as log:
        again = run_sweep(config)
    assert again.times.computed == {"misure": 0, "ate": 0}
    assert again.times.num_images == 0
    assert log.count("_explain_batch") == 0
    assert before == {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in config.out.rglob("c.*")}


@pytest.mark.parametrize("writes", [2, 13])
def test_an_interrupted_run_continues_to_the_same_bits(done, monkeypatch, tmp_path, writes):
    config = dataclasses.replace(done[0], out=tmp_path / "s.zarr")
    with monkeypatch.context() as patch:
        interrupt_after(patch, writes)
        with pytest.raises(KeyboardInterrupt):
            run_sweep(config)
    store = ZarrStore.open(config.out)
    pending = sum(len(store.pending(name)) for name in store.labels)
    assert pending == 24 - writes  # what was written before the interruption is kept
    run_sweep(config)
    tiny.assert_same_store(config.out, done[0].out)


def test_batch_sizes_may_change_between_runs(done):
    ate = dataclasses.replace(tiny.ATE, batch_size=2)
    config = dataclasses.replace(
        done[0], batch_size=16, explain=(make_job(tiny.MISURE), make_job(ate))
    )
    assert run_sweep(config).times.computed == {"misure": 0, "ate": 0}


def test_label_maps_cannot_be_asked_for_halfway(done):
    config = dataclasses.replace(done[0], store_labels=True)
    with pytest.raises(ConfigError, match=r"store_labels was False, is True.*--out, or --overw"):
        run_sweep(config)


def test_a_store_of_a_version_that_knew_fewer_settings_continues(tmp_path, model, images):
    config = tiny.sweep_config(tmp_path / "s.zarr", model, images, explain=(MISURE,))
    run_sweep(config)
    root = config.out / "zarr.json"
    stored = json.loads(root.read_text())
    settings = stored["attributes"]["config"]
    del settings["data"]["sizes"], settings["input"]["spacing"], settings["input"]["crop"]
    settings["resize"] = None  # of a version that had one setting more
    root.write_text(json.dumps(stored))
    assert run_sweep(config).times.computed == {"misure": 0}
    data = dataclasses.replace(config.data, sizes=(48, 48))
    with pytest.raises(ConfigError, match=r"data.sizes was absent, is \[48, 48\]"):
        run_sweep(dataclasses.replace(config, data=data))


def test_weights_trained_anew_are_another_sweep(images, tmp_path):
    model = tiny.write_model(tmp_path / "model")
    config = tiny.sweep_config(tmp_path / "s.zarr", model, images, explain=(MISURE,))
    run_sweep(config)
    tiny.write_model(model, seed=1)
    with pytest.raises(ConfigError, match="weights_checksum"):
        run_sweep(config)


def test_another_architecture_or_pool_does_not_continue_a_store(tmp_path, images):
    model = tiny.write_model(tmp_path / "model")
    config = tiny.sweep_config(tmp_path / "s.zarr", model, images)
    run_sweep(config)
    card = json.loads((model / "model.json").read_text())
    card["config"]["upsample"] = "nearest"
    (model / "model.json").write_text(json.dumps(card))
    with pytest.raises(ConfigError, match="architecture"):
        run_sweep(config)
    del card["config"]["upsample"]
    (model / "model.json").write_text(json.dumps(card))
    source = tiny.write_images(tmp_path / "more", ["i20", "i21"])
    with pytest.raises(ConfigError, match="others_source"):
        run_sweep(dataclasses.replace(config, others_source=str(source)))


def test_what_changed_in_one_entry_is_computed_again(done, tmp_path, caplog):
    config = dataclasses.replace(done[0], out=shutil.copytree(done[0].out, tmp_path / "s.zarr"))
    other = make_job(dataclasses.replace(tiny.ATE, num_patches=2))
    added = make_job(("ate2", tiny.ATE))
    config = dataclasses.replace(config, explain=(MISURE, other, added))
    result = run_sweep(config)
    assert "explain.ate.num_patches was 3, is 2; 12 rows are computed" in caplog.text
    assert "ate2 is new" in caplog.text
    assert result.times.computed == {"misure": 0, "ate": 6, "ate2": 6}
    fresh = dataclasses.replace(config, out=tmp_path / "fresh.zarr")
    run_sweep(fresh)
    tiny.assert_same_store(config.out, fresh.out)
    caplog.clear()
    # What nobody asks for any longer stays, and comes back.
    assert run_sweep(dataclasses.replace(config, explain=(other,))).times.computed == {"ate": 0}
    assert run_sweep(config).times.computed == {"misure": 0, "ate": 0, "ate2": 0}
    assert caplog.text == ""


def test_a_store_has_one_writer(tmp_path, model, images):
    config = tiny.sweep_config(tmp_path / "s.zarr", model, images, explain=(MISURE,))
    with sole_writer(config.out), pytest.raises(ConfigError, match="another sweep is writing"):
        run_sweep(config)
    assert run_sweep(config).num_failed == 0


def test_a_repaired_image_continues_with_the_same_patches(tmp_path, model):
    source = tiny.write_images(tmp_path / "data", ["i0", "i1", "i2", "i3"])
    whole = tiny.sweep_config(tmp_path / "whole.zarr", model, source, explain=(ATE,))
    broken = source / "images" / "i1.png"
    good = broken.read_bytes()
    broken.write_bytes(good[:50])
    config = dataclasses.replace(whole, out=tmp_path / "s.zarr")
    assert run_sweep(config).num_failed == 1
    pool = read_pool(config.out, 8)
    broken.write_bytes(good)
    assert run_sweep(dataclasses.replace(config, retry_failed=True)).counts["ate"] == {"OK": 4}
    np.testing.assert_array_equal(read_pool(config.out, 8).patches, pool.patches)
    run_sweep(whole)  # with the repaired image in its pool, as `--overwrite` would
    assert rows_of(read_pool(whole.out, 8)) > rows_of(pool)


def test_failed_images_are_tried_again_on_request(tmp_path, model):
    source = tiny.write_images(tmp_path / "data", ["i0", "i1", "i2"])
    broken = source / "images" / "i1.png"
    good = broken.read_bytes()
    broken.write_bytes(good[:50])
    config = tiny.sweep_config(tmp_path / "s.zarr", model, source, explain=(MISURE,))
    assert run_sweep(config).num_failed == 1
    broken.write_bytes(good)
    assert run_sweep(config).num_failed == 1
    result = run_sweep(dataclasses.replace(config, retry_failed=True))
    assert result.num_failed == 0
    assert result.times.computed == {"misure": 1}
