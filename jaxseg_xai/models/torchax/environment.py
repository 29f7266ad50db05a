"""Where PyTorch's operators are those of JAX: torchax's environment, with some of our own."""

import dataclasses
import functools
import threading
import warnings
from collections.abc import Mapping
from typing import Any

import jax
import torch
from torch.utils import _pytree as pytree
from torchax.tensor import Environment, OperatorNotFound, Tensor
from torchax.view import View

from jaxseg_xai.core.errors import ModelError
from jaxseg_xai.models.torchax.operators import OPERATORS
from jaxseg_xai.models.torchax.parts import Parts

#: The environment counts on being entered once at a time.
_LOCK = threading.RLock()


def call(parts: Parts, weights: Mapping[str, jax.Array], images: jax.Array) -> Any:
    """The output of a module: arrays in dicts and tuples, None for what is no tensor.

    Args:
      parts: the module.
      weights: its weights by name.
      images: [B, C, *S].

    Raises:
      ModelError: an operator has no form in JAX.
    """
    environment = _environment()
    # Whatever a module draws in evaluation mode is the same for every image.
    drawn = environment.override_property(prng=jax.random.key(0))
    with _LOCK, warnings.catch_warnings(), environment, drawn, torch.no_grad():
        # torchax asks for PyTorch's int64 and gets int32.
        warnings.filterwarnings("ignore", "Explicitly requested dtype")
        tensors = environment.j2t_iso((dict(weights), images))
        return _arrays(parts.build(tensors[0])(tensors[1]))


@functools.cache
def _environment() -> "_Environment":
    """One of our own: what a user does to torchax's does not matter here, nor the other way."""
    with jax.ensure_compile_time_eval():  # not part of the trace in which it is first needed
        environment = _Environment()
    for operator, function in OPERATORS.items():
        environment.override_op_definition(operator, environment.of_arrays(function))
    return environment


class _Environment(Environment):
    """Tensors that were made on the CPU in the forward pass are constants."""

    def of_arrays(self, function: Any) -> Any:
        """A function of JAX arrays as one of tensors."""

        @functools.wraps(function)
        def of_tensors(*args: Any, **kwargs: Any) -> Any:
            args, kwargs = self.t2j_iso((args, kwargs))
            return self.j2t_iso(function(*args, **kwargs))

        return of_tensors

    def dispatch(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """Call an operator."""
        leaves = pytree.tree_leaves((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        if len({isinstance(tensor, Tensor | View) for tensor in tensors}) > 1:
            name = _name(func)
            if not isinstance(args[0], Tensor | View) and _writes(name):
                raise ModelError(
                    f"the PyTorch module writes into a tensor of its own ({name}) that is not on "
                    "the image's device; make it with device=image.device"
                )
            args, kwargs = pytree.tree_map_only(torch.Tensor, self._as_ours, (args, kwargs or {}))
        try:
            return super().dispatch(func, types, args, kwargs)
        except OperatorNotFound:
            if isinstance(func, torch._ops.OpOverload):
                raise ModelError(
                    f"the operator {_name(func)} of PyTorch has no form in JAX; put others in its "
                    "place in the module"
                ) from None
            raise  # a function: PyTorch takes it apart into operators

    def _as_ours(self, tensor: torch.Tensor) -> torch.Tensor:
        if isinstance(tensor, Tensor | View):
            return tensor
        return Tensor(self.t2j_copy(tensor), self)


def _writes(name: str) -> bool:
    base = name.rpartition("::")[2].partition(".")[0]
    return base == "__setitem__" or (base.endswith("_") and not base.startswith("__"))


def _name(func: Any) -> str:
    """Of an operator or function: "aten::add_", "__setitem__"."""
    return str(getattr(func, "__name__", "")) if not hasattr(func, "name") else func.name()


def _arrays(found: Any) -> Any:
    if isinstance(found, Tensor | View):
        return found.jax()
    if isinstance(found, Mapping):
        return {key: _arrays(value) for key, value in found.items()}
    if isinstance(found, list | tuple):
        return tuple(_arrays(value) for value in found)
    if dataclasses.is_dataclass(found) and not isinstance(found, type):
        return {
            field.name: _arrays(getattr(found, field.name)) for field in dataclasses.fields(found)
        }
    return None
