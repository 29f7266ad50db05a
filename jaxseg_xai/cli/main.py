"""The command line: `jaxseg-xai COMMAND`, settings from a TOML file, flags, or both."""

import contextlib
import importlib
import os
import shlex
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import jax

from jaxseg_xai.cli import listings
from jaxseg_xai.cli.command import (
    EXIT_BAD_INPUT,
    EXIT_BUG,
    EXIT_INTERRUPTED,
    EXIT_OK,
    Command,
)
from jaxseg_xai.cli.log_json import json_lines
from jaxseg_xai.cli.streams import reliable_streams
from jaxseg_xai.cli.terminate import EXIT_RESUME, Terminated, resumable
from jaxseg_xai.core.errors import ConfigError, JaxsegError
from jaxseg_xai.core.version import VERSION
from jaxseg_xai.devices.mesh import use_cpu_cores

#: Command -> the module and name of its `Command`, and what it does, in a few words.
COMMANDS = {
    "demo": ("demo:COMMAND", "explain real brain MRI slices and write a report"),
    "inspect": (
        "inspect:COMMAND",
        "some images of a data set: what a model will see of them, as text and one PNG",
    ),
    "explain": ("explain:COMMAND", "a few images: figures as PNG"),
    "sweep": ("sweep:COMMAND", "a data set x classes x methods: a store"),
    "report": ("report:COMMAND", "a store: one HTML page"),
    "serve": ("serve:COMMAND", "a store of any size: the same page from this machine"),
    "store watch": ("watch:COMMAND", "how far the sweep of a store is, and how fast"),
    "store verify": ("store:VERIFY", "is anything in a store damaged?"),
    "store merge": ("store:MERGE", "several stores of one model: one store"),
    "store export": ("export:COMMAND", "a store: its maps as NIfTI, NumPy or PNG files"),
    "store query": ("store:QUERY", "a question to a store, in SQL: a CSV or Parquet file"),
    "cluster slurm": ("cluster:SLURM", "workers of a sweep as a job array of SLURM: a script"),
    "cluster kubernetes": (
        "cluster:KUBERNETES",
        "workers of a sweep as an Indexed Job of Kubernetes: a YAML file",
    ),
    "reliability fit": (
        "reliability:FIT",
        "from explanations: can a segmentation be trusted? A classifier and how good it is",
    ),
    "reliability predict": (
        "reliability:PREDICT",
        "which segmentations of a sweep to distrust: a CSV",
    ),
    "components": (
        "components:COMMAND",
        "which channels, layers and skip connections carry a class: a CSV and a PNG",
    ),
    "compare-models": (
        "compare_models:COMMAND",
        "several models' maps of effects: shares, histograms, agreement; a page and tables",
    ),
    "judge": (
        "judge:COMMAND",
        "methods x models x metrics: which explanation to believe; tables with intervals",
    ),
    "models": ("models:COMMAND", "the bundled models and the architectures, and what they cost"),
    "plan": ("plan:COMMAND", "what an intervention on a model costs, layer by layer"),
    "train": ("train:COMMAND", "train a network of any family: a model folder"),
}
#: Commands without settings: they list what there is.
LISTINGS = {
    "explainers": (listings.explainers, "the explanation methods; with a name, its settings"),
    "sources": (
        listings.sources,
        "the data sets: layout, licence, origin; with a name, all about one",
    ),
}
_GROUPS = {name.split()[0] for name in COMMANDS if " " in name}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code.

    0: done. 1: done, but some images failed (the store says which and why). 2: bad input, in one
    line on standard error. 70: a bug, with a traceback. 75: told to end (SIGTERM), and 130:
    interrupted; the same command continues.
    """
    with reliable_streams():
        return _caught(list(sys.argv[1:] if arguments is None else arguments))


def command_line() -> None:
    """`main` for a shell, which gets the exit code.

    A process that was told to end, or interrupted, does not wait for what its devices compute.
    """
    code = main()
    if code in (EXIT_RESUME, EXIT_INTERRUPTED):
        with contextlib.suppress(Exception):  # streams may be closed
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def find_command(name: str) -> Command:
    """The command of a name; only its own module is imported."""
    module, _, constant = COMMANDS[name][0].partition(":")
    return getattr(importlib.import_module(f"jaxseg_xai.cli.{module}"), constant)


def _caught(arguments: list[str]) -> int:
    """Run a command; whatever goes wrong becomes a line and an exit code."""
    try:
        return _run(arguments)
    except JaxsegError as error:
        print(f"jaxseg-xai: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(
            f"jaxseg-xai: {where}{error.strerror or error}; check the path, its permissions and "
            "the free space",
            file=sys.stderr,
        )
        return EXIT_BAD_INPUT
    except Terminated:
        print("jaxseg-xai: told to end; the same command continues", file=sys.stderr)
        return EXIT_RESUME
    except KeyboardInterrupt:
        print("jaxseg-xai: interrupted; the same command continues", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:
        if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error):
            remedy = (
                "lower batch_size, or the settings lanes or batch_size of the method; an "
                "interrupted sweep is continued by the same command"
            )
            print(f"jaxseg-xai: out of memory; {remedy}", file=sys.stderr)
            return EXIT_BAD_INPUT
        traceback.print_exc()
        print("jaxseg-xai: this is a bug; please report it", file=sys.stderr)
        return EXIT_BUG  # not 1, which scripts take for "done, some failed"


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return EXIT_OK if arguments else EXIT_BAD_INPUT
    if arguments[0] in ("-V", "--version"):
        print(f"jaxseg-xai {VERSION}")
        return EXIT_OK
    # A command is one word or two.
    words = 2 if " ".join(arguments[:2]) in COMMANDS else 1
    name, rest = " ".join(arguments[:words]), arguments[words:]
    if name in (*LISTINGS, *_GROUPS) and rest in (["-h"], ["--help"]):
        print(_help())
        return EXIT_OK
    if name in LISTINGS:
        LISTINGS[name][0](rest)
        return EXIT_OK
    if name not in COMMANDS:
        known = ", ".join([*COMMANDS, *LISTINGS])
        raise ConfigError(f"unknown command {name!r}; there is {known}")
    command = find_command(name)
    config = command.settings(name, rest)
    if command.computes(config):
        with contextlib.suppress(RuntimeError):  # JAX already runs where Python code calls `main`
            use_cpu_cores()
        _check_devices()
    jax.config.update("jax_enable_x64", False)  # whatever JAX_ENABLE_X64 says: it is for other work
    _keep_compiled_programs()
    with resumable(), json_lines(getattr(config, "log_json", None)):
        return command.run(config, shlex.join(["jaxseg-xai", *arguments]))


def _check_devices() -> None:
    """Raise `ConfigError` where JAX is told to use a device that is not there."""
    try:
        jax.devices()
    except (RuntimeError, AssertionError):  # JAX without GPUs built in asserts
        told = os.environ.get("JAX_PLATFORMS")
        raise ConfigError(
            f"JAX finds no device; unset JAX_PLATFORMS (it is {told!r}), or install JAX for one"
        ) from None


def _keep_compiled_programs() -> None:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxseg_xai" / "xla"
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(cache))


def _help() -> str:
    lines = ["jaxseg-xai COMMAND [options]: explain segmentation models at scale.", ""]
    lines += [f"  {name:19} {summary}" for name, (_, summary) in COMMANDS.items()]
    lines += [f"  {name:19} {summary}" for name, (_, summary) in LISTINGS.items()]
    lines += ["", "jaxseg-xai COMMAND --help tells a command's options; --version the version."]
    lines += ["Examples:", ""]
    lines += [f"  {find_command(name).example}" for name in COMMANDS]
    return "\n".join(lines)


if __name__ == "__main__":
    command_line()
