"""Workers as actors of Ray."""

import dataclasses
import pickle
import sys
from types import SimpleNamespace

import jax
import pytest

from jaxseg_xai.core.errors import ConfigError, JaxsegError, MismatchError, MissingExtraError
from jaxseg_xai.sweeps import ray_workers
from jaxseg_xai.sweeps.run import run_sweep
from tests.sweeps import kills


@pytest.fixture
def config(done, tmp_path):
    return dataclasses.replace(
        done[0], out=tmp_path / "s.zarr", workers=2, ray="local", lease_seconds=1.0
    )


class FakeRay:
    """A cluster whose actors answer at once with what they are told to."""

    class exceptions:
        RayError = ConnectionResetError

    def __init__(self, answers, resources=None, nodes=(2,)):
        self.answers, self.cluster = iter(answers), resources or {"CPU": sum(nodes)}
        self.options, self.cores = None, nodes

    def is_initialized(self):
        return True

    def cluster_resources(self):
        return self.cluster

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": float(n)}} for n in self.cores]

    def remote(self, **options):
        self.options = options
        actor = SimpleNamespace(explain=SimpleNamespace(remote=lambda *order: order))
        return lambda kind: SimpleNamespace(remote=lambda: actor)

    def wait(self, waiting, timeout):
        answer = next(self.answers, "never")
        return ([], waiting) if answer == "never" else ([answer], waiting[1:])

    def get(self, answer):
        if isinstance(answer, ConnectionResetError):
            raise answer
        return answer


def launched(monkeypatch, config, fake):
    monkeypatch.setitem(sys.modules, "ray", fake)
    return ray_workers.launch_on_ray(config)


def test_one_that_has_no_device_is_not_waited_for(config, monkeypatch):
    assert launched(monkeypatch, config, FakeRay(["done", "never"])) == ["done"]


def test_what_an_actor_reserves(config, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.delenv("JAX_NUM_CPU_DEVICES", raising=False)
    fake = FakeRay(["done", "done"], {"GPU": 4.0, "CPU": 24.0}, nodes=(16, 8))
    launched(monkeypatch, config, fake)
    assert fake.options["num_cpus"] == 8  # no actor is on two machines
    assert fake.options["runtime_env"] == {"env_vars": {"JAX_NUM_CPU_DEVICES": "8"}}
    monkeypatch.setenv("JAX_PLATFORMS", "")
    fake.answers = iter(["done", "done"])
    launched(monkeypatch, config, fake)
    assert fake.options["num_gpus"] == 1


def test_actors_that_die_or_refuse(config, monkeypatch, caplog):
    died = ConnectionResetError("its node is gone")
    assert launched(monkeypatch, config, FakeRay([died, "done"])) == ["done"]
    assert "a worker ended early (its node is gone); the others did its work" in caplog.text
    with pytest.raises(JaxsegError, match=r"all workers ended .* \(its node is gone\); the same"):
        launched(monkeypatch, config, FakeRay([died, died]))
    with pytest.raises(ConfigError, match="another sweep"):
        launched(monkeypatch, config, FakeRay([ConfigError("another sweep"), died]))


def test_what_is_asked_for_in_vain(config, monkeypatch):
    with pytest.raises(ConfigError, match="ray is set, and workers is 0"):
        run_sweep(dataclasses.replace(config, workers=0))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"jaxseg-xai\[ray\]"):
        run_sweep(config)


def test_errors_reach_another_process_as_they_are():
    errors = (MissingExtraError("x", "ray"), MismatchError("m", "names"), ConfigError("c"))
    for error in errors:
        found = pickle.loads(pickle.dumps(error))
        assert (type(found), str(found)) == (type(error), str(error))
    assert pickle.loads(pickle.dumps(errors[1])).details == "names"


def test_no_such_cluster(config, monkeypatch):
    fake = FakeRay([])
    fake.is_initialized = lambda: False
    monkeypatch.setitem(sys.modules, "ray", fake)
    with pytest.raises(ConfigError, match=r"no cluster of Ray answers there .*refused"):
        run_sweep(dataclasses.replace(config, ray="127.0.0.1:1"))


@pytest.mark.slow
def test_killed_twenty_times(tmp_path, capsys):
    """Actors, and now and then who asked for them; `python -m tests.sweeps --ray` does the same."""
    programs = jax.config.jax_compilation_cache_dir
    with capsys.disabled():
        for line in kills.compare(tmp_path, 2, 20, 512, programs, disturb=kills.disturb_on_ray):
            print(f"\nRay: {line}")
