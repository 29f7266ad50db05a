"""`jaxseg-xai explainers` and `sources`: what there is, built in and by plug-ins."""

import inspect
import sys
from collections.abc import Callable
from typing import Any

import tyro

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.registry import Registry
from jaxseg_xai.data import SOURCES, options_of
from jaxseg_xai.explainers import EXPLAINERS
from jaxseg_xai.sweeps.data import OPTIONS, TOLD

#: What a data set may say of its files and where they come from -> what it is called here.
FACTS = {"layout": "layout", "licence": "licence", "homepage": "from"}


def explainers(arguments: list[str]) -> None:
    """The methods; with a name, the settings of one."""
    if len(arguments) == 1:
        cls = EXPLAINERS.get(arguments[0])
        try:
            tyro.cli(cls, args=["--help"], prog=f"--{cls.name}.", description=cls.__doc__)
        except SystemExit:
            return
    _none("explainers", arguments)
    print_registry(EXPLAINERS)


def sources(arguments: list[str]) -> None:
    """The data sets, their layout, licence and origin; with a name, all that one says."""
    if len(arguments) != 1:
        _none("sources", arguments)
        print_registry(SOURCES, _facts)
        return
    source = SOURCES.get(arguments[0])
    made = source.__init__ if isinstance(source, type) else None
    texts = [inspect.cleandoc(found.__doc__ or "") for found in (source, made)]
    print("\n\n".join([*texts, "\n".join(_facts(arguments[0], source))]))


def print_registry(
    registry: Registry, more: Callable[[str, Any], list[str]] = lambda name, found: []
) -> None:
    """A line for every name: the first of its docstring; what cannot be used on standard error.

    Args:
      registry: the names.
      more: further lines of a name and what it stands for.
    """
    for name, found in registry.usable():
        doc = (found.__doc__ or "").strip()
        # A dataclass without a docstring has its signature there.
        told = doc and not doc.startswith(f"{getattr(found, '__name__', '')}(")
        print(f"{name:20} {doc.splitlines()[0] if told else ''}")
        for line in more(name, found):
            print(f"{'':20} {line}")
    for problem in registry.problems():
        print(f"jaxseg-xai: {problem}", file=sys.stderr)


def _facts(name: str, source: Any) -> list[str]:
    """What a data set says of its files and their origin, and the flags of its options."""
    told = {label: getattr(source, fact, "") for fact, label in FACTS.items()}
    parameters = inspect.signature(source).parameters
    told["options"] = ", ".join(
        f"--data.{option}" if option in OPTIONS else f"--data.options {option}"
        for option in parameters
        if option in options_of(name) and option not in TOLD
    )
    return [f"{label:8} {text}" for label, text in told.items() if text]


def _none(name: str, arguments: list[str]) -> None:
    if arguments:
        raise ConfigError(f"{name} takes no arguments, not {' '.join(arguments)}")
