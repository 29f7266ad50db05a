"""A device without enough memory for a batch: smaller ones, or a status, and the rest goes on."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxseg_xai.devices import programs
from jaxseg_xai.explainers.runner import lower
from jaxseg_xai.explainers.uncertainty.confidence import Confidence
from jaxseg_xai.store import ZarrStore
from jaxseg_xai.sweeps.run import run_sweep
from tests import tiny


class Late:
    """A result that is not there when it is asked for."""


@pytest.fixture(scope="module")
def config(model, images, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "s.zarr"
    config = tiny.sweep_config(out, model, images, explain=(Confidence(),), batch_size=16)
    run_sweep(config, progress=False)
    return config


@pytest.fixture
def room(monkeypatch):
    """Let batches of more than so many rows fail, at once or where they are waited for."""
    compiled, device_get, tried = programs.compiled, jax.device_get, []

    def small(most, *, late=False):
        def limited(*arguments, **static):
            run, seconds = compiled(*arguments, **static)
            if arguments[0] is not lower:  # the model's own
                return run, seconds

            def checked(explainer, problem, batch):
                tried.append(len(batch.images))
                if len(batch.images) <= most:
                    return run(explainer, problem, batch)
                if late:
                    return Late()
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

            return checked, seconds

        def got(tree):
            if isinstance(tree, Late):
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
            return device_get(tree)

        monkeypatch.setattr(programs, "compiled", limited)
        monkeypatch.setattr(jax, "device_get", got)
        return tried

    return small


@pytest.mark.parametrize("late", [False, True])
def test_smaller_batches(config, tmp_path, room, caplog, late):
    smaller = dataclasses.replace(config, out=tmp_path / "s.zarr")
    tried = room(4, late=late)
    assert run_sweep(smaller, progress=False).num_failed == 0
    rows = sum(run_sweep(smaller, progress=False).counts["confidence"].values())
    assert tried[0] > 4
    assert set(tried[-2:]) == {4}
    assert tried.count(4) == -(-rows // 4)
    words = f"out of memory with {tried[0]} explanations at a time; "
    assert words in caplog.text
    one, other = ZarrStore.open(smaller.out), ZarrStore.open(config.out)
    for ours, theirs in zip(one.rows(), other.rows(), strict=True):
        found, expected = one.read(ours), other.read(theirs)
        np.testing.assert_allclose(found.attribution, expected.attribution, atol=1e-5)


def test_what_fits_nowhere_is_a_status(config, tmp_path, room, monkeypatch):
    nowhere = dataclasses.replace(config, out=tmp_path / "s.zarr")
    room(0)
    result = run_sweep(nowhere, progress=False)
    assert set(result.counts["confidence"]) == {"FAILED"}
    words = "out of memory with 4 explanations at a time, one a device; lower lanes or batch_size"
    assert all(words in reason for reason in result.reasons)
    monkeypatch.undo()
    again = run_sweep(dataclasses.replace(nowhere, retry_failed=True), progress=False)
    assert again.num_failed == 0


def test_other_errors_of_the_runtime_are_not_hidden(config, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise jax.errors.JaxRuntimeError("INTERNAL: the device fell off the bus")

    monkeypatch.setattr(programs, "compiled", lambda *_, **__: (broken, 0.0))
    with pytest.raises(jax.errors.JaxRuntimeError, match="fell off the bus"):
        run_sweep(dataclasses.replace(config, out=tmp_path / "s.zarr"), progress=False)
