"""Floating-point operations and bytes, as XLA counts them."""

from typing import Any

import jax

from jaxseg_xai.ops.convolution import textbook


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
    analysis = stage.cost_analysis()
    found = (analysis or {}).get(name)
    return None if found is None or found <= 0 else float(found)
