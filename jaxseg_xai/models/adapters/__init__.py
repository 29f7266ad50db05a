"""Python objects as models, one kind a file; a further one is a line in `models.registry`."""

from collections.abc import Callable
from typing import Any

#: Pure function (variables, inputs [B, *S, C]) -> raw output, hashable.
Apply = Callable[[Any, Any], Any]


class Adapter:
    """Base of all adapters: turns objects of one kind into a pure function and its weights."""

    @staticmethod
    def matches(model: Any) -> bool:
        """Whether the object is of this kind. It imports nothing heavy to find out."""
        raise NotImplementedError

    @staticmethod
    def adapt(model: Any, variables: Any) -> tuple[Apply, Any]:
        """The model in evaluation mode.

        Args:
          model: the object.
          variables: its weights, or None where the object holds them.

        Returns:
          (apply, variables). Where it can, `apply` is hashable by value, so that two models of one
          architecture share compiled programs.

        Raises:
          ConfigError: the weights are missing, or given twice.
        """
        raise NotImplementedError
