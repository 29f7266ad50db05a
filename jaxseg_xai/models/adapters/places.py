"""Python objects that a `model.json` names."""

import re
from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import Any

from jaxseg_xai.core.errors import ConfigError


def import_object(place: Any) -> Any:
    """What "package.module:name" names, its module imported.

    Raises:
      ConfigError: it is no such text, or cannot be imported.
    """
    if not isinstance(place, str) or not re.fullmatch(r"[\w.]+:[\w.]+", place):
        raise ConfigError(f'{place!r} is no Python object; give "package.module:name"')
    try:
        return EntryPoint("model", place, "jaxseg_xai").load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever somebody's module raises, SystemExit for one
        raise ConfigError(
            f"{place} cannot be imported: {_told(error)}; install its package, or put the folder "
            "that it is in on PYTHONPATH"
        ) from error


def call_factory(place: Any, matches: Callable[[Any], bool]) -> Any:
    """What the function that "package.module:factory" names returns.

    Args:
      place: the text.
      matches: whether an object is of the kind that is wanted.

    Raises:
      ConfigError: see `import_object`; the function fails, or returns something else.
    """
    factory = import_object(place)
    try:
        model = factory()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever somebody's function raises
        raise ConfigError(
            f"{place}() fails: {_told(error)}; name a function that returns the model when it is "
            "called without arguments"
        ) from error
    if not matches(model):
        raise ConfigError(f"{place}() returns a {type(model).__name__}, no model of this kind")
    return model


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().split(chr(10))[0]}"
