"""Weight files of any kind as flat name -> array dictionaries."""

import logging
import pickle
import zipfile
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from jaxseg_xai.core.errors import ModelError
from jaxseg_xai.models.weights import pickled
from jaxseg_xai.models.weights.checkpoint import state_dict

_UNSOUND = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    NotImplementedError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    safetensors.SafetensorError,
)


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """Read a flat name -> array dictionary.

    `.npz`, `.safetensors`, and what `torch.save` writes under any of its usual endings: a state
    dict, or a checkpoint that has one under `state_dict`, `model_state_dict`, `model` or
    `network_weights`. PyTorch is not needed, and nothing that the file names is imported or called.

    Raises:
      ModelError: the file is absent, damaged, of an unknown kind, or holds no state dict.
    """
    readers = {".npz": _read_npz, ".safetensors": safetensors.numpy.load_file}
    readers |= dict.fromkeys((".pth", ".pt", ".ckpt", ".bin", ".tar", ".pkl"), _read_torch)
    if path.suffix not in readers:
        raise ModelError(f"{path}: unknown kind of weight file; use one of {', '.join(readers)}")
    try:
        return readers[path.suffix](path)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such weight file") from None
    except _UNSOUND as error:
        reason = (str(error) or "it ends too early").split("\n")[0]
        raise ModelError(f"{path}: damaged weight file ({reason}); copy it again") from error
    except (TypeError, AttributeError, LookupError, RecursionError) as error:
        raise ModelError(
            f"{path}: cannot be read ({type(error).__name__}: {error}); save model.state_dict()"
        ) from error
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    # Opened here, since np.load leaves a damaged file open.
    with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
        try:
            return {name: file[name] for name in file.files}
        except ValueError as error:
            if "allow_pickle" not in str(error):
                raise
    raise ModelError("holds Python objects, not arrays: save them as np.savez(path, **state)")


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    content = pickled.read(path)
    arrays = state_dict(content.root, content.num_tensors)
    if content.unknown:
        names = ", ".join(sorted(content.unknown))
        logging.getLogger(__name__).info(
            "%s: objects of %d unknown classes were not made: %s", path, len(content.unknown), names
        )
    return arrays
