"""Any function that JAX can trace."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from jaxseg_xai.models.adapters import Adapter, Apply


class CallableAdapter(Adapter):
    """Functions (variables, inputs) -> output, or (inputs) -> output where there are no weights."""

    @staticmethod
    def matches(model: Any) -> bool:
        """Whether it can be called; a class makes objects, and is no model itself."""
        return callable(model) and not isinstance(model, type)

    @staticmethod
    def adapt(model: Any, variables: Any) -> tuple[Apply, Any]:
        """The function itself; its weights are an empty tuple where there are none."""
        if variables is None:
            return ApplyInputs(model), ()
        return model, variables


@dataclasses.dataclass(frozen=True)
class ApplyInputs:
    """A function of the inputs alone; hashable as the function is."""

    function: Callable[[jax.Array], Any]

    def __call__(self, variables: Any, inputs: jax.Array) -> Any:
        """The function's output."""
        del variables
        return self.function(inputs)
