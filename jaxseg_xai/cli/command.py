"""What a command of the command line is; each stands in a file of its own beside this one."""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.parse import from_table, toml_of
from jaxseg_xai.sweeps.run import SweepResult
from jaxseg_xai.sweeps.sizes import say_effect
from jaxseg_xai.sweeps.times import Times

EXIT_OK, EXIT_SOME_FAILED, EXIT_BAD_INPUT, EXIT_BUG, EXIT_INTERRUPTED = 0, 1, 2, 70, 130
_MAX_REASONS = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command:
    """A command.

    Attributes:
      config: dataclass of its settings, which are its flags.
      run: (settings, the command line as text) -> exit code.
      example: a command line that works.
      computes: settings -> whether this process computes, and needs devices for it.
      parse: (arguments, program name, description) -> settings; by itself flags over `--config`
        over the defaults.
    """

    config: type
    run: Callable[[Any, str], int]
    example: str
    computes: Callable[[Any], bool] = lambda settings: True
    parse: Callable[["Command", list[str], str, str], Any] | None = None

    def settings(self, name: str, arguments: list[str]) -> Any:
        """Settings from the arguments after the command's name."""
        program = f"jaxseg-xai {name}"
        description = (
            f"{(self.config.__doc__ or '').split('Attributes:')[0].strip()}\n\n"
            "--config FILE.toml sets the same names, flags come on top.\n\n"
            f"Example: {self.example}"
        )
        if self.parse is not None:
            return self.parse(self, arguments, program, description)
        path, arguments = config_file(arguments)
        default = self.config() if path is None else read_toml(path, self.config)
        return tyro.cli(
            self.config, args=arguments, default=default, prog=program, description=description
        )


def config_file(arguments: list[str]) -> tuple[Path | None, list[str]]:
    """The path of `--config`, and the other arguments."""
    rest = list(arguments)
    for place, argument in enumerate(rest):
        if argument == "--config" or argument.startswith("--config="):
            value = argument.partition("=")[2] if "=" in argument else None
            if value is None and place + 1 == len(rest):
                raise ConfigError("--config needs the path of a TOML file")
            path = Path(rest[place + 1] if value is None else value)
            del rest[place : place + (2 if value is None else 1)]
            return path, rest
    return None, rest


def read_toml(path: Path, cls: type) -> Any:
    """Read a configuration dataclass from TOML; unknown keys and wrong types are errors."""
    table = toml_of(path)
    try:
        return from_table(cls, table)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def show_result(result: SweepResult) -> int:
    """Print counts and speeds, and on standard error why images failed; the exit code."""
    print(describe(result.counts, result.times))
    if result.sizes:
        print(say_effect(result.sizes))
    for reason in result.reasons[:_MAX_REASONS]:
        print(f"failed: {reason}", file=sys.stderr)
    more = len(result.reasons) - _MAX_REASONS
    if more > 0:
        print(f"failed: {more} more; the store and its report have them all", file=sys.stderr)
    all_empty = all(set(found) == {"EMPTY_IMAGE"} for found in result.counts.values())
    if all_empty:
        remedy = "check the window if you gave one, or the export"
        print(f"failed: every image is the same value everywhere; {remedy}", file=sys.stderr)
    return EXIT_SOME_FAILED if result.num_failed or all_empty else EXIT_OK


def describe(counts: dict[str, dict[str, int]], times: Times) -> str:
    """Counts by status and speeds of a sweep, a line per label."""
    lines = []
    for label, found in counts.items():
        line = f"{label}: " + ", ".join(f"{n} {status}" for status, n in found.items())
        if times.computed.get(label):
            seconds = times.compute_seconds[label]
            line += f"; {times.computed[label]} computed in {seconds:.1f} s"
            line += f" ({times.computed[label] / seconds:.2f}/s)"
        lines.append(line)
    lines.append(f"compiling took {times.compile_seconds:.1f} s")
    return "\n".join(lines)
