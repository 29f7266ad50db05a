"""Flags of a sweep: its settings, its methods, and the methods' settings."""

import dataclasses
from typing import Any

import tyro

from jaxseg_xai.cli.command import Command, config_file
from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.explainers import EXPLAINERS
from jaxseg_xai.sweeps.config import RENAMED, Job, read_config

#: Lists of entries -> what they are, for `--help`.
_ENTRIES = {
    "explain": "the methods (see `jaxseg-xai explainers`)",
    "metrics": "the metrics (see the guide)",
}


def parse_sweep(command: Command, arguments: list[str], program: str, description: str) -> Any:
    """A `SweepConfig` (or a class derived from it) from flags over `--config`.

    `--explain misure ate16=ate` names the methods; without it they are those of the file.
    `--ate.block-size 16` applies to every entry of that method, whatever its label.
    """
    _refuse_old_flags(arguments)
    path, rest = config_file(arguments)
    config = command.config
    default = config() if path is None else read_config(path, config)
    rest, of_method = _split(rest)
    flags = _flags_of(config)
    names = [field.name for field in dataclasses.fields(config.settings)]
    given = tyro.cli(
        flags,
        args=rest,
        default=flags(**{name: getattr(default, name) for name in names}),
        prog=program,
        description=f"{description}\n\n--METHOD.SETTING VALUE sets something of a method, for "
        "every entry of it; `jaxseg-xai explainers METHOD` lists a method's settings.",
    )
    entries = {
        name: make(words) if (words := getattr(given, name)) else getattr(default, name)
        for name, make in config.entries.items()
    }
    for method, words in of_method.items():
        entries["explain"] = _with_settings(entries["explain"], method, words)
    return config(**{name: getattr(given, name) for name in names}, **entries)


def _refuse_old_flags(arguments: list[str]) -> None:
    """Raise `ConfigError` for a flag of version 0.1, with what to write instead."""
    for place, argument in enumerate(arguments):
        flag, _, value = argument.partition("=")
        new = RENAMED.get(flag.removeprefix("--").replace("-", "_")) if flag[:2] == "--" else None
        if new is None:
            continue
        rest = [value] if value else " ".join(arguments[place + 1 :]).split(" --")[0].split()
        words = " ".join([f"--{new.replace('_', '-')}", *rest])
        raise ConfigError(f"{flag} is now {words.split()[0]}; write {words}")


def _flags_of(config: Any) -> type:
    """The settings of a sweep as flags, with methods (and metrics) by name."""
    names = [(name, tuple[str, ...], dataclasses.field(default=())) for name in config.entries]
    found = dataclasses.make_dataclass(
        config.__name__, names, bases=(config.settings,), frozen=True, kw_only=True
    )
    found.__doc__ = (config.settings.__doc__ or "").rstrip() + "".join(
        f"\n      {name}: {_ENTRIES[name]}, each as NAME or LABEL=NAME." for name in config.entries
    )
    return found


def _split(arguments: list[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Flags of methods apart from the others: `--ate.block-size 16` -> ate: [--block-size, 16]."""
    rest: list[str] = []
    of_method: dict[str, list[str]] = {}
    place = rest
    for word in arguments:
        if word.startswith("--"):
            name, dot, flag = word[2:].partition(".")
            method = name.replace("-", "_")
            if dot and method in EXPLAINERS:
                place = of_method.setdefault(method, [])
                word = f"--{flag}"
            else:
                place = rest
        place.append(word)
    return rest, of_method


def _with_settings(jobs: tuple[Job, ...], method: str, words: list[str]) -> tuple[Job, ...]:
    """The jobs, with some settings of every one of a method changed."""
    if method not in [job.explainer.name for job in jobs]:
        raise ConfigError(
            f"--{method}.{words[0][2:]} sets something of {method}, which is not among the methods "
            f"({', '.join(job.label for job in jobs) or 'none given'}); add it to --explain"
        )
    found = []
    for job in jobs:
        if job.explainer.name == method:
            explainer = tyro.cli(
                type(job.explainer), args=words, default=job.explainer, prog=f"--{method}."
            )
            flags = [word[2:].partition("=")[0] for word in words if word.startswith("--")]
            names = {flag.removeprefix("no-").replace("-", "_") for flag in flags}
            given = None if job.given is None else job.given | names
            job = dataclasses.replace(job, explainer=explainer, given=given)
        found.append(job)
    return tuple(found)
