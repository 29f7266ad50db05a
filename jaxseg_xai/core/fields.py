"""Settings as dataclass fields that know their bounds; `check` looks at all of them at once.

For example:

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Settings:
        block_size: int = setting(8, static=True, at_least=1)
        tau: float = setting(0.9, above=0, at_most=1)

    check(settings, "ate")  # ConfigError: ate.block_size is 0; it must be at least 1
"""

import dataclasses
import functools
import math
import typing
from collections.abc import Container, Iterable
from typing import Any

import pydantic

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.registry import Registry

#: Bound -> how it reads in a message, and whether a value keeps it.
_BOUNDS = {
    "at_least": ("at least {}", lambda value, bound: value >= bound),
    "above": ("above {}", lambda value, bound: value > bound),
    "at_most": ("at most {}", lambda value, bound: value <= bound),
    "below": ("below {}", lambda value, bound: value < bound),
}


def setting(
    default: Any = dataclasses.MISSING,
    *,
    static: bool = False,
    idle: bool = False,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    odd: bool = False,
    choices: Container[str] | Registry | None = None,
) -> Any:
    """A dataclass field with its bounds.

    Args:
      default: its default; none where left out.
      static: changing it compiles another program (of a pytree: no leaf).
      idle: it says how something is computed, not what; a sweep may go on with another value.
      at_least: lower bound, included. Bounds hold for every element of a tuple; None is in bounds.
      above: lower bound, excluded.
      at_most: upper bound, included.
      below: upper bound, excluded.
      odd: whether it must be odd.
      choices: the only values, a tuple of them or a registry of names.
    """
    bounds = {"at_least": at_least, "above": above, "at_most": at_most, "below": below}
    metadata = {
        "static": static,
        "idle": idle,
        "bounds": {name: bound for name, bound in bounds.items() if bound is not None},
        "odd": odd,
        "choices": choices,
    }
    return dataclasses.field(default=default, metadata=metadata)


def check(settings: Any, name: str = "") -> None:
    """Raise `ConfigError` for the first value of another type, out of its bounds, or not finite.

    Dataclasses among the fields are checked too. A method `check_together` of the settings, if
    there is one, is called last: for what no single field can say.

    Args:
      settings: a dataclass instance.
      name: what the messages put before the name of a field, "ate".
    """
    for field in dataclasses.fields(settings):
        value, label = getattr(settings, field.name), f"{name}.{field.name}" if name else field.name
        if dataclasses.is_dataclass(value):
            check(value, label)
            continue
        if field.metadata.get("choices", field) is None:
            _check_type(type(settings), field.name, value, label)
        for item in value if isinstance(value, tuple) else (value,):
            _check_one(item, label, field.metadata)
    together = getattr(settings, "check_together", None)
    if together is not None:
        together()


def idle_fields(settings: Any) -> tuple[str, ...]:
    """Names of the fields that do not change what is computed."""
    return tuple(f.name for f in dataclasses.fields(settings) if f.metadata.get("idle"))


def _check_type(cls: type, name: str, value: Any, label: str) -> None:
    """Numbers of NumPy and JAX pass for those of Python."""
    expected = _types(cls).get(name)
    try:
        if expected is not None:
            expected.validate_python(value.tolist() if hasattr(value, "tolist") else value)
    except pydantic.ValidationError as error:
        problem = error.errors()[0]["msg"]
        raise ConfigError(f"{label} is {value!r}: {problem[0].lower()}{problem[1:]}") from None


@functools.cache
def _types(cls: Any) -> dict[str, pydantic.TypeAdapter]:
    """What the fields made by `setting` must be."""
    config = pydantic.ConfigDict(strict=True, arbitrary_types_allowed=True)
    names = [field.name for field in dataclasses.fields(cls) if "bounds" in field.metadata]
    hints = typing.get_type_hints(cls)
    return {name: pydantic.TypeAdapter(hints[name], config=config) for name in names}


def _check_one(value: Any, label: str, metadata: Any) -> None:
    if value is None:
        return
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{label} is {value}; it must be finite")
    choices = metadata.get("choices")
    if choices is not None and not (isinstance(value, str) and value in choices):
        names: Iterable[str] = choices.names() if isinstance(choices, Registry) else choices
        raise ConfigError(f"{label} is {value!r}; use {', '.join(map(str, names))}")
    if isinstance(value, str | bool):
        return
    bounds = metadata.get("bounds", {})
    broken = any(not _BOUNDS[kind][1](value, bound) for kind, bound in bounds.items())
    if broken or (metadata.get("odd") and value % 2 == 0):
        words = [_BOUNDS[kind][0].format(bound) for kind, bound in bounds.items()]
        words += ["odd"] if metadata.get("odd") else []
        raise ConfigError(f"{label} is {value}; it must be {' and '.join(words)}")


def use_tuples(spec: Any) -> None:
    """Lists and arrays of a description become tuples, which can be hashed."""
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        value = value.tolist() if hasattr(value, "tolist") else value
        object.__setattr__(spec, field.name, tuple(value) if isinstance(value, list) else value)
