"""A PyTorch module taken apart into its code and its weights, and put together again.

It is pickled, but for its tensors and for what Python code consists of. So it can be built anew for
every trace, around any arrays; nothing that a forward pass leaves in it is seen by the next one;
and two modules that were made alike are equal.
"""

import dataclasses
import io
import pickle
import types
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from jaxseg_xai.core.errors import ModelError

#: Compared by identity: two classes of one name in a notebook need not do the same.
_CODE = (
    type,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.ModuleType,
    torch.dtype,
    torch.layout,
    torch.memory_format,
)

#: Modules that run another one on several devices.
_WRAPPERS = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)


@dataclasses.dataclass(frozen=True)
class Parts:
    """A module without its weights.

    Attributes:
      pickled: its objects.
      code: classes and functions that they refer to, by number.
      names: of its weights, by number.
    """

    pickled: bytes
    code: tuple[Any, ...]
    names: tuple[str, ...]

    def build(self, weights: Mapping[str, Any]) -> torch.nn.Module:
        """The module in evaluation mode, with values of any kind for its weights."""
        module = _Builder(self, weights).load()
        return module.eval()


def take_apart(module: torch.nn.Module) -> tuple[Parts, dict[str, np.ndarray]]:
    """Copy a module's code and its weights.

    Weights are all its tensors of floating-point numbers, wherever they are: parameters, buffers,
    attributes. Those of integers and booleans are part of the code.

    Args:
      module: is not changed.

    Returns:
      (code, weights by PyTorch's names in float32).

    Raises:
      ModelError: it cannot be copied, or a tensor has no values.
    """
    while isinstance(module, _WRAPPERS):
        module = module.module
    stream = io.BytesIO()
    taker = _Taker(stream, module)
    try:
        taker.dump(module)
    except ModelError:
        raise
    except Exception as error:  # whatever an object in somebody's module raises
        reason = str(error).strip().split("\n")[0]
        raise ModelError(
            f"the {type(module).__name__} cannot be copied: {type(error).__name__}: {reason}; "
            "remove that from the module, or build it anew and load its state dict"
        ) from error
    parts = Parts(stream.getvalue(), tuple(taker.code), tuple(taker.weights))
    return parts, taker.weights


class _Taker(pickle.Pickler):
    def __init__(self, stream: io.BytesIO, module: torch.nn.Module) -> None:
        super().__init__(stream, protocol=5)
        self.code: list[Any] = []
        self.weights: dict[str, np.ndarray] = {}
        self._names = {id(tensor): name for name, tensor in module.named_buffers()}
        self._names |= {id(tensor): name for name, tensor in module.named_parameters()}
        # With the object itself, so that no other gets its id.
        self._seen: dict[int, tuple[Any, tuple[str, int]]] = {}

    def persistent_id(self, obj: Any) -> tuple[str, int] | None:
        """What of the module is not pickled, by kind and number."""
        if id(obj) in self._seen:
            return self._seen[id(obj)][1]
        if isinstance(obj, torch.Tensor) and _is_weight(obj):
            # "down.conv/weight": what lists layers shows the module's name.
            name = "/".join(self._names.get(id(obj), f"tensor{len(self.weights)}").rsplit(".", 1))
            found = ("weight", len(self.weights))
            self.weights[name] = _array(obj, name)
        elif isinstance(obj, _CODE):
            found = ("code", len(self.code))
            self.code.append(obj)
        else:
            return None
        self._seen[id(obj)] = (obj, found)
        return found

    def reducer_override(self, obj: Any) -> Any:
        """Modules in evaluation mode, tensors that are no weights by their values."""
        if isinstance(obj, torch.nn.Module):
            function, arguments, *rest = obj.__reduce_ex__(5)
            if rest and isinstance(rest[0], dict) and "training" in rest[0]:
                rest[0] = rest[0] | {"training": False}
            return function, arguments, *rest
        if not isinstance(obj, torch.Tensor):
            return NotImplemented
        name = self._names.get(id(obj), "a tensor")
        array = _array(obj, name)
        if name.endswith("num_batches_tracked"):  # not used in evaluation mode
            array = np.zeros_like(array)
        return _constant, (array,)


class _Builder(pickle.Unpickler):
    def __init__(self, parts: Parts, weights: Mapping[str, Any]) -> None:
        super().__init__(io.BytesIO(parts.pickled))
        self._code, self._weights = parts.code, [weights[name] for name in parts.names]

    def persistent_load(self, pid: tuple[str, int]) -> Any:
        kind, number = pid
        return self._weights[number] if kind == "weight" else self._code[number]


def _constant(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array.copy())


def _is_weight(tensor: torch.Tensor) -> bool:
    return tensor.dtype.is_floating_point or tensor.dtype.is_complex


def _array(tensor: torch.Tensor, name: str) -> np.ndarray:
    if torch.nn.parameter.is_lazy(tensor):
        raise ModelError(f"{name} has no shape yet; call the module on an image before")
    if tensor.device.type == "meta":
        raise ModelError(f"{name} has no values (device meta); load the module's state dict before")
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise ModelError(f"{name} is sparse or quantized; give a module of ordinary numbers")
    # A copy: what happens to the module afterwards does not change the model.
    array = tensor.detach().to("cpu", torch.float32 if tensor.dtype.is_floating_point else None)
    return np.array(array.resolve_conj().resolve_neg().numpy())
