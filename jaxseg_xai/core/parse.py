"""JSON and TOML into configuration dataclasses; unknown keys and wrong types are errors."""

import dataclasses
import json
import tomllib
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from jaxseg_xai.core.errors import ConfigError, shortened

T = TypeVar("T")


def json_of(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
      OSError: it cannot be read.
      ValueError: it is no JSON, or nested too deep.
    """
    return _read(path, json.loads)


def toml_of(path: Path) -> dict[str, Any]:
    """The table in a TOML file.

    Raises:
      ConfigError: it cannot be read, or is no TOML; in one line that names it.
    """
    try:
        return _read(path, tomllib.loads)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; check the path of --config") from None
    except ValueError as error:
        raise ConfigError(f"{path}: not TOML: {shortened(str(error))}") from None


def _read(path: Path, parse: Callable[[str], Any]) -> Any:
    text = path.read_text(encoding="utf-8-sig")  # some editors of Windows begin with a mark
    try:
        return parse(text)
    except RecursionError:
        raise ValueError("nested too deep") from None


def from_table(cls: type[T], table: Mapping[str, Any]) -> T:
    """Build a (nested) dataclass from a table.

    Args:
      cls: the dataclass; its own checks run too.
      table: what `json` or `tomllib` read. Arrays become tuples, text becomes paths, integers
        become floats where the field is one, numbers of NumPy those of Python; nothing else is
        converted.

    Raises:
      ConfigError: the first unknown key or wrong type, named with the tables it stands in.
    """
    try:
        # As JSON, where strict still lets an array be a tuple and a text a path.
        text = json.dumps(table, default=json_value)
        return pydantic.TypeAdapter(cls).validate_json(text, strict=True, extra="forbid")
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "unexpected_keyword_argument":
            names = ", ".join(_keys_beside(cls, first["loc"]))
            raise ConfigError(f"unknown key {shortened(key)}; the keys are {names}") from None
        problem = first["msg"][0].lower() + first["msg"][1:]
        found = shortened(repr(first["input"]))
        raise ConfigError(f"{shortened(key)} is {found}: {shortened(problem)}") from None
    except RecursionError:
        raise ConfigError("tables nested too deep") from None


def json_value(value: Any) -> Any:
    """What `json` cannot write as what it can: numbers and arrays of NumPy and JAX, else text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _keys_beside(cls: Any, location: tuple[int | str, ...]) -> list[str]:
    for table in location[:-1]:
        in_list = isinstance(table, int)
        cls = typing.get_args(cls)[0] if in_list else typing.get_type_hints(cls)[table]
    return [field.name for field in dataclasses.fields(cls)]
