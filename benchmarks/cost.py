"""Floating-point operations and bytes, as XLA counts them."""

from typing import Any

import jax

from jaxseg_xai.models.convolution import textbook


def flops_of(function: Any, *arguments: Any) -> float | None:
    """FLOPs of one evaluation, counted before optimisation; None where XLA cannot tell.

    Before, because after it a GPU's convolutions are calls into libraries. Loop bodies are counted
    once: give a function without loops, and multiply. Of the layers as they are defined: what is
    added only to run them faster is no work done.
    """
    with textbook(True):
        return _count(jax.jit(function).lower(*arguments), "flops")


def bytes_of(compiled: Any) -> float | None:
    """Bytes that a compiled program reads and writes, after fusion; None where XLA cannot tell."""
    return _count(compiled, "bytes accessed")


def _count(stage: Any, name: str) -> float | None:
    analysis = stage.cost_analysis()
    found = (analysis or {}).get(name)
    return None if found is None or found <= 0 else float(found)
