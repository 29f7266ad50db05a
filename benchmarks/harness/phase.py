"""What a run is doing now, on standard error: one that is stopped has said where it was."""

import logging
import sys

_LOG = logging.getLogger("benchmarks")
#: Begins every line; `phase_of` looks for it.
_MARK = "phase: "


def phase(what: str) -> None:
    """Say what begins now."""
    _LOG.info("%s%s", _MARK, what)


def show_phases() -> None:
    """Print what `phase` says, with the time of day, on standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    _LOG.handlers = [handler]
    _LOG.setLevel(logging.INFO)


def phase_of(output: str) -> str:
    """The last phase that some output names; "starting" where it names none."""
    said = [line.partition(_MARK)[2] for line in output.splitlines() if _MARK in line]
    return said[-1] if said else "starting"
