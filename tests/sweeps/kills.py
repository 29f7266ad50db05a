"""Sweeps whose processes are killed at random moments, compared with one that nobody disturbed.

A process dies by SIGKILL in a random one of its writes: of the store that it makes, a journal, a
shard, a column or a lease. Another takes its place. `--workers 0` is one process, alone.

With Ray, its actors and now and then the process that asked for them are killed by the clock.
"""

import contextlib
import dataclasses
import itertools
import multiprocessing
import os
import signal
from multiprocessing.connection import wait

import jax
import numpy as np
import psutil
import zarr

from jaxseg_xai.store import ZarrStore
from jaxseg_xai.sweeps import engine
from jaxseg_xai.sweeps.run import run_sweep
from tests import tiny

#: Writes of a process until it dies, at most: a store of 512 rows takes some 300.
MOST_WRITES = 120
#: Seconds until the next one dies, with Ray, at most, and how often it is the one that asked.
MOST_SECONDS, DRIVERS = 3.0, 0.2
#: Processes that have imported everything, and started nothing.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.sweeps.kills"])


def run_until(kill_at, config, programs):
    """A sweep that keeps every batch at once, and dies in the n-th write; -1: it does not."""
    jax.config.update("jax_num_cpu_devices", 1)
    jax.config.update("jax_compilation_cache_dir", programs)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_disable_most_optimizations", True)  # as everywhere in the tests
    engine._SECONDS = 0.0
    count = itertools.count()

    def dying(write):
        def wrapped(*args, **options):
            if next(count) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return write(*args, **options)

        return wrapped

    local = zarr.storage.LocalStore
    local.set_sync = dying(local.set_sync)
    local.set_if_not_exists = dying(local.set_if_not_exists)
    run_sweep(config, progress=False)


def start(kill_at, config, programs):
    """`run_until` in a process."""
    process = CONTEXT.Process(target=run_until, args=(kill_at, config, programs))
    process.start()
    return process


def disturb(config, programs, kills, rng):
    """Run a sweep, a new process for each that dies; how many died, after `kills` none is told to.

    With as many workers at a time as the configuration says.
    """
    number = max(1, config.workers)
    config = dataclasses.replace(config, workers=min(1, config.workers))
    running, told, died, done = [], 0, 0, False
    while running or not done:
        while len(running) < number and not done:
            at = int(rng.integers(MOST_WRITES)) if told < kills else -1
            running.append(start(at, config, programs))
            told += 1
        wait([process.sentinel for process in running])
        for process in [process for process in running if process.exitcode is not None]:
            running.remove(process)
            if process.exitcode not in (0, -signal.SIGKILL):
                for other in running:  # which nobody would wait for
                    other.kill()
                raise AssertionError(f"a process ended with {process.exitcode}")
            died += process.exitcode != 0
            done = done or process.exitcode == 0
    if died and not whole(config.out):  # the last one died when another had seen the end
        run = start(-1, config, programs)
        run.join()
    return died


def run_on_ray(config, programs):
    """The sweep by actors of a cluster of its own."""
    os.environ["JAX_NUM_CPU_DEVICES"] = "1"
    jax.config.update("jax_compilation_cache_dir", programs)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_disable_most_optimizations", True)
    run_sweep(config, progress=False)


def disturb_on_ray(config, programs, kills, rng):
    """As `disturb`, by actors of Ray; SIGKILL comes by the clock."""
    config = dataclasses.replace(config, ray="local")
    died = 0
    while True:
        driver = CONTEXT.Process(target=run_on_ray, args=(config, programs))
        driver.start()
        while driver.exitcode is None:
            driver.join(rng.uniform(0, MOST_SECONDS))
            if died < kills and (actors := actors_of(driver.pid)):
                victim = driver.pid if rng.random() < DRIVERS else rng.choice(actors)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                    died += 1
        driver.join()
        if driver.exitcode not in (0, -signal.SIGKILL):
            raise AssertionError(f"the process that asked Ray ended with {driver.exitcode}")
        if driver.exitcode == 0 and whole(config.out):
            return died


def actors_of(driver):
    """Processes of the actors that explain just now, of a cluster that a process began."""
    try:
        found = psutil.Process(driver).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    pids = []
    for process in found:
        with contextlib.suppress(psutil.Error):
            if any("explain" in word for word in process.cmdline()[:1]):
                pids.append(process.pid)
    return pids


def whole(path):
    """Whether every row has a result."""
    return all("PENDING" not in found for found in ZarrStore.open(path).counts().values())


def compare(folder, workers, kills, rows, programs, seed=0, disturb=disturb):
    """Undisturbed and disturbed sweeps of as many rows; a line for each store."""
    model = tiny.write_model(folder / "model")
    images = tiny.write_images(folder / "images", [f"i{k}" for k in range(rows // 2)])
    config = tiny.sweep_config(folder / "undisturbed.zarr", model, images, lease_seconds=2.0)
    first = start(-1, config, programs)
    first.join()
    assert first.exitcode == 0
    rng, died = np.random.default_rng(seed), 0
    for number in itertools.count():
        out = folder / f"s{number}.zarr"
        died += disturb(
            dataclasses.replace(config, out=out, workers=workers), programs, kills - died, rng
        )
        tiny.assert_same_store(out, config.out)
        store = ZarrStore.open(out)
        assert store.damage() == []
        counts = store.counts()
        assert sum(n for found in counts.values() for n in found.values()) == rows
        yield f"{out.name}: {died} killed so far; {counts}, bit-equal to the undisturbed sweep"
        if died >= kills:
            return
