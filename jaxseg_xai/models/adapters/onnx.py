"""Networks in ONNX files."""

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxseg_xai.core.errors import ConfigError, MissingExtraError, ModelError, reason_of
from jaxseg_xai.models.adapters import Adapter, Apply
from jaxseg_xai.models.onnx.graph import Graph, Network, read_graph
from jaxseg_xai.models.onnx.run import run


class ONNXAdapter(Adapter):
    """Objects of `onnx.ModelProto`."""

    @staticmethod
    def matches(model: Any) -> bool:
        """Whether it is an ONNX model; there is none before somebody has imported onnx."""
        onnx = sys.modules.get("onnx")
        return isinstance(model, Network) or (
            onnx is not None and isinstance(model, onnx.ModelProto)
        )

    @classmethod
    def describe(cls, model: Any) -> Mapping[str, Mapping[str, Any]]:
        """Rank, channels and sizes as the file declares them."""
        return _read(model).graph.description()

    @staticmethod
    def adapt(model: Any, variables: Any) -> tuple[Apply, Any]:
        """The graph and its weights.

        Raises:
          ConfigError: weights are given beside the model.
          ModelError: see `read_graph`.
        """
        if variables is not None:
            raise ConfigError("an ONNX model holds its own weights; leave variables out")
        network = _read(model)
        weights = {name: jnp.asarray(value) for name, value in network.weights.items()}
        return ApplyONNX(network.graph), weights

    @staticmethod
    def open(place: Any, folder: Path, weights: Path | None) -> tuple[Any, Any]:
        """A file beside the card, "net.onnx"; it has its weights."""
        if weights is not None:
            raise ConfigError("an ONNX file has its own weights; leave weights out")
        if not isinstance(place, str):
            raise ConfigError(f"{place!r} is no name of a file")
        return read_onnx(folder / place), None


def read_onnx(path: str | Path, output: str | int = 0) -> Network:
    """Read an ONNX file, with the weights that lie beside it.

    Raises:
      MissingExtraError: onnx is not installed.
      ModelError: the file is absent or damaged, or cannot be used; see `read_graph`.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError(f"reading {path}", "onnx") from error
    try:
        return read_graph(onnx.load(path), output)
    except FileNotFoundError as error:
        raise ModelError(f"{error.filename or path}: no such file") from None
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    except Exception as error:  # damage shows anywhere: in the file, its graph, its arrays
        raise ModelError(
            f"{path}: damaged ONNX file ({reason_of(error)}); copy or export it again"
        ) from error


def _read(model: Any) -> Network:
    return model if isinstance(model, Network) else read_graph(model)


@dataclasses.dataclass(frozen=True, eq=False)
class ApplyONNX:
    """A graph without its weights, equal to itself only."""

    graph: Graph

    def __call__(self, variables: Any, inputs: jax.Array) -> Any:
        """The graph's output, in its own layout."""
        if not self.graph.one_by_one:
            return run(self.graph, variables, inputs)
        return jax.vmap(lambda image: run(self.graph, variables, image[None])[0])(inputs)
