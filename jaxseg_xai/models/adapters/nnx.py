"""Flax NNX modules."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.models.adapters import Adapter, Apply
from jaxseg_xai.models.adapters.places import call_factory
from jaxseg_xai.models.weights import load_weights, read_weights


class NNXAdapter(Adapter):
    """Modules of `flax.nnx`, which hold their weights."""

    @staticmethod
    def matches(model: Any) -> bool:
        """Whether it is an NNX module."""
        return isinstance(model, nnx.Module)

    @staticmethod
    def adapt(model: Any, variables: Any) -> tuple[Apply, Any]:
        """Split the module into a function and its weights, without dropout and batch statistics.

        Raises:
          ConfigError: weights are given beside the module.
        """
        if variables is not None:
            raise ConfigError("an NNX module holds its own weights; leave variables out")
        frozen = nnx.view(
            model, deterministic=True, use_running_average=True, raise_if_not_found=False
        )
        graphdef, variables = nnx.split(frozen)
        return ApplyNNX(graphdef), variables

    @staticmethod
    def open(place: Any, folder: Path, weights: Path | None) -> tuple[Any, Any]:
        """What the factory "package.module:name" returns; a weight file has its own names."""
        del folder
        model = call_factory(place, NNXAdapter.matches)
        if weights is not None:
            load_weights(model, read_weights(weights))
        return model, None


@dataclasses.dataclass(frozen=True)
class ApplyNNX:
    """Hashable by the graph's value: two copies of one architecture share compiled programs."""

    graphdef: Any

    def __call__(self, variables: Any, inputs: jax.Array) -> Any:
        """The module's output."""

        def run(variables: Any, inputs: jax.Array) -> Any:
            return nnx.merge(self.graphdef, variables)(inputs)

        # On a trace level of its own, where models may use `nnx.remat` and `nnx.jit`.
        return jax.jit(run)(variables, inputs)
