"""A results folder of nnU-Net v2 opened here, against what nnU-Net itself made; see README.md.

python -m tests.reference.nnunet.compare FOLDER
"""

import argparse
import json
from pathlib import Path

import jax
import nibabel
import numpy as np

import jaxseg_xai
from jaxseg_xai.core.inputs import prepare
from jaxseg_xai.core.types import Sample

#: Figure -> the most that it may be.
BOUNDS = {"network input": 1e-5, "patch logits": 1e-4, "logits": 1e-3, "probabilities": 1e-4}
CONFIGURATIONS = {"2d": "reference_2d.npz", "3d_fullres": "reference_3d.npz"}


def case_of(folder):
    """The case as SimpleITK reads it: z, y, x."""
    files = [nibabel.load(path) for path in sorted((folder / "case").glob("*_000?.nii.gz"))]
    image = np.stack([np.asarray(file.dataobj, np.float32).T for file in files], axis=-1)
    spacing = tuple(map(float, files[0].header.get_zooms()[::-1]))
    return Sample(id=folder.name, image=image, spacing=spacing)


def differences(folder, configuration, *, mirror=False):
    """Name of a figure -> largest difference, or the number of voxels that differ."""
    expected = np.load(folder / CONFIGURATIONS[configuration])
    about = json.loads((folder / "README.json").read_text())["configurations"][configuration]
    suffix = "mirror" if mirror else "nomirror"
    results = folder / f"nnUNetTrainer__nnUNetPlans__{configuration}"
    bundle = jaxseg_xai.from_nnunet(results, mirror=mirror)
    model, variables = bundle.segmenter, bundle.variables
    axes = model.apply.axes
    sample = case_of(folder)
    found = prepare(sample, model.input)
    inputs = found.image.transpose(*axes, 3)
    figures = {"network input": np.abs(np.moveaxis(inputs, -1, 0) - expected["net_input"]).max()}

    patch = np.moveaxis(expected["patch_input"], 0, -1)
    tile = jax.jit(model.apply._predict)(variables, patch[None])[0]
    stride = 2 if patch.ndim == 4 else 1
    tile = np.moveaxis(np.asarray(tile), -1, 0)[..., ::stride, ::stride]
    wanted = expected["patch_logits_mirror" if mirror else "patch_logits"]
    figures["patch logits"] = np.abs(tile - wanted).max()

    logits = np.asarray(jax.jit(model)(variables, found.image[None])[0])
    flat = np.moveaxis(logits.transpose(*axes, 3), -1, 0).reshape(logits.shape[-1], -1)
    figures["logits"] = np.abs(flat[:, expected["logits_idx"]] - expected[f"logits_{suffix}"]).max()

    whole = found.grid.back(logits)
    inside = found.grid.back(np.ones(found.grid.prepared, bool))
    probability = np.array(model.output.probability(whole))
    probability[~inside] = np.eye(probability.shape[-1])[0]
    flat = np.moveaxis(probability, -1, 0).reshape(probability.shape[-1], -1)
    wanted = expected[f"prob_{suffix}"]
    figures["probabilities"] = np.abs(flat[:, expected["prob_idx"]] - wanted).max()
    segmentation = np.asarray(model.output.prediction(whole))
    figures["segmentation"] = int((segmentation != expected[f"seg_{suffix}"]).sum())
    assert list(segmentation.shape) == about["image_shape_zyx"]
    return {name: float(value) for name, value in figures.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    right = True
    for configuration in CONFIGURATIONS:
        for mirror in (False, True):
            found = differences(folder, configuration, mirror=mirror)
            right &= all(value <= BOUNDS.get(name, 0) for name, value in found.items())
            told = ", ".join(f"{name} {value:.3g}" for name, value in found.items())
            print(f"{configuration}{' mirrored' * mirror}: {told}")
    raise SystemExit(0 if right else "some differences are too large")


if __name__ == "__main__":
    main()
