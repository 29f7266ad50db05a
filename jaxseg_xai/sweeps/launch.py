"""Workers of a sweep as processes of this machine, each with devices of its own."""

import contextlib
import dataclasses
import logging
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any, Self

import jax

from jaxseg_xai.core.errors import ConfigError, JaxsegError
from jaxseg_xai.devices.mesh import cpu_cores
from jaxseg_xai.sweeps.config import SweepConfig

#: The program of a worker: it reads an `Order` and writes what became of it, both pickled.
PROGRAM = "jaxseg_xai.cli.worker"
#: Settings of JAX that a worker takes over.
_SETTINGS = (
    *("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"),
    "jax_disable_most_optimizations",
)
#: Seconds that workers have to end.
_PATIENCE = 22.0


@dataclasses.dataclass(frozen=True)
class Order:
    """What a worker is told.

    Attributes:
      sweep: the configuration.
      settings: of JAX.
    """

    sweep: SweepConfig
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, config: SweepConfig) -> Self:
        """To be one worker of a sweep, as this process would."""
        return cls(
            sweep=dataclasses.replace(config, workers=1, ray=""),
            settings={name: jax.config.values[name] for name in _SETTINGS},
        )


def launch(config: SweepConfig) -> list[Any]:
    """Run `config.workers` workers to their end; the results of those that came there.

    One that dies does not matter as long as others are left, which do its work. They end when this
    process ends, however it does.

    Raises:
      ConfigError: there are not as many GPUs.
      JaxsegError: no worker came to the end; the message is that of one of them, if one said why.
    """
    environments = [_devices(number, config.workers) for number in range(config.workers)]
    order = pickle.dumps(Order.of(config))
    workers: list[subprocess.Popen] = []
    with contextlib.ExitStack() as stack:
        stack.callback(_end, workers)
        answers = [stack.enter_context(tempfile.TemporaryFile()) for _ in environments]
        for answer, environment in zip(answers, environments, strict=True):
            worker = subprocess.Popen(
                [sys.executable, "-m", PROGRAM],
                stdin=subprocess.PIPE,
                stdout=answer,
                env={**os.environ, **environment},
            )
            workers.append(worker)
            assert worker.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it ended
                worker.stdin.write(order)
                worker.stdin.flush()  # and stays open for as long as this process lives
        while any(worker.poll() is None for worker in workers):
            time.sleep(0.1)
        found = [_answer(answer) for answer in answers]
    results = [one for one in found if one is not None and not isinstance(one, JaxsegError)]
    codes = ", ".join(str(worker.returncode) for worker in workers)
    if not results:
        for error in found:
            if error is not None:
                raise error
        raise JaxsegError(
            f"all workers ended before the sweep did (exit codes {codes}); the same command "
            "continues, with fewer workers if there was not enough memory"
        )
    if len(results) < len(workers):
        logging.getLogger(__name__).warning(
            f"{len(workers) - len(results)} of {len(workers)} workers ended early (exit codes "
            f"{codes}); the others did their work"
        )
    return results


def _devices(number: int, workers: int) -> dict[str, str]:
    """Environment variables that give one of the workers its devices: a GPU, or some cores."""
    gpus = _gpus()
    if gpus:
        if workers > len(gpus):
            raise ConfigError(
                f"workers is {workers}, and there are {len(gpus)} GPUs, of which each worker takes "
                "one; ask for fewer"
            )
        return {"CUDA_VISIBLE_DEVICES": gpus[number]}
    if "JAX_NUM_CPU_DEVICES" in os.environ:
        return {}
    return {"JAX_NUM_CPU_DEVICES": str(max(1, cpu_cores() // workers))}


def _gpus() -> list[str]:
    """Names of the GPUs; they are not touched."""
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return []
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is not None:
        return [name for name in told.split(",") if name.strip()]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [str(number) for number, _ in enumerate(listed.stdout.splitlines())]


def _end(workers: list[subprocess.Popen]) -> None:
    running = [worker for worker in workers if worker.poll() is None]
    for worker in running:
        worker.terminate()
    end = time.monotonic() + _PATIENCE
    for worker in running:
        try:
            worker.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.kill()
    for worker in workers:
        if worker.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                worker.stdin.close()


def _answer(file: Any) -> Any:
    """What a worker wrote; None where it did not come to that."""
    file.seek(0)
    try:
        return pickle.load(file)
    except (EOFError, pickle.UnpicklingError):
        return None
