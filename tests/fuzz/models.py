"""Weight files, models, and the tables that describe them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch

from jaxseg_xai.core.errors import ModelError
from jaxseg_xai.models.adapters.onnx import read_onnx
from jaxseg_xai.models.folder import load_model
from jaxseg_xai.models.nnunet.load import from_nnunet
from jaxseg_xai.models.weights import read_weights
from tests import tiny
from tests.fuzz.target import Target
from tests.models import test_nnunet


def weights(name: str, save: Callable[[dict, Path], object]) -> Target:
    arrays = {"a.weight": np.eye(3, 4, dtype=np.float32), "a.bias": np.arange(3.0)}

    def read(folder: Path) -> None:
        for array in read_weights(folder / name).values():
            assert isinstance(array, np.ndarray), type(array)

    return Target(lambda folder: save(arrays, folder / name), read)


def torch_save(arrays: dict, path: Path, **options) -> None:
    state = {"state_dict": {k: torch.from_numpy(np.array(v)) for k, v in arrays.items()}, "n": 7}
    torch.save(state, path, **options)


def nnunet(folder: Path) -> None:
    """Without a fold: what is looked at is what stands in the tables."""
    try:
        from_nnunet(folder, configuration="2d")
    except ModelError as error:
        if "no fold 0" not in str(error):
            raise


def nnunet_tables(folder: Path) -> None:
    table = {"labels": test_nnunet.LABELS, "channel_names": {"0": "CT", "1": "MRI"}}
    (folder / "plans.json").write_text(json.dumps(test_nnunet.PLANS))
    (folder / "dataset.json").write_text(json.dumps(table))


MODELS: dict[str, Target] = {
    "safetensors": weights("w.safetensors", safetensors.numpy.save_file),
    "weights-npz": weights("w.npz", lambda arrays, path: np.savez(path, **arrays)),
    "pth": weights("w.pth", torch_save),
    "pth-old": weights(
        "w.pt", lambda a, path: torch_save(a, path, _use_new_zipfile_serialization=False)
    ),
    "model": Target(tiny.write_model, load_model, share=0.5),
    "nnunet": Target(nnunet_tables, nnunet),
    "onnx": Target(
        lambda folder: (folder / "net.onnx").write_bytes(
            (Path(__file__).parents[1] / "reference" / "onnx" / "unet.onnx").read_bytes()
        ),
        lambda folder: read_onnx(folder / "net.onnx"),
    ),
}
