"""Workers of a sweep as actors of Ray, each on devices that Ray gives it."""

import contextlib
import importlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

from jaxseg_xai.core.errors import ConfigError, JaxsegError, MissingExtraError, reason_of
from jaxseg_xai.devices.mesh import cpu_cores
from jaxseg_xai.sweeps.config import SweepConfig
from jaxseg_xai.sweeps.launch import PROGRAM, Order

#: How often Ray starts a worker anew that died: a machine that was taken away, say.
_RESTARTS = 100
#: Seconds that the others have to end once one has seen the end of the sweep.
_PATIENCE = 22.0
_log = logging.getLogger(__name__)


class _Actor:
    """A process of Ray, on devices of its own."""

    def explain(self, order: Order, folder: str) -> Any:
        """What became of the sweep, or a `JaxsegError`."""
        with contextlib.suppress(OSError):  # another machine may have no such folder
            os.chdir(folder)
        return importlib.import_module(PROGRAM).work(order)


def launch_on_ray(config: SweepConfig) -> list[Any]:
    """Run `config.workers` actors until one has seen the end of the sweep; what came of them.

    An actor that dies is started anew. On a cluster they wait until there is a device for them, and
    end when this process does.

    Raises:
      MissingExtraError: Ray is not installed.
      ConfigError: there is no such cluster.
      JaxsegError: no worker came to the end; the message is that of one of them, if one said why.
    """
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError as error:
        raise MissingExtraError("ray is set: the workers as actors of Ray", "ray") from error
    order = Order.of(config)
    with _connection(ray, config.ray):
        options = {"max_restarts": _RESTARTS, "max_task_retries": _RESTARTS}
        kind = ray.remote(**options, **_devices(ray, config.workers))(_Actor)
        # Kept: an actor that nobody holds ends.
        actors = [kind.remote() for _ in range(config.workers)]
        waiting = [actor.explain.remote(order, os.getcwd()) for actor in actors]
        found, reasons = [], []
        while waiting:
            done, waiting = ray.wait(waiting, timeout=_PATIENCE if found else None)
            if not done:
                break  # they still wait for a device
            try:
                found.append(ray.get(done[0]))
            except ray.exceptions.RayError as error:
                reasons.append(reason_of(error))
    results = [one for one in found if not isinstance(one, JaxsegError)]
    if not results:
        for error in found:
            raise error
        raise JaxsegError(
            f"all workers ended before the sweep did ({reasons[0]}); the same command continues"
        )
    for reason in reasons:
        _log.warning(f"a worker ended early ({reason}); the others did its work")
    return results


@contextlib.contextmanager
def _connection(ray: Any, address: str) -> Iterator[None]:
    """Ray, as the caller has it or begun here; it ends here if it was."""
    if ray.is_initialized():
        yield
        return
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    options = {"num_cpus": cpu_cores(), "include_dashboard": False} if address == "local" else {}
    try:
        _knock(address)
        ray.init(address, logging_level=logging.ERROR, **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"ray is {address!r}: no cluster of Ray answers there ({reason_of(error)}); begin one "
            "with `ray start --head`, or set ray to local"
        ) from error
    try:
        if in_main:
            signal.signal(signal.SIGTERM, handler)  # Ray has set its own
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise `OSError` where nobody listens: Ray would try for minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()


def _devices(ray: Any, workers: int) -> dict[str, Any]:
    """What Ray reserves for an actor: a GPU, or some cores."""
    if ray.cluster_resources().get("GPU") and os.environ.get("JAX_PLATFORMS") != "cpu":
        return {"num_gpus": 1}
    # No actor is on two machines.
    cores = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    each = max(1, min(sum(cores) // workers, min(filter(None, cores), default=1)))
    told = os.environ.get("JAX_NUM_CPU_DEVICES", str(each))
    return {"num_cpus": each, "runtime_env": {"env_vars": {"JAX_NUM_CPU_DEVICES": told}}}
