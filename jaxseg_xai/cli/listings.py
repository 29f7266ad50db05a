"""`jaxseg-xai explainers` and `data`: what there is, built in and by plug-ins."""

import sys

import tyro

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.registry import Registry
from jaxseg_xai.data import SOURCES
from jaxseg_xai.explainers import EXPLAINERS


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


def data(arguments: list[str]) -> None:
    """The data sets."""
    _none("data", arguments)
    print_registry(SOURCES)


def print_registry(registry: Registry) -> None:
    """A line for every name: the first of its docstring; what cannot be used on standard error."""
    for name, found in registry.usable():
        doc = (found.__doc__ or "").strip()
        # A dataclass without a docstring has its signature there.
        told = doc and not doc.startswith(f"{getattr(found, '__name__', '')}(")
        print(f"{name:20} {doc.splitlines()[0] if told else ''}")
    for problem in registry.problems():
        print(f"jaxseg-xai: {problem}", file=sys.stderr)


def _none(name: str, arguments: list[str]) -> None:
    if arguments:
        raise ConfigError(f"{name} takes no arguments, not {' '.join(arguments)}")
