"""What is kept of models (traces, plans, compiled programs), in one place that can free it.

All of it is bounded, and goes by the settings of JAX that change a program. It keeps models alive,
with their weights where a function has captured them, until `clear_caches` is called or others
take their place.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import jax

_P = ParamSpec("_P")
_R = TypeVar("_R")

#: Linux: the memory maps of this process, a line each, and how many one may have.
_MAPS, _MOST_MAPS = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")
#: Programs may take this share of them. What is compiled next needs some, too.
_SHARE = 0.5
#: Empties what is kept, one function a cache.
_clear: list[Callable[[], None]] = []


def clear_caches() -> None:
    """Forget every program that was traced or compiled, JAX's own included, and free its memory.

    What is explained next is compiled anew.
    """
    for clear in _clear:
        clear()
    jax.clear_caches()


def make_room() -> None:
    """`clear_caches` where programs have taken half of the memory maps that a process may have.

    On CPUs a program takes dozens of them, and JAX keeps what it has compiled: after some hundred
    sizes of images the process would end by a segmentation fault.
    """
    try:
        taken, most = _MAPS.read_bytes().count(b"\n"), int(_MOST_MAPS.read_text())
    except OSError:
        return  # another system, which has no such limit
    if taken > _SHARE * most:
        clear_caches()


def cleared_by(clear: Callable[[], None]) -> None:
    """Let `clear_caches` call `clear`, too."""
    _clear.append(clear)


def jax_settings() -> tuple[Any, ...]:
    """The settings of JAX that change what a program computes, or where; hashable."""
    names = (
        "jax_enable_x64",
        "jax_default_matmul_precision",
        "jax_default_device",
        "jax_numpy_dtype_promotion",
        "jax_debug_nans",
    )
    return tuple(getattr(jax.config, name) for name in names)


def remembered(most: int) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """`functools.lru_cache` of at most so many results, by the settings of JAX, too."""

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        @functools.lru_cache(maxsize=most)
        def kept(settings: Any, *args: Any, **kwargs: Any) -> _R:
            del settings
            return function(*args, **kwargs)

        cleared_by(kept.cache_clear)

        @functools.wraps(function)
        def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            return kept(jax_settings(), *args, **kwargs)

        return call

    return decorate
