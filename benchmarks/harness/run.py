"""Run a case and put around its measurement what a record needs."""

import dataclasses
import datetime
import functools
import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from benchmarks.harness.machine import describe_machine
from benchmarks.harness.record import SCHEMA, Machine, Record, rates
from benchmarks.harness.settings import Flags, Settings, resolve
from benchmarks.harness.timing import phase
from benchmarks.harness.turns import alone
from benchmarks.methods.base import Case
from jaxseg_xai.core.parse import from_table
from jaxseg_xai.devices.mesh import device_mesh

_PACKAGES = ("jax", "jaxlib", "flax", "numpy")


def prepare(case: Case, flags: Flags) -> Settings:
    """The settings of a case, checked, so that a bad one is named before anything has run."""
    defaults = case.quick if flags.quick else case.defaults
    settings = resolve(flags, defaults, jax.local_device_count(), split_lanes=case.split_lanes)
    case.check(settings)
    _commit()
    return settings


def run_case(case: Case, settings: Settings, machine_file: Path | None = None) -> Record:
    """Measure and validate a case.

    What the machine can do is read from a file, if there is one, and written there otherwise.
    """
    mesh = device_mesh(jax.local_devices()[: settings.devices])
    found = case.run(settings, mesh)
    machine = _machine(mesh, machine_file, quick=settings.quick)
    versions = {package: importlib.metadata.version(package) for package in _PACKAGES}
    if any(not who.startswith("ours") for who in found.timings):
        versions["torch"] = importlib.metadata.version("torch")
    if "captum" in found.timings:
        versions["captum"] = importlib.metadata.version("captum")
    commit, dirty = _commit()
    fields: dict[str, Any] = {f.name: getattr(found, f.name) for f in dataclasses.fields(found)}
    told = dataclasses.asdict(settings) | {"xla_flags": os.environ.get("XLA_FLAGS") or None}
    return Record(
        **fields,
        schema=SCHEMA,
        case=case.name,
        settings={k: v for k, v in told.items() if v is not None},
        versions={"python": platform.python_version(), **versions},
        commit=commit,
        dirty=dirty,
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        machine=machine,
        **rates(found, machine, settings.dtype),
    )


def _machine(mesh: Mesh, file: Path | None, *, quick: bool) -> Machine:
    with alone():  # so that one of several does it
        if file is not None and file.is_file():
            found = from_table(Machine, json.loads(file.read_text()))
            same = (mesh.devices.flat[0].device_kind, mesh.size)
            if (found.device_kind, found.num_devices) == same:
                return found
        phase("measuring the machine")
        found = describe_machine(mesh, quick=quick and file is None)
        if file is not None:
            file.write_text(json.dumps(dataclasses.asdict(found)))
        return found


@functools.cache  # as it was when the first case began: its record may be written into the tree
def _commit() -> tuple[str, bool]:
    """Commit of the repository that this file lies in, and whether files differ from it."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain"))
    except (OSError, subprocess.CalledProcessError):
        return "", False
