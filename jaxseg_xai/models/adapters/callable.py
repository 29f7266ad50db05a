"""Any function that JAX can trace."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from jaxseg_xai.models.adapters import Adapter, Apply
from jaxseg_xai.models.adapters.places import import_object
from jaxseg_xai.models.weights import read_weights


class CallableAdapter(Adapter):
    """Functions (variables, inputs) -> output, or (inputs) -> output where there are no weights."""

    general = True

    @staticmethod
    def matches(model: Any) -> bool:
        """Whether it can be called; a class makes objects, and is no model itself."""
        return callable(model) and not isinstance(model, type)

    @staticmethod
    def adapt(model: Any, variables: Any) -> tuple[Apply, Any]:
        """The function itself; its weights are an empty tuple where there are none."""
        if variables is None:
            return ApplyInputs(model), ()
        return ApplyFunction(model), variables

    @staticmethod
    def open(place: Any, folder: Path, weights: Path | None) -> tuple[Any, Any]:
        """The function "package.module:name"; a weight file is a dictionary name -> array to it."""
        del folder
        return import_object(place), None if weights is None else read_weights(weights)


@dataclasses.dataclass(frozen=True, eq=False)
class ApplyFunction:
    """A function (variables, inputs), equal to itself only.

    Nobody sees whether the arrays that it captures, or those of its object, are still the same: one
    that is adapted again shares no compiled program with what it was before.
    """

    function: Callable[[Any, jax.Array], Any]

    def __call__(self, variables: Any, inputs: jax.Array) -> Any:
        """The function's output."""
        return self.function(variables, inputs)


@dataclasses.dataclass(frozen=True, eq=False)
class ApplyInputs:
    """A function of the inputs alone; like `ApplyFunction`."""

    function: Callable[[jax.Array], Any]

    def __call__(self, variables: Any, inputs: jax.Array) -> Any:
        """The function's output."""
        del variables
        return self.function(inputs)
