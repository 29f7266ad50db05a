"""Many processes that share a sweep."""

import dataclasses

import jax
import pytest

from jaxseg_xai.cli import main as cli
from jaxseg_xai.core.errors import ConfigError, JaxsegError
from jaxseg_xai.explainers.cam.grad_cam import GradCam
from jaxseg_xai.store import ZarrStore
from jaxseg_xai.store.leases import Leases
from jaxseg_xai.sweeps import launch as module
from jaxseg_xai.sweeps.config import make_job
from jaxseg_xai.sweeps.launch import launch
from jaxseg_xai.sweeps.run import run_into_zarr, run_sweep, work_of
from jaxseg_xai.sweeps.worker import images_per_part
from tests import tiny
from tests.sweeps import kills


@pytest.fixture
def config(done, tmp_path):
    return dataclasses.replace(done[0], out=tmp_path / "s.zarr", workers=1, lease_seconds=1.0)


def test_the_same_bytes_as_one_process(config, done):
    result = run_sweep(config)
    assert result.counts == done[1].counts
    tiny.assert_same_store(config.out, done[0].out)
    assert not (config.out.parent / ".s.zarr.leases").exists()
    assert not (config.out / "journal").exists()
    again = run_sweep(config)
    assert again.times.computed == {"misure": 0, "ate": 0}
    assert ZarrStore.open(config.out).attrs["times"]["ate"]["explanations"] > 0


def test_another_takes_the_part_of_one_that_died_and_joins_by_itself(config, done):
    run_sweep(config)
    with pytest.raises(ConfigError, match="overwrite would delete what other workers make"):
        run_sweep(dataclasses.replace(config, overwrite=True))
    # As a worker leaves it that was killed in the middle of its first part.
    leases = Leases(config.out, 1.0)
    leases.share()
    lease = leases.take("0")
    lease._over.set()
    alone = dataclasses.replace(config, workers=0)
    assert run_sweep(alone).counts == done[1].counts
    assert not leases.shared


def test_what_a_late_worker_left_passes_for_no_part(config, done):
    """It came when the sweep was over, said that its part is done, and died."""
    run_sweep(config)
    Leases(config.out, 1.0).take("0").finish()
    more = dataclasses.replace(config, explain=(*config.explain, make_job(GradCam())))
    assert set(run_sweep(more).counts["grad_cam"]) <= {"OK", "EMPTY_TARGET"}
    assert not (config.out.parent / ".s.zarr.leases").exists()


def test_one_process_keeps_no_leases(config):
    run_sweep(dataclasses.replace(config, workers=0))
    assert {path.name for path in config.out.parent.iterdir()} == {"s.zarr", ".s.zarr.lock"}


def test_parts_are_whole_batches():
    for classes in (1, 2, 3):
        size = images_per_part(500, classes, 8)
        assert size * classes % 8 == 0
    assert -(-(10**6) // images_per_part(10**6, 3, 8)) <= 4096


def test_another_sweep_cannot_join(config):
    run_sweep(config)
    Leases(config.out).share()
    with pytest.raises(ConfigError, match="holds another sweep: seed was 0, is 1"):
        run_sweep(dataclasses.replace(config, seed=1))


def test_objects_are_in_one_process(config):
    with pytest.raises(ConfigError, match="workers are processes, which do not see"):
        run_into_zarr(work_of(config), dataclasses.replace(config, workers=2))


def test_workers_and_gpus(config, monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert module._devices(1, 2) == {"CUDA_VISIBLE_DEVICES": "5"}
    with pytest.raises(ConfigError, match="workers is 3, and there are 2 GPUs"):
        launch(dataclasses.replace(config, workers=3))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setattr(module, "cpu_cores", lambda: 8)
    assert module._devices(1, 4) == {"JAX_NUM_CPU_DEVICES": "2"}


def test_workers_that_all_end_early(config, monkeypatch):
    monkeypatch.setattr(module, "PROGRAM", "no_such_program")
    config = dataclasses.replace(config, workers=2)
    with pytest.raises(JaxsegError, match=r"all workers ended before .*exit codes 1, 1"):
        launch(config)


@pytest.mark.slow
def test_local_processes_by_the_command(model, images, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", str(len(jax.devices())))
    out = tmp_path / "s.zarr"
    flags = ["--model", str(model), "--data.source", str(images), *tiny.FLAGS]
    command = ["sweep", *flags, "--classes", "bright", "--workers", "2", "--out", str(out)]
    assert cli.main(command) == 0
    assert "misure: 6 OK" in capsys.readouterr().out
    assert cli.main([*command, "--seed", "1"]) == 2
    assert "holds another sweep: seed was 0, is 1" in capsys.readouterr().err
    alone = tmp_path / "alone.zarr"
    assert cli.main([*command[:-4], "--out", str(alone)]) == 0
    tiny.assert_same_store(out, alone)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 4])
def test_killed_twenty_times(workers, tmp_path, capsys):
    """512 rows; `python -m tests.sweeps` does the same."""
    with capsys.disabled():
        for line in kills.compare(tmp_path, workers, 20, 512, jax.config.jax_compilation_cache_dir):
            print(f"\n{workers} workers: {line}")
