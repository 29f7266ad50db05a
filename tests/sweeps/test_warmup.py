"""What a dry run measures, against the sweep itself."""

import itertools

import pytest

from jaxseg_xai.explainers.uncertainty.confidence import Confidence
from jaxseg_xai.store.precision import Storage
from jaxseg_xai.sweeps import warmup
from jaxseg_xai.sweeps.cost import Cost
from jaxseg_xai.sweeps.run import run_sweep, work_of
from jaxseg_xai.sweeps.warmup import warm_up
from tests import tiny

TWICE = (Confidence(), ("again", Confidence()))


@pytest.fixture(scope="module")
def config(model, tmp_path_factory):
    """Of 24 images; in half of the rows is nothing to explain."""
    images = tiny.write_images(tmp_path_factory.mktemp("images"), [f"i{n}" for n in range(24)])
    out = tmp_path_factory.mktemp("out") / "s.zarr"
    return tiny.sweep_config(out, model, images, explain=TWICE, classes=("bright", "never"))


def measured(config, sizes, *, costs=None, seconds=60.0):
    work = work_of(config)
    return warm_up(work, sizes, storage=Storage(), costs=costs or {}, seconds=seconds)


def test_a_forecast_is_near_what_comes(config):
    found = measured(config, {(32, 32): [2, 8, 14, 20]})
    assert [one.label for one in found.trials] == ["confidence", "again"]
    assert {one.share for one in found.trials} == {0.5}
    assert (found.num_programs, found.missing) == (2, ())
    each = [one.seconds for one in found.trials]
    assert found.explain_seconds == pytest.approx(24 * sum(each))
    # Nothing, where an earlier test of this process compiled the same.
    compiling = [one.compile_seconds for one in found.trials]
    assert found.compile_seconds == pytest.approx(sum(compiling))
    result = run_sweep(config)
    assert result.times.num_programs == 2
    chunks = sum(path.stat().st_size for path in config.out.rglob("c.*"))
    assert found.num_bytes == pytest.approx(chunks, rel=0.6)


def test_sizes_that_were_not_tried_go_by_their_pixels(config, monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(warmup.time, "perf_counter", lambda: next(clock))

    def tried(work, job, size, *_):
        return warmup.Trial(
            label=job.label,
            size=size,
            num_programs=1,
            compile_seconds=2.0,
            seconds=0.5,
            share=0.25,
            image_seconds=0.125,
            row_bytes=100.0,
            image_bytes=1000.0,
        )

    monkeypatch.setattr(warmup, "_try", tried)
    # Of 24 images, with two rows each, a quarter is twice as large; only two trials begin.
    found = measured(config, {(32, 32): [0, 1, 2], (32, 64): [3]}, seconds=2.5)
    assert [(one.label, one.size) for one in found.trials] == [
        ("confidence", (32, 32)),
        ("again", (32, 32)),
    ]
    assert (found.num_programs, found.compile_seconds) == (4, 8.0)
    images = 18 + 6 * 2  # of the smaller size
    assert found.explain_seconds == 2 * 2 * images * 0.25 * 0.5
    assert found.other_seconds == images * 0.125
    assert found.num_bytes == 2 * 2 * images * 100 + images * 1000


def test_what_there_is_no_time_for_is_not_begun(config):
    nothing = measured(config, {(32, 32): [0]}, seconds=0)
    assert nothing.trials == ()
    assert nothing.missing == ("confidence", "again")
    long = {"again": Cost(passes=10**6, seconds=1.0, share=1.0)}
    some = measured(config, {(32, 32): [0]}, costs=long)
    assert [one.label for one in some.trials] == ["confidence"]
    assert some.missing == ("again",)
