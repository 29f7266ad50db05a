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
from jaxseg_xai.ops.patches import PatchPool
from jaxseg_xai.store import Entry, PlanRow, StoredImage, ZarrStore
from jaxseg_xai.store.pools import read_pool, write_pool
from jaxseg_xai.sweeps.run import run_sweep
from tests import tiny

PLAN = {"misure": [PlanRow(image_index=0, image_id="im0", class_index=1)]}


class Killed(Exception):
    pass


@pytest.fixture
def killed_at(monkeypatch):
    """Run a function that dies in its n-th write to the disk; says whether it did."""
    put = zarr.storage.LocalStore.set_sync

    def run(function, kill_at):
        count = itertools.count()

        def dying_put(self, key, value):
            if next(count) >= kill_at:  # whoever is dead writes nothing else
                # What there is in the middle of a write: the folder, and half of another file.
                path = Path(self.root) / key
                path.parent.mkdir(parents=True, exist_ok=True)
                path.with_suffix(".0123.partial").write_text('{"zarr_')
                raise Killed
            put(self, key, value)

        with monkeypatch.context() as patch:
            patch.setattr(zarr.storage.LocalStore, "set_sync", dying_put)
            try:
                function()
            except Killed:
                return True
        return False

    return run


def make(path, **options):
    return ZarrStore.create_or_resume(
        path,
        entries=[Entry(label="misure", method="misure")],
        plan=PLAN,
        config={"seed": 3},
        **options,
    )


def write(store, row):
    """An image and its explanation."""
    size = (4, 5)
    picture = np.full((*size, 3), 7, np.uint8)
    store.write_image(row, StoredImage(id=f"im{row}", image=picture, labels=np.full(size, row)))
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
    store.flush()


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
    store.close()


def test_killed_while_the_store_is_created(killed_at, whole, tmp_path):
    for kill_at in itertools.count(step=3):
        path = tmp_path / f"s{kill_at}"
        if not killed_at(lambda path=path: make(path), kill_at):
            break
        with pytest.raises(JaxsegError, match="is not an explanation store"):
            ZarrStore.open(path)  # all of it, or none
    assert kill_at > 15
    complete(tmp_path / "s0")
    tiny.assert_same_store(tmp_path / "s0", whole)


def test_killed_while_rows_are_written(killed_at, whole, tmp_path):
    """In a journal or a shard, for which every array of a map, a score and a trace is made."""
    make(tmp_path / "start")
    for kill_at in itertools.count(step=2):
        path = shutil.copytree(tmp_path / "start", tmp_path / f"s{kill_at}")
        killed = killed_at(lambda path=path: complete(path), kill_at)
        assert {row.number for row in ZarrStore.open(path).rows(done_only=True)} <= {0}
        complete(path)
        tiny.assert_same_store(path, whole)
        if not killed:
            break
    assert kill_at > 10


def test_killed_while_a_changed_entry_is_made_anew(killed_at, whole, tmp_path):
    """Its rows are gone or there, those of the other stay."""

    def two(path, settings):
        return ZarrStore.create_or_resume(
            path,
            entries=[Entry(label=label, method="misure") for label in ("misure", "other")],
            plan={"misure": PLAN["misure"], "other": PLAN["misure"]},
            config={"seed": 3, "explain": {"misure": 1, "other": settings}},
        )

    start = two(tmp_path / "start", {"tau": 1})
    write(start, 0)
    for kill_at in itertools.count(step=2):
        path = shutil.copytree(tmp_path / "start", tmp_path / f"s{kill_at}")
        killed = killed_at(lambda path=path: two(path, {"tau": 2}), kill_at)
        store = two(path, {"tau": 2})
        assert [len(store.pending(label)) for label in ("misure", "other")] == [0, 1]
        assert store.attrs["config"]["explain"]["other"] == {"tau": 2}
        store.close()
        assert store.damage() == []
        if not killed:
            break
    assert kill_at > 10


def test_killed_while_the_patches_are_kept(killed_at, tmp_path):
    sources = np.arange(8, dtype=np.uint32).reshape(4, 2)
    pool = PatchPool(patches=np.ones((4, 2, 2, 1), np.float32), sources=sources)
    for kill_at in itertools.count():
        out = tmp_path / f"s{kill_at}"
        make(out)
        killed = killed_at(lambda out=out: write_pool(out, 2, pool), kill_at)
        assert killed == (read_pool(out, 2) is None)
        make(out)
        write_pool(out, 2, pool)
        np.testing.assert_array_equal(read_pool(out, 2).patches, pool.patches)
        np.testing.assert_array_equal(read_pool(out, 2).sources, sources)
        if not killed:
            break
    assert kill_at > 4


