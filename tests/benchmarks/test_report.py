import base64
import dataclasses
import re

import pytest

from benchmarks.__main__ import main
from benchmarks.harness.pool import pool
from benchmarks.harness.record import read_records, write_records
from benchmarks.harness.report import END, page_table, put_table, readme_table, write_report
from jaxseg_xai.core.errors import ConfigError
from tests.benchmarks import made_up
from tests.benchmarks.test_record import COMMITTED

ROOT = COMMITTED.parents[1]


def test_the_page_holds_figures_and_pictures(tmp_path):
    markdown, page = write_report([made_up.record(), made_up.scaling()], tmp_path / "out")
    html = page.read_text()
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    assert len(pictures) == 3  # ratios, scaling, roofline
    assert all(base64.b64decode(p).startswith(b"\x89PNG") for p in pictures)
    for text in ("2 cores of AMD EPYC", "3,000 interventions/s", "30.5 ±", "16 of 1024 blocks"):
        assert text in html
        assert text in markdown.read_text()
    for name in re.findall(r"\]\((.+\.png)\)", markdown.read_text()):
        assert (markdown.parent / name).is_file()


def test_records_without_anything_to_draw(tmp_path):
    _, page = write_report([made_up.record(ratios={})], tmp_path)
    assert "<img" not in page.read_text()


def test_the_table_tells_captums_time_where_it_was_taken():
    record = made_up.record()
    timings = record.timings | {"captum": record.timings["tuned"]}
    record = made_up.record(timings=timings, ratios=record.ratios | {"captum": 7.5})
    assert "(Captum 7.5 ±" in page_table([record])
    assert "Captum" not in page_table([made_up.record()])


@pytest.mark.parametrize("table", [page_table, readme_table])
def test_what_is_not_valid_is_said_loudly(table):
    wrong = made_up.record(validation=dataclasses.replace(made_up.VALID, passed=False))
    assert "NOT VALID" in table([wrong])
    assert "NOT VALID" not in table([made_up.record()])


def test_the_command_writes_a_page_and_fills_tables(tmp_path):
    path = tmp_path / "a.json"
    write_records(path, [made_up.scaling(), made_up.record()])
    assert main(["report", str(path), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "report.html").is_file()
    pages = {}
    for flag, table in (("page", page_table), ("readme", readme_table)):
        pages[flag] = tmp_path / f"{flag}.md"
        wanted = table([made_up.scaling(), made_up.record()])
        pages[flag].write_text(f"before\n{wanted.partition(chr(10))[0]}\nold\n{END}\nafter\n")
        assert main(["report", str(path), f"--{flag}", str(pages[flag])]) == 0
        assert pages[flag].read_text() == f"before\n{wanted}\nafter\n"
        put_table(pages[flag], wanted)
        assert pages[flag].read_text() == f"before\n{wanted}\nafter\n"
    # The README has few rows.
    assert "| scaling |" in pages["page"].read_text()
    assert "| scaling |" not in pages["readme"].read_text()


def test_a_file_without_the_marks_is_refused(tmp_path):
    (tmp_path / "README.md").write_text("nothing\n")
    with pytest.raises(ConfigError, match="put the lines"):
        put_table(tmp_path / "README.md", readme_table([made_up.record()]))


@pytest.mark.parametrize(
    ("page", "table", "record"),
    [
        ("README.md", readme_table, "cpu"),
        ("docs/benchmarks.md", page_table, "cpu"),
        ("docs/benchmarks.md", page_table, "h100.json"),
    ],
)
def test_the_pages_show_the_committed_records(page, table, record):
    assert table(pool(read_records(COMMITTED / record))) in (ROOT / page).read_text()
