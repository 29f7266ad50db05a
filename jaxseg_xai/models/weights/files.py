"""Weight files of any kind as flat name -> array dictionaries."""

import logging
from pathlib import Path

import numpy as np
import safetensors.numpy

from jaxseg_xai.core.arrays import arrays_of
from jaxseg_xai.core.errors import ModelError, reason_of
from jaxseg_xai.models.weights import pickled
from jaxseg_xai.models.weights.checkpoint import state_dict


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
    except PermissionError:
        raise ModelError(f"{path}: no permission to read it; ask for it (chmod u+r)") from None
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    except (TypeError, AttributeError, LookupError, RecursionError) as error:
        raise ModelError(
            f"{path}: cannot be read ({type(error).__name__}: {reason_of(error)}); save "
            "model.state_dict()"
        ) from error
    except MemoryError:
        raise ModelError(f"{path}: does not fit into the memory, or is damaged") from None
    except Exception as error:
        # Decoders raise nearly anything on damaged bytes (OSError, UnpicklingError, zlib.error).
        reason = reason_of(error) if str(error) else "it ends too early"
        raise ModelError(f"{path}: damaged weight file ({reason}); copy it again") from error


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        return arrays_of(path)
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
