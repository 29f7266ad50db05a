"""How far a sweep is while it runs: a bar for a person, records of `logging` for programs."""

import logging
import os
import socket
import time
from collections import Counter
from typing import Any, Self

from jaxseg_xai.core.progress import progress_bar
from jaxseg_xai.core.types import Status

#: Its records carry what they say as a mapping, too: the attribute `sweep`.
_LOG = logging.getLogger(__name__)


class Live:
    """Counts rows as they are done.

    Records of level INFO say that it begins, every batch (with rows a second and the seconds that
    are left), every row that failed, and the end.
    """

    def __init__(self, total: int, *, run: str, shown: bool) -> None:
        """Begin.

        Args:
          total: rows to do.
          run: name of the run, as the rows of the store have it.
          shown: show a bar.
        """
        self._total, self._done, self._idle = total, 0, 0.0
        self._statuses: Counter[str] = Counter()
        self._worker = {"run": run, "host": socket.gethostname(), "process": os.getpid()}
        self._bar = progress_bar(total=total, unit="explanation", desc="explain", shown=shown)
        self._begin = time.perf_counter()

    def __enter__(self) -> Self:
        """Say that it begins."""
        self._say("begin", f"{self._total} explanations to compute", rows=self._total)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Say how it ended."""
        self._bar.close()
        how = "done" if kind is None else f"ended by {kind.__name__}"
        self._say("end", f"{how}: {self._done} of {self._total}", how=how, **self._state())

    def compiled(self, seconds: float) -> None:
        """So long nothing was explained: the rate is without it."""
        self._idle += seconds

    def done(self, label: str, row: int, status: Status, reason: str = "") -> None:
        """A row has its result."""
        self._done += 1
        self._statuses[status.name] += 1
        self._bar.update()
        if status != Status.OK:
            self._bar.set_postfix(_not_ok(self._statuses), refresh=False)
        if reason:
            fields = {"label": label, "row": row, "status": status.name, "reason": reason}
            self._say("failed", f"{label}: row {row} is {status.name}: {reason}", **fields)

    def batch(self, label: str, rows: int, seconds: float) -> None:
        """Some rows were computed together."""
        state = self._state()
        message = (
            f"{label}: {rows} in {seconds:.3g} s; {self._done} of {self._total}, "
            f"{state['rows_per_second']:.3g}/s, {state['seconds_left']:.0f} s left"
        )
        self._say("batch", message, label=label, rows=rows, seconds=seconds, **state)

    def _state(self) -> dict[str, Any]:
        seconds = max(time.perf_counter() - self._begin - self._idle, 1e-9)
        rate = self._done / seconds
        left = (self._total - self._done) / rate if rate else 0.0
        return {
            "done": self._done,
            "of": self._total,
            "rows_per_second": rate,
            "seconds_left": left,
            "statuses": dict(self._statuses),
        }

    def _say(self, event: str, message: str, **fields: Any) -> None:
        if _LOG.isEnabledFor(logging.INFO):
            _LOG.info(message, extra={"sweep": {"event": event} | self._worker | fields})


def _not_ok(statuses: Counter[str]) -> dict[str, int]:
    return {name: number for name, number in statuses.items() if name != Status.OK.name}
