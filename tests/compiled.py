"""Compiling takes most of the time of the tests: how they compile quickly, and only once."""

import contextlib
import os
import subprocess
import sys

import jax
from jax.experimental.compilation_cache import compilation_cache

#: Without the newer of XLA's two ways to make kernels for CPUs: the older one takes half the time.
_QUICK = "--xla_cpu_use_fusion_emitters=false"


def use_quick_kernels():
    """Set XLA's flag for this process and those that it starts; call before JAX is used."""
    flags = os.environ.get("XLA_FLAGS", "")
    if _QUICK.partition("=")[0] in flags:
        return
    flags = {"XLA_FLAGS": f"{flags} {_QUICK}"}
    # XLA ends a process whose flags it does not know, and a later version may not know this one.
    known = [sys.executable, "-c", "import jax; jax.devices()"]
    if not subprocess.run(known, env=os.environ | flags, capture_output=True).returncode:
        os.environ |= flags


def kernels_of_users():
    """Options of `jax.jit` for kernels as users have them; the last bits of others may differ."""
    quick = _QUICK in os.environ.get("XLA_FLAGS", "")
    return {_QUICK[2:].partition("=")[0]: True} if quick else {}


@contextlib.contextmanager
def compiled_programs_kept(folder):
    """Programs that tests share are compiled once."""
    settings = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
