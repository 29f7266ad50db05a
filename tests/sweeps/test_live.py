"""A sweep that runs: what it says of itself, and its store for those who read meanwhile."""

import dataclasses
import json
import logging
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from jaxseg_xai.cli import main as cli
from jaxseg_xai.cli import watch
from jaxseg_xai.cli.log_json import json_lines
from jaxseg_xai.core.types import Status
from jaxseg_xai.explainers.uncertainty.confidence import Confidence
from jaxseg_xai.report.gallery import write_report
from jaxseg_xai.store import ZarrStore
from jaxseg_xai.store.query import query
from jaxseg_xai.sweeps import engine
from jaxseg_xai.sweeps.live import Live
from jaxseg_xai.sweeps.run import run_sweep
from tests import tiny


@pytest.fixture(scope="module")
def config(model, tmp_path_factory):
    """Of six images, one of them broken."""
    folder = tiny.write_images(tmp_path_factory.mktemp("images"), [f"i{n}" for n in range(6)])
    (folder / "images" / "i4.png").write_bytes(b"no picture")
    out = tmp_path_factory.mktemp("out") / "s.zarr"
    return tiny.sweep_config(out, model, folder, explain=(Confidence(),), batch_size=2)


def test_a_store_can_be_read_while_a_sweep_writes_it(config, monkeypatch, tmp_path):
    """Of rows in journals; readers that were opened then go on when they are in shards."""
    flush, readers = ZarrStore.flush, []

    def looked_at(self):
        flush(self)
        reader = ZarrStore.open(config.out)
        done = reader.rows(done_only=True)
        assert list((config.out / "journal").glob("*.json")) or len(done) in (0, 6)
        answer = query(reader, "SELECT count(*) FROM rows WHERE status <> 'PENDING'")[1]
        assert answer == [(len(done),)]
        readers.append((reader, done))
        if 0 < len(done) < 6:
            page = write_report(reader, tmp_path / "now.html").read_text()
            assert all(row.image_id in page for row in done)
        seen = watch.look(config.out)
        assert (seen.done, seen.pending) == (len(done), 6 - len(done))

    monkeypatch.setattr(engine, "_SECONDS", 0.0)
    monkeypatch.setattr(ZarrStore, "flush", looked_at)
    run_sweep(config, progress=False)
    assert any(0 < len(done) < 6 for _, done in readers)
    assert not (config.out / "journal").exists()
    whole = ZarrStore.open(config.out)
    for reader, done in readers:
        for row in done:
            found, stored = reader.read(row), whole.read(row)
            np.testing.assert_array_equal(found.attribution, stored.attribution)


def test_json_lines(config, tmp_path, monkeypatch, capsys):
    log, out = tmp_path / "logs" / "sweep.jsonl", tmp_path / "s.zarr"
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "chosen")
    flags = ["--model", config.model, "--data.source", config.data.source, "--out", out]
    flags += ["--explain", "confidence", "--classes", "bright", "--batch-size", "2"]
    command = ["sweep", *map(str, flags), "--log-json", str(log)]
    assert cli.main(command) == 1
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    first, *middle, last = [line for line in lines if "event" in line]
    assert (first["event"], first["rows"], last["event"]) == ("begin", 6, "end")
    (failed,) = [line for line in middle if line["event"] == "failed"]
    assert (failed["label"], failed["row"], failed["status"]) == ("confidence", 4, "FAILED")
    assert "i4.png" in failed["reason"]
    batches = [line for line in middle if line["event"] == "batch"]
    assert sum(line["rows"] for line in batches) == 5
    assert all(line["rows_per_second"] > 0 <= line["seconds_left"] for line in batches)
    assert last["statuses"] == {"OK": 5, "FAILED": 1}
    (run,) = {row.run for row in ZarrStore.open(out).rows()}
    assert {(line["run"], line["level"]) for line in middle} == {(run, "INFO")}
    # The next run adds to it; what ends it is said there, too.
    assert cli.main([*command, "--seed", "1"]) == 2
    assert "holds another sweep" in json.loads(log.read_text().splitlines()[-1])["message"]
    assert logging.getLogger("jaxseg_xai").handlers == []
    capsys.readouterr()
    assert cli.main([*command[:-1], str(tmp_path)]) == 2
    assert re.match(r"jaxseg-xai: log_json: \S+ cannot be written \(", capsys.readouterr().err)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device")
def test_a_log_on_a_full_disk_stops_nothing(capsys):
    with json_lines(Path("/dev/full")), Live(2, run="r", shown=False) as live:
        live.done("a", 0, Status.OK)
        live.batch("a", 1, 0.1)
    assert capsys.readouterr().err == (
        "log_json: /dev/full cannot be written (No space left on device)\n"
    )


def test_rate_and_time_left(caplog, monkeypatch):
    clock = iter([100.0, 110.0, 114.0, 120.0])
    monkeypatch.setattr("jaxseg_xai.sweeps.live.time.perf_counter", lambda: next(clock, 130.0))
    caplog.set_level(logging.INFO, "jaxseg_xai")
    with Live(10, run="r", shown=False) as live:
        live.compiled(6.0)
        live.done("a", 0, Status.OK)
        live.done("a", 1, Status.EMPTY_TARGET)
        live.batch("a", 1, 0.5)
        live.batch("a", 1, 0.5)
    first, second = [r.sweep for r in caplog.records if r.sweep["event"] == "batch"]
    assert (first["rows_per_second"], first["seconds_left"]) == (0.5, 16.0)
    assert (second["done"], second["of"], second["rows_per_second"]) == (2, 10, 0.25)
    assert second["statuses"] == {"OK": 1, "EMPTY_TARGET": 1}


def test_watching(config, capsys, monkeypatch):
    run_sweep(config, progress=False)
    done = watch.look(config.out)
    assert done.statuses == {"confidence": {"OK": 5, "FAILED": 1}}
    before = dataclasses.replace(
        done, time=done.time - 2, runs=done.runs - Counter(dict.fromkeys(done.runs, 4))
    )
    half = {"confidence": {"OK": 5, "FAILED": 1, "PENDING": 4}}
    lines = watch.describe(dataclasses.replace(done, statuses=half), before)
    (run,) = done.runs
    assert lines[0] == "confidence: 5 OK, 1 FAILED, 4 PENDING"
    assert lines[1] == f"run {run}: 6 rows, 2/s"
    assert re.match("1 failed: .*cannot|1 failed: .*corrupt", lines[2]), lines[2]
    assert "i4" not in lines[2]
    assert lines[3] == "2 rows/s; 2 s left"
    still = dataclasses.replace(done, statuses=half)
    assert watch.describe(still, dataclasses.replace(done, time=done.time - 60))[-1] == (
        "no row in 60 s; is a sweep running?"
    )
    assert cli.main(["store", "watch", str(config.out)]) == 0
    assert capsys.readouterr().out.startswith("confidence: 5 OK, 1 FAILED\nrun ")
    assert cli.main(["store", "watch", str(config.out / "nothing")]) == 2
