"""A process that is killed leaves a store that can be read and continued, wherever it was."""

import dataclasses
import itertools
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import zarr

from jaxseg_xai.core.errors import JaxsegError
from jaxseg_xai.core.types import Explanation, SegmentTarget, Status
from jaxseg_xai.data import PatchPool
from jaxseg_xai.store.store import ExplanationStore, PlanRow
from jaxseg_xai.sweeps.config import SweepConfig
from jaxseg_xai.sweeps.inputs import keep_pool, kept_pool
from jaxseg_xai.sweeps.run import run_sweep
from tests import tiny

PLAN = {"misure": [PlanRow(image_index=i, image_id=f"im{i}", class_index=1) for i in range(1)]}


class Killed(Exception):
    pass


@pytest.fixture
def killed_at(monkeypatch):
    """Run a function that dies in its n-th write to the disk; says whether it did."""
    put = zarr.storage.LocalStore.set

    def run(function, kill_at):
        count = itertools.count()

        async def dying_put(self, key, value):
            if next(count) == kill_at:
                # What there is in the middle of a write: the folder, and half of another file.
                path = Path(self.root) / key
                path.parent.mkdir(parents=True, exist_ok=True)
                path.with_suffix(".0123.partial").write_text('{"zarr_')
                raise Killed
            await put(self, key, value)

        with monkeypatch.context() as patch:
            patch.setattr(zarr.storage.LocalStore, "set", dying_put)
            try:
                function()
            except Killed:
                return True
        return False

    return run


def make(path, **options):
    return ExplanationStore.create_or_resume(path, plan=PLAN, config={"seed": 3}, **options)


def write(store, row):
    """An image and its explanation."""
    size = (4, 5)
    store.write_image(row, np.full((*size, 3), 7, np.uint8), np.full(size, row))
    explanation = Explanation(
        attribution=np.full(size, 0.5, np.float32),
        status=np.int32(Status.OK),
        scores={"dice": np.float32(0.25)},
        maps={"keep": np.ones(size, bool)},
        traces={"loss": np.arange(3.0)},
    )
    whole = np.ones(size, bool)
    target = SegmentTarget(class_index=np.int32(1), region=whole, reference=whole)
    store.write("misure", row, explanation, target)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store that nobody disturbed."""
    path = tmp_path_factory.mktemp("whole") / "s"
    complete(path)
    return path


def complete(path):
    """What the next sweep does."""
    store = make(path)
    for row in store.pending("misure"):
        write(store, row)


def test_killed_while_the_store_is_created(killed_at, whole, tmp_path):
    for kill_at in itertools.count(step=3):
        path = tmp_path / f"s{kill_at}"
        if not killed_at(lambda path=path: make(path), kill_at):
            break
        assert not path.exists()  # all of it, or none
    assert kill_at > 15
    complete(tmp_path / "s0")
    tiny.assert_same_store(tmp_path / "s0", whole)


def test_killed_while_the_first_row_is_written(killed_at, whole, tmp_path):
    """Which creates every array of a map, a score and a trace."""
    make(tmp_path / "start")
    for kill_at in itertools.count():
        path = shutil.copytree(tmp_path / "start", tmp_path / f"s{kill_at}")
        store = make(path)
        killed = killed_at(lambda store=store: write(store, 0), kill_at)
        assert {e.row for e in ExplanationStore.open(path)} <= {0}
        complete(path)
        tiny.assert_same_store(path, whole)
        if not killed:
            break
    assert kill_at > 10


def test_killed_while_the_patches_are_kept(killed_at, tmp_path):
    pool = PatchPool(
        patches=np.ones((4, 2, 2, 1), np.float32), sources=np.arange(4, dtype=np.uint32)
    )
    for kill_at in itertools.count():
        config = SweepConfig(out=tmp_path / f"s{kill_at}")
        make(config.out)
        killed = killed_at(lambda config=config: keep_pool(config, pool), kill_at)
        assert killed == (kept_pool(config) is None)
        make(config.out)
        keep_pool(config, pool)
        np.testing.assert_array_equal(kept_pool(config).patches, pool.patches)
        if not killed:
            break
    assert kill_at > 4


@pytest.mark.parametrize("lost", ["misure/zarr.json", "misure/height/zarr.json", "images/id"])
def test_a_store_that_lost_a_part_is_named_with_the_remedy(lost, whole, tmp_path):
    path = shutil.copytree(whole, tmp_path / "s")
    if (path / lost).is_dir():
        shutil.rmtree(path / lost)
    else:
        (path / lost).unlink()
    for opened in (ExplanationStore.open, make):
        with pytest.raises(JaxsegError, match=r"s is damaged: .* lacks .*--overwrite"):
            opened(path)
    assert len(make(path, overwrite=True).pending("misure")) == 1


def test_maps_that_lost_their_metadata_are_not_thrown_away(whole, tmp_path):
    path = shutil.copytree(whole, tmp_path / "s")
    array = path / "misure" / "attribution"
    (array / "zarr.json").unlink()
    with pytest.raises(JaxsegError, match=r"s is damaged: misure lacks attribution/zarr.json"):
        make(path)
    assert any(array.iterdir())


def test_metadata_that_is_cut_off(whole, tmp_path):
    path = shutil.copytree(whole, tmp_path / "s")
    (path / "misure" / "zarr.json").write_text('{"zarr_')
    with pytest.raises(JaxsegError, match="s is damaged: misure lacks"):
        make(path)


DIES = """
import os, signal, sys
import jax
jax.config.update("jax_num_cpu_devices", 4)
from pathlib import Path
from jaxseg_xai.sweeps.run import run_sweep
from jaxseg_xai.store.store import ExplanationStore
from tests import tiny

written, write = [], ExplanationStore.write
def dying(*arguments, **options):
    if len(written) == 10:
        os.kill(os.getpid(), signal.SIGKILL)
    written.append(write(*arguments, **options))

ExplanationStore.write = dying
run_sweep(tiny.sweep_config(*map(Path, sys.argv[1:])))
"""


def test_a_killed_process_loses_at_most_a_batch(model, tmp_path):
    images = tiny.write_images(tmp_path / "images", [f"i{k}" for k in range(12)])
    out = tmp_path / "s.zarr"
    config = tiny.sweep_config(out, model, images)
    # First, so that the other process finds its programs.
    undisturbed = dataclasses.replace(config, out=tmp_path / "whole.zarr")
    assert run_sweep(undisturbed).computed == {"misure": 12, "ate": 12}
    process = subprocess.run(
        [sys.executable, "-c", DIES, out, model, images],
        cwd=Path(__file__).parents[2],
        env=dict(
            tiny.environment(),
            JAX_COMPILATION_CACHE_DIR=jax.config.jax_compilation_cache_dir,
            JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
        ),
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr
    store = ExplanationStore.open(out)
    # Of each explainer one batch of 4 was stored, and two rows of the next were on their way.
    assert [len(store.pending(name)) for name in ("misure", "ate")] == [8, 8]
    assert run_sweep(config).computed == {"misure": 8, "ate": 8}
    tiny.assert_same_store(out, undisturbed.out)