@pytest.mark.parametrize("lost", ["misure/zarr.json", "images/zarr.json", "images/id"])
def test_a_store_that_lost_a_part_is_named_with_the_remedy(lost, whole, tmp_path):
    path = shutil.copytree(whole, tmp_path / "s")
    if (path / lost).is_dir():
        shutil.rmtree(path / lost)
    else:
        (path / lost).unlink()
    with pytest.raises(JaxsegError, match=r"s is damaged: .* lacks .*--overwrite"):
        ZarrStore.open(path).rows()
    with pytest.raises(JaxsegError, match="--overwrite"):
        make(path)
    assert len(make(path, overwrite=True).pending("misure")) == 1


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
import zarr
from jaxseg_xai.sweeps import engine
from jaxseg_xai.sweeps.run import run_sweep
from tests import tiny

engine._SECONDS = 0.0  # a journal a batch
kill_at, since, put, count = int(sys.argv[1]), sys.argv[2], zarr.storage.LocalStore.set_sync, [-1]
def dying(self, key, value):
    count[0] += count[0] >= 0 or key.startswith(since)
    if count[0] == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    put(self, key, value)

zarr.storage.LocalStore.set_sync = dying
run_sweep(tiny.sweep_config(*map(Path, sys.argv[3:])), progress=False)
"""


def run_until(kill_at, *arguments, since=""):
    """A sweep in a process that dies in its n-th write since that of a key; its exit code."""
    process = subprocess.run(
        [sys.executable, "-c", DIES, str(kill_at), since, *arguments],
        cwd=Path(__file__).parents[2],
        env=dict(
            tiny.environment(),
            JAX_COMPILATION_CACHE_DIR=jax.config.jax_compilation_cache_dir,
            JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
            JAX_DISABLE_MOST_OPTIMIZATIONS="1",  # as in this process, to the last bit
        ),
        stderr=subprocess.PIPE,
        text=True,
        timeout=300,
    )
    assert process.returncode in (0, -signal.SIGKILL), process.stderr
    return process.returncode


@pytest.fixture(scope="module")
def undisturbed(model, tmp_path_factory):
    """A sweep that nobody disturbed, in whose process the programs of the others were compiled."""
    folder = tmp_path_factory.mktemp("undisturbed")
    images = tiny.write_images(folder / "images", [f"i{k}" for k in range(12)])
    config = tiny.sweep_config(folder / "s.zarr", model, images)
    assert run_sweep(config).times.computed == {"misure": 12, "ate": 12}
    return config


def test_a_killed_process_loses_at_most_a_batch(undisturbed, model, tmp_path):
    out = tmp_path / "s.zarr"
    places = out, model, undisturbed.data.source
    config = dataclasses.replace(undisturbed, out=out)
    # A batch of images or explanations is a journal of two files.
    assert run_until(7, *places, since="journal") == -signal.SIGKILL
    first = len(ZarrStore.open(out).rows(done_only=True))
    assert run_until(5, *places, since="journal") == -signal.SIGKILL
    kept = len(ZarrStore.open(out).rows(done_only=True))
    assert 0 < first < kept < 24
    assert sum(run_sweep(config).times.computed.values()) == 24 - kept
    tiny.assert_same_store(out, undisturbed.out)


@pytest.mark.slow
def test_a_process_that_is_killed_twenty_times(undisturbed, model, tmp_path):
    """Anywhere: while it makes the store, in a journal, a shard, or the columns."""
    rng = np.random.default_rng(0)
    killed = 0
    for number in itertools.count():
        out = tmp_path / f"s{number}.zarr"
        for _ in range(6):
            code = run_until(int(rng.integers(200)), out, model, undisturbed.data.source)
            killed += code == -signal.SIGKILL
            if code == 0:
                break
        run_sweep(dataclasses.replace(undisturbed, out=out), progress=False)
        tiny.assert_same_store(out, undisturbed.out)
        if killed >= 20:
            break
