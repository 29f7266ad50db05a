"""Compiled programs that stay."""

import jax
import numpy as np
import pytest

from jaxseg_xai.core import caches
from jaxseg_xai.devices import programs
from jaxseg_xai.devices.programs import compiled


def test_double_precision_elsewhere_is_no_other_program_to_call():
    double = jax.jit(lambda x, rate: rate * x)
    x = np.arange(3, dtype=np.float32)
    with jax.enable_x64(True):
        run, seconds = compiled(double.lower, x, 2.0)
        again, no_seconds = compiled(double.lower, x, 2.0)
        found = run(x, 3.0)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [0, 3, 6])
    assert again is run
    assert (seconds > 0, no_seconds) == (True, 0)


@pytest.mark.parametrize(("taken", "stays"), [(49, True), (51, False)])
def test_programs_go_before_they_fill_the_memory_maps(monkeypatch, tmp_path, taken, stays):
    """Linux ends a process that wants more maps than it may have."""
    maps, most = tmp_path / "maps", tmp_path / "most"
    maps.write_text("a map\n" * taken)
    most.write_text("100\n")
    monkeypatch.setattr(caches, "_MAPS", maps)
    monkeypatch.setattr(caches, "_MOST_MAPS", most)
    first, other = jax.jit(lambda x: x + 1), jax.jit(lambda x: x + 2)
    run, _ = compiled(first.lower, 1.0)
    compiled(other.lower, 1.0)
    again, _ = compiled(first.lower, 1.0)
    assert (again is run) == stays


def test_a_run_keeps_its_last_programs(monkeypatch):
    asked = []
    monkeypatch.setattr(programs, "compiled", lambda lower, *_, **__: (asked.append(lower), 2.0))
    kept = programs.Programs()
    assert [kept.get(0, "a")[1], kept.get(0, "a")[1]] == [2.0, 0.0]
    for key in range(1, 8):
        kept.get(key, "b")
    assert kept.get(0, "a")[1] == 0.0
    kept.get(8, "c")  # in the place of 1, which was not used for longest
    assert [kept.get(0, "a")[1], kept.get(1, "b")[1]] == [0.0, 2.0]
    assert asked == ["a", *"bbbbbbb", "c", "b"]
