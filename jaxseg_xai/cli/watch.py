"""`jaxseg-xai store watch`: how far the sweep of a store is, whoever computes it."""

import dataclasses
import re
import time
from collections import Counter
from pathlib import Path

import numpy as np
import tyro

from jaxseg_xai.cli.command import EXIT_OK, Command
from jaxseg_xai.core.fields import setting
from jaxseg_xai.store import ZarrStore
from jaxseg_xai.store.base import PENDING

_MOST_REASONS = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class WatchConfig:
    """Say how far the sweep of a store is: rows by status, failures by kind, rows of every run.

    The second look, and those after it, also say how many rows a second were found since the one
    before, of every run, and the time that is left. It ends when no row is pending. It only reads:
    watch from any machine that sees the store.

    Attributes:
      store: a folder, or the URL of one in an object store.
      every: seconds between looks; 0: only one.
    """

    store: tyro.conf.Positional[Path] = Path("runs/sweep.zarr")
    every: float = setting(10.0, at_least=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen:
    """A look at a store.

    Attributes:
      time: of the look, in seconds.
      statuses: label -> status -> rows.
      runs: name of a run -> rows that it computed.
      reasons: why rows failed, without the image's name -> rows.
    """

    time: float
    statuses: dict[str, dict[str, int]]
    runs: Counter[str]
    reasons: Counter[str]

    @property
    def pending(self) -> int:
        """Rows that are not done."""
        return sum(found.get("PENDING", 0) for found in self.statuses.values())

    @property
    def done(self) -> int:
        """Rows that are."""
        return sum(self.runs.values())


def look(path: Path) -> Seen:
    """What a store has now; journals included, no map is read."""
    store = ZarrStore.open(path)
    runs: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for label in store.labels:
        found = store.columns(label)
        done = found["status"] != PENDING
        names, numbers = np.unique(found["run"][done].astype(str), return_counts=True)
        runs.update(dict(zip(names.tolist(), numbers.tolist(), strict=True)))
        failed = np.flatnonzero(found["reason"] != "")
        for image, reason in zip(found["image"][failed], found["reason"][failed], strict=True):
            reasons[_kind(str(image), str(reason))] += 1
    return Seen(time=time.monotonic(), statuses=store.counts(), runs=runs, reasons=reasons)


def _kind(image: str, reason: str) -> str:
    """A reason without what is only about one image: its name, its path, numbers."""
    reason = re.sub(rf"\S*{re.escape(image)}\S*: ", "", reason)
    return re.sub(r"\d+", "N", reason)


def describe(now: Seen, before: Seen | None) -> list[str]:
    """Lines about a look, and what happened since the one before."""
    lines = [
        f"{label}: {', '.join(f'{n} {status}' for status, n in found.items())}"
        for label, found in now.statuses.items()
    ]
    seconds = now.time - before.time if before else 0.0
    for run, rows in now.runs.items():
        rate = f", {(rows - before.runs[run]) / seconds:.3g}/s" if before else ""
        lines.append(f"run {run or '(unknown)'}: {rows} rows{rate}")
    for reason, rows in now.reasons.most_common(_MOST_REASONS):
        lines.append(f"{rows} failed: {reason}")
    if before and now.done > before.done and now.pending:
        rate = (now.done - before.done) / seconds
        lines.append(f"{rate:.3g} rows/s; {now.pending / rate:.0f} s left")
    elif before and now.pending:
        lines.append(f"no row in {seconds:.0f} s; is a sweep running?")
    return lines


def run(config: WatchConfig, command: str) -> int:
    """Look until nothing is pending."""
    del command
    before = None
    while True:
        now = look(config.store)
        print("\n".join(describe(now, before)), flush=True)
        if not now.pending or not config.every:
            return EXIT_OK
        before = now
        time.sleep(config.every)
        print()


COMMAND = Command(
    config=WatchConfig, run=run, example="jaxseg-xai store watch runs/sweep.zarr --every 60"
)
