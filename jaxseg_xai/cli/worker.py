"""A worker of a sweep, as `sweeps.launch` and `sweeps.ray_workers` start it."""

import os
import pickle
import signal
import sys
import threading

import jax

from jaxseg_xai.cli.log_json import json_lines
from jaxseg_xai.cli.terminate import EXIT_RESUME, Terminated, resumable
from jaxseg_xai.core.errors import JaxsegError
from jaxseg_xai.sweeps.launch import Order
from jaxseg_xai.sweeps.run import SweepResult, run_sweep

EXIT_OK, EXIT_FAILED, EXIT_INTERRUPTED = 0, 2, 130


def main() -> int:
    """Do what standard input says, and write what became of it to standard output, both pickled."""
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever is printed is no answer
    order = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        with resumable():
            result = work(order)
    except Terminated:
        return EXIT_RESUME
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    with answer:
        pickle.dump(result, answer)
    return EXIT_FAILED if isinstance(result, JaxsegError) else EXIT_OK


def work(order: Order) -> SweepResult | JaxsegError:
    """Do what an order says; what became of it."""
    for name, value in order.settings.items():
        jax.config.update(name, value)
    jax.config.update("jax_enable_x64", False)
    try:
        with json_lines(order.sweep.log_json):
            return run_sweep(order.sweep, progress=False)
    except JaxsegError as error:
        return error


def _end_with_parent() -> None:
    # Not by `sys.stdin`, whose lock a thread may not have when Python ends.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
