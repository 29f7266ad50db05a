"""What the machine can do, measured in this run, and what XLA says that a program needs."""

import os
import platform
import resource
import sys
from pathlib import Path
from typing import Any, get_args

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from benchmarks.harness.record import Machine, Memory
from benchmarks.harness.timing import compile_apart, timed
from jaxseg_xai.core.segmenter import Dtype
from jaxseg_xai.devices.mesh import AXIS, cpu_cores, replicate, shard_examples
from jaxseg_xai.ops.convolution import textbook

#: Side of the matrices; large enough for the peak, small enough for a fraction of a second each.
_GEMM_SIDE = {"cpu": 2048, "gpu": 8192, "tpu": 8192}
_QUICK_SIDE = 1024
#: Bytes of one array of the triad: several times the largest cache.
_TRIAD_BYTES = {"cpu": 2**27, "gpu": 2**30, "tpu": 2**29}
_TRIES = 5
_CPUS = Path("/proc/cpuinfo")  # on Linux


def describe_machine(mesh: Mesh, *, quick: bool = False) -> Machine:
    """Names, sizes and measured peaks of the devices of a mesh."""
    device = mesh.devices.flat[0]
    dtypes = ["float32"] if device.platform == "cpu" else get_args(Dtype)
    return Machine(
        cpu=_cpu_name(),
        cores=cpu_cores(),
        platform=device.platform,
        device_kind=device.device_kind,
        num_devices=mesh.size,
        memory_bytes=device_memory(mesh),
        gemm_flops={dtype: gemm_flops(mesh, dtype, quick=quick) for dtype in dtypes},
        bandwidth=bandwidth(mesh, quick=quick),
    )


def gemm_flops(mesh: Mesh, dtype: str, *, quick: bool = False) -> float:
    """FLOP/s of one [n, n] x [n, n] product per device, all at once, the best of several.

    Of random numbers: products of constants run faster on some accelerators.
    """
    side = _QUICK_SIDE if quick else _GEMM_SIDE[mesh.devices.flat[0].platform]

    def multiply(_: None, pair: jax.Array) -> jax.Array:
        with jax.default_matmul_precision(dtype):
            return (pair[0, 0] @ pair[0, 1])[None]

    number = jnp.bfloat16 if dtype == "bfloat16" else jnp.float32
    pairs = _dealt(jax.random.uniform(jax.random.key(0), (mesh.size, 2, side, side), number), mesh)
    run, _ = compile_apart(jax.jit(shard_examples(multiply, mesh)), None, pairs)
    best = min([timed(run, None, pairs)[1] for _ in range(_TRIES + 1)][1:])
    return mesh.size * 2 * side**3 / best


def bandwidth(mesh: Mesh, *, quick: bool = False) -> float:
    """Bytes/s of a + s b, all devices at once: two arrays read, one written; the best of several.

    The result overwrites a, so that no fresh pages are faulted in.
    """
    size = _TRIAD_BYTES[mesh.devices.flat[0].platform] // (4 if quick else 1)

    def triad(shared: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
        return shard_examples(lambda s, ab: ab[0] + s * ab[1], mesh)(shared, (a, b))

    a, b = (_dealt(jnp.full((mesh.size, size // 4), x, jnp.float32), mesh) for x in (1, 2))
    scale = replicate(jnp.float32(0.5), mesh)
    run, _ = compile_apart(jax.jit(triad, donate_argnums=1), scale, a, b)
    seconds = []
    for _ in range(_TRIES + 1):
        a, last = timed(run, scale, a, b)
        seconds.append(last)
    return 3 * mesh.size * size / min(seconds[1:])


def _dealt(rows: jax.Array, mesh: Mesh) -> jax.Array:
    """An array with a row for each device."""
    return jax.device_put(rows, jax.NamedSharding(mesh, PartitionSpec(AXIS)))


def peak_memory(compiled: Any | None, mesh: Mesh) -> Memory:
    """Peak memory so far, and what the compiled program (if there is one) needs."""
    stats = [device.memory_stats() for device in mesh.devices.flat]
    peaks = [found["peak_bytes_in_use"] for found in stats if found]
    # Kilobytes on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return Memory(
        program_bytes=None if compiled is None else program_bytes(compiled),
        device_peak_bytes=max(peaks) if peaks else None,
        process_peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
    )


def program_bytes(compiled: Any) -> int | None:
    """Arguments, outputs and temporaries of a compiled program, per device."""
    found = compiled.memory_analysis()
    if found is None:
        return None
    size = found.argument_size_in_bytes + found.output_size_in_bytes + found.temp_size_in_bytes
    return size - found.alias_size_in_bytes


def device_memory(mesh: Mesh) -> int | None:
    """Bytes of one device; CPU devices share the host's equally."""
    device = mesh.devices.flat[0]
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"]
    if device.platform == "cpu" and hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // mesh.size
    return None


def flops_of(function: Any, *arguments: Any) -> float | None:
    """FLOPs of one evaluation, counted before optimisation; None where XLA cannot tell.

    As for a CPU, because a GPU's client does not count. Loop bodies are counted once: give a
    function without loops, and multiply. Of the layers as they are defined: what is added only to
    run them faster is no work done.
    """
    try:
        host = jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS leaves it out
        return None
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), arguments)
    with textbook(True), jax.default_device(host):
        return _count(jax.jit(function).lower(*shapes), "flops")


def bytes_of(compiled: Any) -> float | None:
    """Bytes that a compiled program reads and writes, after fusion; None where XLA cannot tell."""
    return _count(compiled, "bytes accessed")


def _count(stage: Any, name: str) -> float | None:
    found = (stage.cost_analysis() or {}).get(name)
    return None if found is None or found <= 0 else float(found)


def _cpu_name() -> str:
    lines = _CPUS.read_text().splitlines() if _CPUS.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
