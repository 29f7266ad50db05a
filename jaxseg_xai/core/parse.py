"""Parsed JSON or TOML into configuration dataclasses; unknown keys and wrong types are errors."""

import dataclasses
import json
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

import pydantic

from jaxseg_xai.core.errors import ConfigError

T = TypeVar("T")


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
            raise ConfigError(f"unknown key {key}; the keys are {names}") from None
        problem = first["msg"][0].lower() + first["msg"][1:]
        raise ConfigError(f"{key} is {first['input']!r}: {problem}") from None


def json_value(value: Any) -> Any:
    """What `json` cannot write as what it can: numbers and arrays of NumPy and JAX, else text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _keys_beside(cls: Any, location: tuple[int | str, ...]) -> list[str]:
    for table in location[:-1]:
        cls = typing.get_type_hints(cls)[str(table)]
    return [field.name for field in dataclasses.fields(cls)]
