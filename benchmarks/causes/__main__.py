"""`python -m benchmarks.causes train | check | score | page`."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import tyro

from jaxseg_xai.core.errors import ConfigError, JaxsegError
from jaxseg_xai.devices.mesh import use_cpu_cores

_RECORD = Path(__file__).parents[1] / "records" / "causes.json"
_SCORED = "test"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    """Train the networks, one after the other, as the bundled ones were.

    Attributes:
      sets: names, "marker" or "marker-control"; all that the bundled networks know where empty.
      out: folder of the model folders.
    """

    sets: tyro.conf.Positional[tuple[str, ...]] = ()
    out: Path = Path("runs/causes")

    def go(self) -> int:
        from benchmarks.causes.models import train
        from benchmarks.causes.sets import known_sets

        return max(train(one, self.out) for one in known_sets(self.sets) if one.trained_here)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """Whether the models have learnt the causes: interventions and the images they flip.

    Exit code 1 where taking the cue away flips the segmentation in fewer than 95 % of the images,
    or anything else in more than 5 %.

    Attributes:
      sets: names; all where empty.
      num: images of the test split.
      models: folder of the model folders; the bundled models where left out.
    """

    sets: tyro.conf.Positional[tuple[str, ...]] = ()
    num: int = 200
    models: Path | None = None

    def go(self) -> int:
        from benchmarks.causes.flips import flips
        from benchmarks.causes.sets import known_sets
        from benchmarks.causes.tables import flips_row, head
        from jaxseg_xai.models import load_model

        print(head("set", "segmented", "flipped by", "verdict"))
        passed = True
        for known in known_sets(self.sets):
            folder = known.model if self.models is None else self.models / known.model
            found = flips(load_model(folder), known, _positive(self.num))
            print(flips_row(known.name, found), flush=True)
            passed &= found.passed
        return 0 if passed else 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
    """How often methods find the causes. Rows that the record has already are not repeated.

    Attributes:
      sets: names; all where empty.
      methods: names; all where empty.
      num: images a set.
      split: "validation", where settings are chosen, or "test".
      record: file of the rows, JSON.
    """

    sets: tyro.conf.Positional[tuple[str, ...]] = ()
    methods: tuple[str, ...] = ()
    num: int = 200
    split: str = _SCORED
    record: Path | None = None

    def go(self) -> int:
        from benchmarks.causes.score import judged_methods, score
        from benchmarks.causes.sets import known_sets
        from benchmarks.causes.tables import found_table

        sets, methods = known_sets(self.sets), self.methods or judged_methods()
        rows = []
        for one in score(sets, methods, self.split, _positive(self.num), self.record):
            time = "" if one.seconds is None else f", {one.seconds:.2f} s an image"
            result = one.error or f"{100 * one.found:.1f} %, energy {one.energy:.2f}{time}"
            print(f"{one.set:18}{one.method:22}{result}", flush=True)
            rows.append(one)
        print(found_table(rows))
        return 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Page:
    """Put the table of a record into a page, between its marks.

    Attributes:
      page: the page.
      record: the file that `score --record` wrote.
    """

    page: tyro.conf.Positional[Path]
    record: Path = _RECORD

    def go(self) -> int:
        from benchmarks.causes.score import read
        from benchmarks.causes.tables import BEGIN, END, found_table

        rows = [row for row in read(self.record) if row.split == _SCORED]
        text = self.page.read_text()
        before, found, rest = text.partition(BEGIN)
        _, end, after = rest.partition(END)
        if not found or not end:
            raise ConfigError(f"{self.page}: put the lines {BEGIN} and {END} where it shall stand")
        self.page.write_text(f"{before}{BEGIN}\n\n{found_table(rows)}\n\n{END}{after}")
        return 0


_COMMANDS = {one.__name__.lower(): one for one in (Train, Check, Score, Page)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0: done, 1: a model fails its check, 2: bad input, in one line."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    name, *rest = given or ["--help"]
    if name not in _COMMANDS:
        print("python -m benchmarks.causes COMMAND [--help]; docs/guide/causes.md tells more\n")
        for known, command in _COMMANDS.items():
            print(f"  {known:8}{(command.__doc__ or '').splitlines()[0]}")
        return 0 if name in ("-h", "--help") and given else 2
    try:
        return tyro.cli(_COMMANDS[name], args=rest, prog=f"python -m benchmarks.causes {name}").go()
    except JaxsegError as error:
        print(f"benchmarks.causes: {error}", file=sys.stderr)
        return 2


def _positive(num: int) -> int:
    if num < 1:
        raise ConfigError(f"num is {num}; it must be at least 1")
    return num


if __name__ == "__main__":
    use_cpu_cores()
    sys.exit(main())
