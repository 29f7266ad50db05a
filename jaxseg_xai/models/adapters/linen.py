"""Flax Linen modules."""

import dataclasses
import sys
from typing import Any

import jax

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.models.adapters import Adapter, Apply


class LinenAdapter(Adapter):
    """Modules of `flax.linen`, whose `__call__(inputs)` gives the output of evaluation mode."""

    @staticmethod
    def matches(model: Any) -> bool:
        """Whether it is a Linen module; there is none before somebody has imported Linen."""
        linen = sys.modules.get("flax.linen")
        return linen is not None and isinstance(model, linen.Module)

    @staticmethod
    def adapt(model: Any, variables: Any) -> tuple[Apply, Any]:
        """The module's `apply`.

        Raises:
          ConfigError: its weights are not given.
        """
        if variables is None:
            raise ConfigError(
                "a Linen module does not hold its weights; give variables, as module.init returns "
                "them"
            )
        return ApplyLinen(model), variables


@dataclasses.dataclass(frozen=True)
class ApplyLinen:
    """Hashable by the module's settings."""

    module: Any

    def __call__(self, variables: Any, inputs: jax.Array) -> Any:
        """The module's output."""
        return self.module.apply(variables, inputs)
