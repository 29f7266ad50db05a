"""Records as Markdown, as one HTML page with pictures, and as tables in the documentation."""

import base64
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.record import Record, Row
from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.report.pages import templates

TEMPLATES = Path(__file__).parents[1] / "templates"
#: A table stands between these lines; there is one for the README and one a kind of device.
_BEGIN = "<!-- benchmarks{}: made by `python -m benchmarks report FILE --{}` -->"
END = "<!-- end of benchmarks -->"
#: The README's rows.
_FEW = ("unet-forward", "ate", "ate-512", "occlusion", "misure")


#: Rows of a table in the terminal.
_TOLD = 12


def summary(record: Record) -> str:
    """One case on a few lines, for the terminal."""
    row = describe(record)
    lines = [f"{row['case']} ({row['settings']}): {row['speed']}"]
    lines.append(f"  ours {row['seconds']}, compiled in {record.compile_seconds:.1f} s")
    for name, ratio in row["ratios"].items():
        lines.append(f"  PyTorch, {name}: {ratio} times as long")
    if record.share_of_peak is not None:
        lines.append(f"  {row['share']} of the GEMM peak")
    verdict = "valid" if record.validation.passed else "NOT VALID"
    lines.append(f"  {verdict}: {row['difference']}, {row['flips']} flips")
    if not record.validation.passed:
        lines.append(f"  {record.validation.why}")
    for name, rows in record.series.items():
        lines += [f"  {name}: {_told(row)}" for row in rows[:_TOLD]]
        lines += [f"  {name}: and {len(rows) - _TOLD} more, see --json"] * (len(rows) > _TOLD)
    return "\n".join(lines)


def _told(row: Row) -> str:
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in row.items()
        if value is not None
    )


def write_report(records: Sequence[Record], out: Path) -> list[Path]:
    """Write report.md, its pictures, and report.html, which needs nothing beside it."""
    from benchmarks.harness.plots import pictures

    drawn = pictures(records)
    names = {title: "-".join(re.findall(r"\w+", title.lower())) + ".png" for title in drawn}
    inline = {
        title: f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
        for title, png in drawn.items()
    }
    pages = {"report.md": names, "report.html": inline}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for title, png in drawn.items():
            (out / names[title]).write_bytes(png)
        for page, sources in pages.items():
            (out / page).write_text(render(f"{page}.j2", records, pictures=sources))
    except OSError as error:
        raise ConfigError(f"{out}: cannot write the report ({error.strerror})") from None
    return [out / page for page in pages]


def put_table(path: Path, table: str) -> Path:
    """Put a table, its marks around it, in the place of that between the same marks in a file."""
    begin = table.partition("\n")[0]
    try:
        text = path.read_text()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    before, found, rest = text.partition(begin)
    _, end, after = rest.partition(END)
    if not found or not end:
        raise ConfigError(f"{path}: put the lines {begin} and {END} where the table shall stand")
    path.write_text(before + table + after)
    return path


def page_table(records: Sequence[Record]) -> str:
    """All figures, with the marks around them; of one kind of device."""
    begin = _BEGIN.format(f" on {records[0].machine.platform}", "page docs/benchmarks.md")
    return f"{begin}\n{render('table.md.j2', records).strip()}\n{END}"


def readme_table(records: Sequence[Record]) -> str:
    """Few rows and columns, with the marks around them."""
    begin = _BEGIN.format("", "readme README.md")
    few = [record for name in _FEW for record in records if record.case == name]
    return f"{begin}\n{render('few.md.j2', few).strip()}\n{END}"


def describe(record: Record) -> dict[str, Any]:
    """What is shown of a record, in words."""
    settings, ours = record.settings, record.timings["ours"]
    width = f" of width {settings['width']}" if "width" in settings else ""
    parts = [f"{settings['model']}{width}", f"{settings['size']}x{settings['size']}"]
    parts.append(f"{settings['lanes']} lane{'s' * (settings['lanes'] != 1)}")
    parts += [f"{settings['blocks']} blocks"] if "blocks" in settings else []
    parts += [str(settings["dtype"])] if settings["dtype"] != "float32" else []
    parts += ["quick"] if settings["quick"] else []
    parts += [f"`{settings['xla_flags']}`"] if "xla_flags" in settings else []
    check, memory = record.validation, record.memory
    sizes = {"program": memory.program_bytes, "device peak": memory.device_peak_bytes}
    sizes["process peak"] = memory.process_peak_bytes
    return {
        "case": record.case,
        "settings": ", ".join(parts),
        "speed": ", ".join(f"{number(v)} {k}/s" for k, v in record.throughput.items()),
        "seconds": f"{_with_spread(ours.median, ours.spread)} s ({len(ours.seconds)} times)",
        "ratios": {n: _with_spread(r, record.ratio_spread(n)) for n, r in record.ratios.items()},
        "share": "–" if record.share_of_peak is None else f"{record.share_of_peak:.0%}",
        "difference": f"{check.max_abs_diff:.2g} {check.unit} (at most {check.tolerance:.2g})",
        "flips": len(check.flips),
        "passed": check.passed,
        "joules": _energy(record),
        "memory": ", ".join(f"{k} {v / 2**20:,.0f} MiB" for k, v in sizes.items() if v),
    }


def machines(records: Sequence[Record]) -> list[str]:
    """Every machine and set of versions of the records, in words, each once."""
    found = []
    for record in records:
        machine = record.machine
        where = f"{machine.num_devices} x {machine.device_kind}"
        if machine.platform == "cpu":
            where = f"{machine.cores} cores of {machine.cpu} (CPU, {machine.num_devices} devices)"
        names = ("python", "jax", "torch")
        versions = [f"{n} {record.versions[n]}" for n in names if n in record.versions]
        found.append((where, versions))
    # PyTorch is in those records only where a peer ran: the longest list says most.
    longest = {where: max((v for w, v in found if w == where), key=len) for where, _ in found}
    return [f"{where}, {', '.join(versions)}" for where, versions in longest.items()]


def number(value: float) -> str:
    """Three digits, without an exponent where that is readable."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.2e}" if abs(value) < 1e-4 else f"{value:.3g}"


def _energy(record: Record) -> str:
    """Joules of ours, and how many times as many tuned PyTorch used on the same work."""
    ours, tuned = record.timings["ours"].joules, record.timings.get("tuned")
    if not ours:
        return "–"
    if tuned is None or not tuned.joules:
        return f"{number(ours)} J"
    sample = record.peer_sample.get("tuned")
    times = tuned.joules * (sample.scale if sample else 1.0) / ours
    return f"{number(ours)} J, {number(times)} times"


def _with_spread(value: float, spread: float) -> str:
    return f"{number(value)} ± {number(spread)}"


def render(template: str, records: Sequence[Record], **more: Any) -> str:
    """A template filled with `rows` (record, description), `machines` and what else is given."""
    environment = templates(TEMPLATES, autoescape=template.endswith(".html.j2"))
    environment.filters["number"] = lambda v: number(v) if isinstance(v, float | int) else v or "–"
    rows = [(record, describe(record)) for record in records]
    return environment.get_template(template).render(rows=rows, machines=machines(records), **more)
