"""Compiled programs that stay: the same call on other images compiles nothing."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxseg_xai.core.caches import cleared_by, jax_settings, make_room

#: How many programs are kept; the one that was not used for longest goes first.
_MOST = 64
#: And of one run, beside these.
_MOST_OF_A_RUN = 8
_programs: "OrderedDict[Any, Callable]" = OrderedDict()
_lock = threading.Lock()
cleared_by(_programs.clear)


class _Program:
    """A compiled program of 32 bits: JAX is told so where it is compiled and where it is called."""

    def __init__(self, lower: Callable[..., Any], arguments: tuple, static: dict[str, Any]) -> None:
        with jax.enable_x64(False):
            self._run = lower(*arguments, **static).compile()

    def __call__(self, *arguments: Any) -> Any:
        with jax.enable_x64(False):
            return self._run(*arguments)


class Programs:
    """The programs of one run by short keys: what `compiled` compares takes milliseconds.

    Few, so that what nobody uses any longer can be freed.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[Any, Callable] = OrderedDict()

    def get(
        self, key: Any, lower: Callable[..., Any], *arguments: Any, **static: Any
    ) -> tuple[Callable, float]:
        """`compiled`, where nothing was kept under a key that stands for all the rest."""
        seconds = 0.0
        if key not in self._kept:
            self._kept[key], seconds = compiled(lower, *arguments, **static)
        self._kept.move_to_end(key)
        if len(self._kept) > _MOST_OF_A_RUN:
            self._kept.popitem(last=False)
        return self._kept[key], seconds


def compiled(lower: Callable[..., Any], *arguments: Any, **static: Any) -> tuple[Callable, float]:
    """The compiled program for arguments of these shapes, and the seconds spent compiling it.

    It computes in 32 bits, whatever `jax_enable_x64` says.

    Args:
      lower: `lower` of a jitted function (or a function around it), asked where the program is new.
      *arguments: pytrees of arrays; static fields of dataclasses in them must be hashable.
      **static: hashable keyword arguments.

    Returns:
      (a function of the arguments that were traced, seconds: 0 where the program was there).
    """
    leaves, structure = jax.tree.flatten(arguments)
    shapes = tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
    key = (lower, structure, shapes, tuple(sorted(static.items())), jax_settings())
    with _lock:
        if key in _programs:
            _programs.move_to_end(key)
            return _programs[key], 0.0
    make_room()
    start = time.perf_counter()
    program = _Program(lower, arguments, static)
    seconds = time.perf_counter() - start
    with _lock:
        _programs[key] = program
        while len(_programs) > _MOST:
            _programs.popitem(last=False)
    return program, seconds
