"""Python objects as models, one kind a file; a further one is a line in `models.registry`."""

from collections.abc import Callable
from typing import Any, ClassVar

#: Pure function (variables, inputs [B, *S, C]) -> raw output, hashable.
Apply = Callable[[Any, Any], Any]


class Adapter:
    """Base of all adapters: turns objects of one kind into a pure function and its weights.

    Attributes:
      general: whether it takes objects that another adapter may know better.
    """

    general: ClassVar[bool] = False

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
          (apply, variables). A frozen dataclass for `apply` says that equal ones compute the same,
          so that two models of one architecture share compiled programs; anything else is equal
          to itself only.

        Raises:
          ConfigError: the weights are missing, or given twice.
        """
        raise NotImplementedError
