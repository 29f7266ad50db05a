"""The same sweep on other numbers of devices, and by other numbers of workers."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxseg_xai.store import ZarrStore
from jaxseg_xai.sweeps.run import run_sweep
from tests import tiny
from tests.sweeps.kills import CONTEXT

_ROWS = 32


def run_on(devices, config, programs):
    """A sweep in this process, which has so many devices."""
    jax.config.update("jax_num_cpu_devices", devices)
    jax.config.update("jax_compilation_cache_dir", programs)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_disable_most_optimizations", True)
    run_sweep(config, progress=False)


def store_of(out, config, *, devices=1, workers=0):
    """What so many processes store, each with so many devices."""
    config = dataclasses.replace(config, out=out, workers=min(workers, 1))
    programs = jax.config.jax_compilation_cache_dir
    arguments = devices, config, programs
    processes = [CONTEXT.Process(target=run_on, args=arguments) for _ in range(max(1, workers))]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * len(processes)
    return ZarrStore.open(out)


def assert_same_explanations(one, other):
    """The ATE bit by bit; MiSuRe, whose search rounding moves, by its loss, area and Dice."""
    for label in one.labels:
        for a, b in zip(one.rows(label), other.rows(label), strict=True):
            assert a.status == b.status
            if label == "ate":
                assert a.scores == b.scores
                np.testing.assert_array_equal(one.read(a).attribution, other.read(b).attribution)
                continue
            for name, value in a.scores.items():
                bound = 0.02 if name.startswith(("area", "dice")) else 1e-3
                assert b.scores[name] == pytest.approx(value, rel=bound, abs=bound), name


@pytest.mark.slow
def test_devices_and_workers(model, tmp_path):
    images = tiny.write_images(tmp_path / "images", [f"i{k}" for k in range(_ROWS)])
    config = tiny.sweep_config(tmp_path / "s.zarr", model, images, batch_size=8, lease_seconds=2.0)
    first = store_of(tmp_path / "1.zarr", config)
    assert sum(first.counts()["ate"].values()) == _ROWS
    for devices in (2, 8):
        other = store_of(tmp_path / f"{devices}.zarr", config, devices=devices)
        assert_same_explanations(first, other)
    for workers in (1, 2, 4):
        out = tmp_path / f"workers{workers}.zarr"
        store_of(out, config, workers=workers)
        tiny.assert_same_store(out, tmp_path / "1.zarr")
