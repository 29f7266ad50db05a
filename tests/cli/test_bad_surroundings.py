"""Files that change, links, permissions, full disks: one line, an exit code, nothing is lost."""

import errno
import itertools
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from jaxseg_xai.cli import main as cli
from jaxseg_xai.core.errors import DataError
from jaxseg_xai.core.types import Status
from jaxseg_xai.data.sources.folder import FolderDataset
from jaxseg_xai.store import ZarrStore
from tests import tiny

NAMES = ["i0", "i1", "i2", "i3"]
NOBODY = 65534


@pytest.fixture(autouse=True)
def no_user_cache(monkeypatch):
    """`main` leaves the cache alone where the user has chosen one."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "chosen")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def sweep(model, tmp_path):
    """A sweep of four images: exit code of a run with some more flags."""
    images = tiny.write_images(tmp_path / "data", NAMES)

    def run(*flags):
        given = ["--model", model, "--data.source", images, "--out", tmp_path / "s.zarr"]
        given += ["--classes", "bright", "--explain", "confidence", "--batch-size", "4", *flags]
        return cli.main(["sweep", *map(str, given)])

    return run


def statuses(path):
    store = ZarrStore.open(path)
    return {row.image_id: row.status for row in store.rows()}


def error_of(capsys):
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1, error
    return error


@pytest.mark.parametrize("happens", ["vanishes", "shrinks", "becomes another"])
def test_an_image_that_changes_while_a_sweep_reads(sweep, tmp_path, monkeypatch, capsys, happens):
    path = tmp_path / "data" / "images" / "i2.png"
    whole, read = path.read_bytes(), FolderDataset.__getitem__

    def changing(self, index):
        if path.exists() and path.read_bytes() == whole:
            match happens:
                case "vanishes":
                    path.unlink()
                case "shrinks":
                    path.write_bytes(whole[:100])
                case "becomes another":
                    Image.fromarray(tiny.picture(0, 24)[0]).save(path)
        return read(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(FolderDataset, "__getitem__", changing)
        code = sweep()
    found = statuses(tmp_path / "s.zarr")
    if happens == "becomes another":  # of another size than its label map: no method needs that
        assert code == 0
        return
    assert code == 1
    assert f"failed: {path}: " in error_of(capsys)
    assert found == {name: Status.FAILED if name == "i2" else Status.OK for name in NAMES}
    path.write_bytes(whole)
    assert sweep("--retry-failed") == 0
    assert "1 computed" in capsys.readouterr().out
    assert set(statuses(tmp_path / "s.zarr").values()) == {Status.OK}


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_volume_that_changes_while_it_is_read(tmp_path, name):
    values = np.random.default_rng(0).integers(0, 900, (30, 20, 10), dtype=np.int16)
    path = tmp_path / name
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    source = FolderDataset(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=f"{name}: .*cut off or corrupt|{name}: corrupt"):
        source[0]
    nibabel.save(nibabel.Nifti1Image(values[:, :, :4], np.eye(4)), path)
    assert source[3].image.shape == (20, 30, 1)
    with pytest.raises(DataError, match=rf"{name}: changed since the folder was opened; open it"):
        source[7]


def test_a_volume_that_is_cut_off_after_it_was_read(tmp_path):
    """Its voxels are in memory; a mapped file would end the process here."""
    path = tmp_path / "a.nii"
    values = np.random.default_rng(0).integers(0, 900, (64, 64, 40), dtype=np.int16)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    source = FolderDataset(tmp_path, window=(0, 900))
    first = source[0].image
    path.write_bytes(b"")
    assert np.isfinite(source[39].image).all()
    assert first.shape == (64, 64, 1)


def test_a_disk_that_is_full(sweep, tmp_path, monkeypatch, capsys):
    """In the middle of the images; the same command goes on once there is space."""
    put, first = zarr.storage.LocalStore.set_sync, tmp_path / "s.zarr"
    writes = itertools.count()

    def counted(self, key, value):
        next(writes)
        put(self, key, value)

    with monkeypatch.context() as patch:
        patch.setattr(zarr.storage.LocalStore, "set_sync", counted)
        assert sweep("--batch-size", "1", "--data.limit", "3") == 0
    shutil.rmtree(first)
    left = itertools.count(-next(writes) * 2 // 3)

    def full(self, key, value):
        if next(left) >= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        put(self, key, value)

    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(zarr.storage.LocalStore, "set_sync", full)
        assert sweep("--batch-size", "1", "--data.limit", "3") == 2
    assert "s.zarr: cannot read or write the explanation store (No space left" in error_of(capsys)
    assert sweep("--batch-size", "1", "--data.limit", "3") == 0
    assert set(statuses(first).values()) == {Status.OK}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device")
def test_a_sheet_on_a_full_disk(sweep, tmp_path, capsys):
    images = tmp_path / "data"
    assert cli.main(["inspect", str(images), "--out", "/dev/full"]) == 2
    assert (
        error_of(capsys) == "jaxseg-xai: /dev/full: cannot be written (No space left on device)\n"
    )


@pytest.fixture
def unprivileged():
    """A folder of a user who is not root, and that user for the rest of the test."""
    folder = Path(tempfile.mkdtemp())
    is_root = os.geteuid() == 0
    try:
        if is_root:
            folder.chmod(0o777)
            os.seteuid(NOBODY)
        yield folder
    finally:
        if is_root:
            os.seteuid(0)
        shutil.rmtree(folder)


SAVE = {
    "a.png": lambda path: Image.fromarray(tiny.picture(0)[0]).save(path),
    "a.tif": lambda path: tifffile.imwrite(path, tiny.picture(0)[0]),
    "a.npz": lambda path: np.savez(path, image=tiny.picture(0)[0]),
    "a.nii": lambda path: nibabel.save(nibabel.Nifti1Image(np.eye(8)[None], np.eye(4)), path),
}


@pytest.mark.parametrize("name", SAVE)
def test_a_file_without_permission(unprivileged, name):
    path = unprivileged / name
    SAVE[name](path)
    path.chmod(0)
    with pytest.raises(DataError, match=rf"{name}: no permission to read it; ask for it \(chmod"):
        FolderDataset(unprivileged)[0]


def test_a_folder_without_permission(unprivileged):
    closed = unprivileged / "images"
    closed.mkdir()
    SAVE["a.png"](closed / "a.png")
    closed.chmod(0)
    try:
        with pytest.raises(DataError, match=r"images: no permission to list it; ask for it"):
            FolderDataset(unprivileged)
    finally:
        closed.chmod(0o777)


def test_an_output_that_cannot_be_written(unprivileged, capsys):
    """Nothing is computed for it."""
    closed = unprivileged / "closed"
    closed.mkdir()
    closed.chmod(0o555)
    model, images = tiny.write_model(unprivileged / "model"), unprivileged / "data"
    flags = ["--model", model, "--data.source", tiny.write_images(images, ["i0"])]
    flags += ["--explain", "confidence", "--out", closed / "s.zarr"]
    assert cli.main(["sweep", *map(str, flags)]) == 2
    error = error_of(capsys)
    assert "s.zarr: cannot read or write the explanation store (Permission denied)" in error
    assert list(closed.iterdir()) == []


def test_links(tmp_path, caplog):
    """To a file anywhere they are followed; what leads nowhere, or in a circle, is counted."""
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "folder"
    elsewhere.mkdir()
    folder.mkdir()
    SAVE["a.png"](elsewhere / "b.png")
    (folder / "a.png").symlink_to(elsewhere / "b.png")
    (folder / "circle.png").symlink_to(folder / "circle.png")
    (folder / "gone.png").symlink_to(elsewhere / "gone.png")
    (folder / "self").symlink_to(folder)
    source = FolderDataset(folder)
    assert source.ids == ("a",)
    assert source[0].image.shape == (32, 32, 3)
    assert [record.message for record in caplog.records] == [
        f"{folder}: left out are broken links (2): circle.png, gone.png",
        f"{folder}: left out are sub-folders with images (1): self",
    ]


def test_an_archive_is_not_unpacked(tmp_path, capsys, model):
    """Whatever paths it has inside."""
    images = tiny.write_images(tmp_path / "data", ["i0", "i1"]) / "images"
    with zipfile.ZipFile(images / "scans.zip", "w") as archive:
        archive.writestr("../../out.png", "x")
    flags = ["--model", model, "--explain", "confidence", "--out", tmp_path / "s.zarr"]
    flags += ["--data.source", images / "scans.zip"]
    assert cli.main(["sweep", *map(str, flags)]) == 1
    assert "scans.zip: an image of type .zip cannot be read; convert it to" in error_of(capsys)
    assert not list(tmp_path.rglob("out.png"))
