import dataclasses
import errno
import json
from pathlib import Path

import pytest

from benchmarks.harness.record import SCHEMA, Timing, read_records, write_records
from jaxseg_xai.core.errors import ConfigError
from tests.benchmarks import made_up

COMMITTED = Path(__file__).resolve().parents[2] / "benchmarks" / "records"


def test_records_come_back_as_they_were(tmp_path):
    path = tmp_path / "new" / "records.json"
    for records in ([made_up.record()], [made_up.record(), made_up.scaling()]):
        write_records(path, records)
        assert read_records(path) == records


def test_a_difference_that_is_not_a_number_is_kept(tmp_path):
    broken = dataclasses.replace(made_up.VALID, max_abs_diff=float("inf"), passed=False)
    write_records(tmp_path / "a.json", [made_up.record(validation=broken)])
    assert read_records(tmp_path / "a.json")[0].validation == broken


def test_a_folder_holds_several_runs(tmp_path):
    with pytest.raises(ConfigError, match="holds no JSON file"):
        read_records(tmp_path)
    write_records(tmp_path / "2.json", [made_up.record()])
    write_records(tmp_path / "1.json", [made_up.scaling(), made_up.record()])
    assert [record.case for record in read_records(tmp_path)] == ["scaling", "ate", "ate"]


def test_a_full_disk_leaves_the_records_that_were_there(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_records(path, [made_up.record()])

    def full(self, text):
        self.write_bytes(text[: len(text) // 2].encode())
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(ConfigError, match="No space left"):
        write_records(path, [made_up.record(), made_up.scaling()])
    assert read_records(path) == [made_up.record()]


def test_spread_is_half_the_interquartile_range():
    timing = Timing.of([1.0, 2.0, 3.0, 4.0, 100.0])
    assert (timing.median, timing.spread) == (3.0, 1.0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[]", "holds no record"),
        ("3", "not a benchmark record"),
        ('{"machine": "x"}', "not a benchmark record"),
        (json.dumps({"schema": SCHEMA + 1}), "schema version"),
        (json.dumps({"schema": SCHEMA}), "not a valid record"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, text, says):
    path = tmp_path / "file.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says) as error:
        read_records(path)
    assert "\n" not in str(error.value)


def test_the_agreement_figures_are_no_benchmark_record():
    with pytest.raises(ConfigError, match="not a benchmark record"):
        read_records(COMMITTED / "agreement.json")


def test_a_missing_file_and_an_unknown_key_are_named(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read_records(tmp_path / "none.json")
    table = dataclasses.asdict(made_up.record()) | {"colour": "red"}
    (tmp_path / "a.json").write_text(json.dumps(table))
    with pytest.raises(ConfigError, match="colour"):
        read_records(tmp_path / "a.json")
