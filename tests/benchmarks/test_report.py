import base64
import re

import pytest

from benchmarks.__main__ import main
from benchmarks.pool import pool
from benchmarks.record import read_records, write_records
from benchmarks.report import BEGIN, END, readme_table, update_readme, write_report
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
    assert "(Captum 7.5 ±" in readme_table([record])
    assert "Captum" not in readme_table([made_up.record()])


def test_what_is_not_valid_is_said_loudly(tmp_path):
    from dataclasses import replace

    wrong = made_up.record(validation=replace(made_up.VALID, passed=False))
    assert "NOT VALID" in readme_table([wrong])


def test_the_command_writes_the_page_or_the_readme(tmp_path, capsys):
    path, readme = tmp_path / "a.json", tmp_path / "README.md"
    write_records(path, [made_up.record()])
    assert main(["report", str(path), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "report.html").is_file()
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    assert main(["report", str(path), "--readme", str(readme)]) == 0
    text = readme.read_text()
    assert text == f"before\n{readme_table([made_up.record()])}\nafter\n"
    assert "old" not in text
    update_readme(readme, [made_up.record()])
    assert readme.read_text() == text


def test_a_file_without_the_marks_is_refused(tmp_path):
    (tmp_path / "README.md").write_text("nothing\n")
    with pytest.raises(ConfigError, match="put the lines"):
        update_readme(tmp_path / "README.md", [made_up.record()])


@pytest.mark.parametrize(
    ("page", "record"), [("README.md", "cpu"), ("docs/benchmarks.md", "h100.json")]
)
def test_the_pages_show_the_committed_records(page, record):
    assert readme_table(pool(read_records(COMMITTED / record))) in (ROOT / page).read_text()
