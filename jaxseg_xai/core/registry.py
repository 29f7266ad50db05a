"""Names to objects: what the package has built in, and what installed packages add.

A line of a registry has the form of an entry point, `name = "module:object"`. The module is
imported when the object is first asked for, so that listing names costs nothing. Another package
adds a line of its own to its `pyproject.toml`:

    [project.entry-points."jaxseg_xai.explainers"]
    my_method = "my_package.my_method:MyMethod"
"""

import dataclasses
import functools
import importlib.metadata
import inspect
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint
from typing import Any, ClassVar

from jaxseg_xai.core.errors import ConfigError

_REMEDY = "repair or uninstall that package"


@dataclasses.dataclass(frozen=True, eq=False)
class Registry:
    """The objects of one kind, by name.

    Attributes:
      group: the entry-point group that other packages add to, "jaxseg_xai.explainers".
      kind: what an error message calls one of them, "explainer".
      built_in: name -> "module:object".
      base: the class that they are derived from, or names of what they must have.
      reserved: names that mean something else where these are configured.
    """

    group: str
    kind: str
    built_in: Mapping[str, str]
    base: type | tuple[str, ...] = ()
    reserved: tuple[str, ...] = ()

    def names(self) -> tuple[str, ...]:
        """All names: those built in first, then those of installed packages, sorted."""
        return tuple(self._entries)

    def __contains__(self, name: object) -> bool:
        """Whether there is an object of this name."""
        return name in self._entries and name not in self.reserved

    def get(self, name: str) -> Any:
        """The object of a name, its module imported.

        Raises:
          ConfigError: there is none of this name (the message lists those there are), two packages
            use it, it is reserved, its module cannot be imported, or it is something else.
        """
        if name not in self._entries:
            raise ConfigError(f"unknown {self.kind} {name!r}; there is {', '.join(self.names())}")
        found = self._entries[name]
        if len(found) > 1:
            places = " and ".join(_origin(entry) for entry in found)
            raise ConfigError(
                f"two {self.kind}s are called {name!r}: {places}; uninstall one of the packages"
            )
        called = f"{self.kind} {name!r} ({_origin(found[0])})"
        if name in self.reserved:
            raise ConfigError(
                f"{called}: this name has another meaning in configurations; {_REMEDY}"
            )
        try:
            thing = found[0].load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever somebody's module raises, SystemExit for one
            reason = str(error).strip().split("\n")[0]
            raise ConfigError(
                f"{called} cannot be imported: {type(error).__name__}: {reason}; {_REMEDY}"
            ) from error
        self._check(thing, name, called)
        return thing

    def usable(self) -> Iterator[tuple[str, Any]]:
        """(name, object) of all that can be imported; the others are left out."""
        for name in self.names():
            try:
                yield name, self.get(name)
            except ConfigError:
                continue

    def problems(self) -> list[str]:
        """One line for every name that cannot be used, for a command that lists names."""
        found = []
        for name in self.names():
            try:
                self.get(name)
            except ConfigError as error:
                found.append(str(error))
        return found

    def _check(self, thing: Any, name: str, called: str) -> None:
        """Raise `ConfigError` where an object is no such thing."""
        if isinstance(self.base, tuple):
            missing = [wanted for wanted in self.base if not hasattr(thing, wanted)]
            if missing:
                raise ConfigError(f"{called} has no {', '.join(missing)}; {_REMEDY}")
            return
        if not (isinstance(thing, type) and issubclass(thing, self.base)):
            base = f"{self.base.__module__}.{self.base.__qualname__}"
            raise ConfigError(f"{called} is not derived from {base}; {_REMEDY}")
        named = inspect.get_annotations(self.base).get("name") == ClassVar[str]
        own = getattr(thing, "name", None)
        if named and own != name:
            raise ConfigError(f"{called}: its class has the name {own!r}; {_REMEDY}")

    @functools.cached_property
    def _entries(self) -> dict[str, list[EntryPoint]]:
        found = {
            name: [EntryPoint(name, value, self.group)] for name, value in self.built_in.items()
        }
        added = importlib.metadata.entry_points(group=self.group)
        for entry in sorted(added, key=lambda entry: (entry.name, entry.value)):
            # One package seen twice on the path is still one package.
            if entry.value not in [known.value for known in found.get(entry.name, [])]:
                found.setdefault(entry.name, []).append(entry)
        return found


def _origin(entry: EntryPoint) -> str:
    package = entry.dist.name if entry.dist else "jaxseg-xai"
    return f"{entry.value} of {package}"
