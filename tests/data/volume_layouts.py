"""Tiny volumes, written in exactly the layouts in which data sets of them are published."""

import json

import h5py
import nibabel
import numpy as np

#: Voxels along x, y and z of NIfTI files; x runs to the left, y to the back, z up.
SIZE = (6, 5, 4)
AFFINE = np.array([[-2.0, 0, 0, 7], [0, -1.5, 0, 3], [0, 0, 3.0, -5], [0, 0, 0, 1]])


def numbers(name, *, channels=0):
    """Voxels of a case, int16 [x, y, z] or [x, y, z, channels], -500 to 500."""
    rng = np.random.default_rng(list(name.encode()))
    size = (*SIZE, channels) if channels else SIZE
    return rng.integers(-500, 500, size, dtype=np.int16)


def truth(name, num_labels):
    """Labels of a case, uint8 [x, y, z]."""
    rng = np.random.default_rng([7, *name.encode()])
    return rng.integers(0, num_labels, SIZE, dtype=np.uint8)


def save(path, values, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


def msd(root, cases=tuple(f"BRATS_{n:03d}" for n in range(1, 11)), channels=2):
    """A task of the Decathlon; the validation cases are BRATS_005 and BRATS_010."""
    root = root / "Task01_BrainTumour"
    card = {
        "name": "BRATS",
        "licence": "CC-BY-SA 4.0",
        "tensorImageSize": "4D",
        "modality": {"0": "FLAIR", "1": "T1w"} if channels == 2 else {"0": "CT"},
        "labels": {"0": "background", "1": "edema", "2": "tumour"},
        "numTraining": len(cases),
        "numTest": 1,
        "training": [
            {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"}
            for name in cases
        ],
        "test": ["./imagesTs/BRATS_900.nii.gz"],
    }
    for name in cases:
        shown = channels if channels > 1 else 0
        save(root / "imagesTr" / f"{name}.nii.gz", numbers(name, channels=shown))
        save(root / "labelsTr" / f"{name}.nii.gz", truth(name, 3))
    save(root / "imagesTs" / "BRATS_900.nii.gz", numbers("BRATS_900", channels=channels))
    (root / "dataset.json").write_text(json.dumps(card))
    return root


def btcv(root, cases=(1, 2, 5, 6)):
    root = root / "RawData" / "Training"
    for number in cases:
        name = f"img{number:04d}"
        save(root / "img" / f"{name}.nii.gz", numbers(name))
        save(root / "label" / f"label{number:04d}.nii.gz", truth(name, 14))
    return root


def synapse(root):
    """Two cases of slices, two of volumes."""
    root = root / "Synapse"
    for folder in ("train_npz", "test_vol_h5"):
        (root / folder).mkdir(parents=True)
    for name in ("case0005", "case0006"):
        for level in range(2):
            arrays = prepared(f"{name}_slice{level:03d}")
            np.savez(root / "train_npz" / f"{name}_slice{level:03d}.npz", **arrays)
    for name in ("case0001", "case0002"):
        with h5py.File(root / "test_vol_h5" / f"{name}.npy.h5", "w") as file:
            for key, values in prepared(name, (3, 8, 7)).items():
                file.create_dataset(key, data=values)
    return root


def prepared(name, size=(8, 7)):
    """Image in [0, 1] and labels of TransUNet's arrays, float32."""
    rng = np.random.default_rng(list(name.encode()))
    image, label = rng.random(size), rng.integers(0, 9, size)
    return {"image": image.astype(np.float32), "label": label.astype(np.float32)}


#: Name of the data set -> a function of an empty folder that writes one, and a file of its second
#: item that can be broken.
VOLUMES = {
    "msd": (msd, "imagesTr/BRATS_010.nii.gz"),
    "synapse": (synapse, "test_vol_h5/case0001.npy.h5"),
    "btcv": (btcv, "img/img0001.nii.gz"),
}
