"""One operation of a graph, and the two layouts of what flows through it."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxseg_xai.core.errors import ModelError


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Node:
    """One operation.

    Attributes:
      kind: its operator, "Conv".
      name: in the file; for messages.
      inputs: names of values; "" for one that is left out.
      outputs: names of values.
      attributes: of the file, text decoded and tensors as NumPy arrays.
      opset: version of the operators.
      proto: the file's own form.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    opset: int
    proto: Any = None

    def get(self, attribute: str, default: Any) -> Any:
        """An attribute, or its default."""
        return self.attributes.get(attribute, default)

    def unsupported(self, what: str) -> ModelError:
        """The error for something about this operation."""
        return ModelError(
            f"{self.kind} {self.name!r}: {what} is not supported; give the network to as_model as "
            "a JAX function"
        )


@dataclasses.dataclass(frozen=True)
class Last:
    """A value [B, C, *S] of the file, kept as [B, *S, C].

    Convolutions want it so. It stays so through operations that do not care, and is turned where
    one does.
    """

    array: jax.Array

    @property
    def dtype(self) -> Any:
        """Of its numbers."""
        return self.array.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """As the file has it."""
        batch, *space, channels = self.array.shape
        return (batch, channels, *space)


def declared(value: Any) -> Any:
    """A value in the file's own layout."""
    return jnp.moveaxis(value.array, -1, 1) if isinstance(value, Last) else value


def channels_last(value: Any) -> jax.Array:
    """A value [B, C, *S] as [B, *S, C]."""
    return value.array if isinstance(value, Last) else jnp.moveaxis(jnp.asarray(value), 1, -1)
