"""Maps as NIfTI: each voxel of a map lies where it lies in the image."""

import nibabel
import numpy as np
import pytest

import jaxseg_xai
from jaxseg_xai.cli import main as cli
from jaxseg_xai.data.sources.folder import FolderDataset

AFFINE = np.array([[0, -3.0, 0, 9], [0, 0, 4, 7], [2, 0, 0, 5], [0, 0, 0, 1]])
VALUES = np.random.default_rng(0).random((6, 8, 5)).astype(np.float32)


def sweep(folder, rank, chosen=None, **options):
    """Integrated gradients of a model whose attribution is the image itself."""
    nibabel.save(nibabel.Nifti1Image(VALUES, AFFINE), folder / "scan.nii.gz")
    names = ["dark", "bright"]
    model = jaxseg_xai.as_model(lambda x: x, class_names=names, channels=1, rank=rank)
    source = FolderDataset(folder, window=(0, 1), rank=rank, **options)
    samples = [source[index] for index in chosen or range(len(source))]
    method = jaxseg_xai.IntegratedGradients(outcome="summed_logits", num_nodes=1)
    out = folder / "s.zarr"
    jaxseg_xai.sweep(
        model=model, data=samples, explain=method, out=out, classes="bright", progress=False
    )
    return out


def export(store, out, *flags):
    assert cli.main(["store", "export", "--store", str(store), "--out", str(out), *flags]) == 0
    return {path.name: nibabel.load(path) for path in sorted(out.iterdir())}


def test_a_volume_is_on_the_grid_of_its_file(tmp_path):
    store = sweep(tmp_path, 3)
    found = export(store, tmp_path / "maps", "--maps", "attribution", "prediction")
    assert list(found) == [
        f"scan-bright-integrated_gradients-{name}.nii.gz" for name in ("attribution", "prediction")
    ]
    first, second = found.values()
    np.testing.assert_allclose(first.affine, AFFINE)
    (row,) = jaxseg_xai.open_store(store)
    np.testing.assert_array_equal(np.asarray(first.dataobj), row.attribution.T)
    np.testing.assert_array_equal(np.asarray(second.dataobj), VALUES > 0)


@pytest.mark.parametrize("plane", ["axial", "sagittal"])
def test_slices_become_one_volume(tmp_path, plane):
    store = sweep(tmp_path, 2, [3, 1], plane=plane)
    ((name, image),) = export(store, tmp_path / "maps").items()
    assert name == "scan-bright-integrated_gradients-attribution.nii.gz"
    found, rows = np.asarray(image.dataobj), list(jaxseg_xai.open_store(store))
    assert found.ndim == 3
    assert min(found.shape) == 3  # the slice between is empty
    for row in rows:
        place = row.image.affine
        for index in ((0, 0), (2, 1), (3, 4)):
            position = place @ [*index, 0, 1]
            voxel = np.round(np.linalg.inv(image.affine) @ position).astype(int)[:3]
            assert found[tuple(voxel)] == row.attribution[index]
            original = np.round(np.linalg.inv(AFFINE) @ position).astype(int)[:3]
            assert row.attribution[index] == pytest.approx(VALUES[tuple(original)], rel=1e-5)


def test_what_cannot_be_exported(tmp_path, capsys):
    store = tmp_path / "s.zarr"
    jaxseg_xai.sweep(
        model=jaxseg_xai.as_model(lambda x: x, class_names=["dark", "bright"], channels=1),
        data=np.eye(4, dtype=np.float32),
        explain="confidence",
        out=store,
        progress=False,
    )
    assert (
        cli.main(["store", "export", "--store", str(store), "--out", str(tmp_path / "maps")]) == 2
    )
    assert "no map of an image that says where it lies" in capsys.readouterr().err
    assert cli.main(["store", "export", "--store", str(store), "--maps", "nose"]) == 2
    assert "confidence has no map 'nose'; it has" in capsys.readouterr().err
