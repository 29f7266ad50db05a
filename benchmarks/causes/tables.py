"""The tables of the known causes, in Markdown."""

from collections.abc import Sequence

from benchmarks.causes.flips import Flips
from benchmarks.causes.score import RANDOM, Row
from jaxseg_xai.data.sources.causes import CONTROL

#: Marks around the table in the page.
BEGIN = "<!-- table of known causes, written by `python -m benchmarks.causes page` -->"
END = "<!-- end of the table -->"


def row(*cells: str) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |"


def head(*cells: str) -> str:
    """The first two rows of a table."""
    return f"{row(*cells)}\n{row(*['---'] * len(cells))}"


def flips_row(name: str, found: Flips) -> str:
    """What interventions did to a model."""
    shares = [
        f"{word} {100 * share:.0f} %{' (must)' if word in found.must else ''}"
        for word, share in found.shares.items()
    ]
    verdict = "passed" if found.passed else "FAILED"
    return row(name, f"{100 * found.segmented:.0f} %", ", ".join(shares), verdict)


def found_table(rows: Sequence[Row]) -> str:
    """Share of the images in which each method found the cause, a column a set, best first."""
    sets = list(dict.fromkeys(one.set for one in rows))
    by_place = {(one.method, one.set): one for one in rows}
    causes = [name for name in sets if not name.endswith(CONTROL)]

    def rank(method: str) -> tuple[bool, float]:
        found = [by_place[method, name].found for name in causes if (method, name) in by_place]
        return method == RANDOM, -sum(found) / max(len(found), 1)

    methods = sorted(dict.fromkeys(one.method for one in rows), key=rank)
    lines = [head("method", *sets)]
    for method in methods:
        cells = [_cell(by_place.get((method, name))) for name in sets]
        lines.append(row(method if method == RANDOM else f"`{method}`", *cells))
    return "\n".join(lines)


def _cell(one: Row | None) -> str:
    if one is None:
        return ""
    return "-" if one.error else f"{100 * one.found:.1f}"
