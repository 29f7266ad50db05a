"""The state dict among all that people keep in a checkpoint."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxseg_xai.core.errors import ModelError
from jaxseg_xai.models.weights.stored import Inert, NumpyArray, Tensor

#: Keys under which training code keeps the state dict: plain PyTorch and Lightning, timm, nnU-Net.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "network_weights")


def state_dict(root: Any, num_tensors: int) -> dict[str, np.ndarray]:
    """Name -> array of the weights; what is no array beside them is left out.

    Args:
      root: what was saved, see `pickled.Content`.
      num_tensors: in all of it.

    Raises:
      ModelError: there is none.
    """
    found = _find(root)
    if found is not None:
        return found
    whole = _whole_object(root)
    if whole and num_tensors:
        raise ModelError(f"holds a whole Python object ({whole}): save model.state_dict()")
    if isinstance(root, Mapping):
        kinds = f"a dictionary of {', '.join(map(ascii, list(root)[:5])) or 'nothing'}"
    else:
        kinds = f"a {whole or type(root).__name__}"
    raise ModelError(f"not a state dict but {kinds[:200]}; save model.state_dict()")


def _find(value: Any) -> dict[str, np.ndarray] | None:
    if not isinstance(value, Mapping):
        return None
    for key in _WRAPPERS:
        if (found := _find(value.get(key))) is not None:
            return found
    arrays = {
        name: array
        for name, item in value.items()
        if isinstance(name, str) and (array := _array(item)) is not None
    }
    return arrays or None


def _array(item: Any) -> np.ndarray | None:
    return item.array() if isinstance(item, Tensor | NumpyArray) else None


def _whole_object(root: Any) -> str:
    """Name of the class of an object in place of weights; "" if there is none."""
    found = [root, *(root.values() if isinstance(root, Mapping) else ())]
    return next((type(item).__name__ for item in found if isinstance(item, Inert)), "")
