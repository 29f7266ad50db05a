"""A graph on images: operation by operation, shapes computed while JAX traces."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg_xai.core.errors import JaxsegError, ModelError
from jaxseg_xai.models.onnx import operators, spatial
from jaxseg_xai.models.onnx.node import Last, Node, channels_last, declared

#: Operators whose image is [B, *S, C] here; all other inputs are as the file has them.
_SPATIAL = spatial.OPERATORS
#: Operators that take any layout, if it is the same for all inputs.
_ANY_LAYOUT = operators.ANY_LAYOUT
#: Operators that want the layout of the file.
_DECLARED = operators.DECLARED
#: Known only where nothing in them depends on the values of the image.
_OF_SHAPES = {"Constant", "ConstantOfShape", "Range", "Shape", "Size", "NonZero", "Mod", "Round"}

SUPPORTED = frozenset({*_SPATIAL, *_ANY_LAYOUT, *_DECLARED, *_OF_SHAPES})


def run(graph: Any, variables: dict[str, jax.Array], images: jax.Array) -> jax.Array:
    """The graph's output, in the file's layout.

    Args:
      graph: a `Graph`.
      variables: its weights.
      images: [B, *S, C].

    Raises:
      ModelError: a shape depends on the values of the image, or images of this size do not fit.
    """
    values: dict[str, Any] = {"": None} | graph.constants
    values |= {name: variables[key] for name, key in graph.weights.items()}
    values[graph.input] = Last(images) if graph.channels_first else images
    for node in graph.nodes:
        inputs = [values[name] for name in node.inputs]
        try:
            found = _apply(node, inputs)
        except JaxsegError:
            raise
        except Exception as error:  # shapes that do not go together
            reason = str(error).strip().split("\n")[0]
            raise ModelError(
                f"{node.kind} {node.name!r} does not take images {images.shape[1:-1]}: {reason}; "
                "describe the sizes that it takes (multiple_of), or use the size of the export"
            ) from error
        values.update(zip(node.outputs, found, strict=False))
    return declared(values[graph.output])


def _apply(node: Node, inputs: list[Any]) -> list[Any]:
    if node.kind in ("Shape", "Size"):
        shape = np.array(
            np.shape(inputs[0]) if not isinstance(inputs[0], Last) else inputs[0].shape
        )
        if node.kind == "Size":
            return [np.array(np.prod(shape))]
        return [shape[node.get("start", 0) : node.get("end", None)]]
    if all(value is None or isinstance(value, np.ndarray) for value in inputs):
        return _by_reference(node, inputs)
    if node.kind != "Resize":  # whose scales are no numbers of the network
        inputs = _of_one_type(inputs)
    if node.kind in _OF_SHAPES:
        raise node.unsupported("a result that depends on the values of the image")
    if node.kind in _SPATIAL:
        return [
            Last(_SPATIAL[node.kind](node, channels_last(inputs[0]), *map(declared, inputs[1:])))
        ]
    if node.kind in _ANY_LAYOUT:
        if not any(isinstance(value, Last) for value in inputs):
            return [_ANY_LAYOUT[node.kind](node, *inputs)]
        rank = max(len(value.shape) for value in inputs if value is not None)
        turned = [_turned(value, rank) for value in inputs]
        if "axis" in node.attributes or node.kind in operators.LAST_AXIS:
            axis = node.get("axis", -1) % rank
            node = operators.with_axis(node, (0, rank - 1, *range(1, rank - 1))[axis])
        return [Last(_ANY_LAYOUT[node.kind](node, *turned))]
    found = _DECLARED[node.kind](node, *map(declared, inputs))
    return list(found) if isinstance(found, list | tuple) else [found]


def _of_one_type(inputs: list[Any]) -> list[Any]:
    """Constants in the floating type that the network computes in."""
    types = [v.dtype for v in inputs if isinstance(v, Last | jax.Array)]
    wanted = next((t for t in types if jnp.issubdtype(t, jnp.floating)), None)
    return [
        v.astype(wanted) if wanted and isinstance(v, np.ndarray) and v.dtype.kind == "f" else v
        for v in inputs
    ]


def _turned(value: Any, rank: int) -> Any:
    """A value of any rank, to go with others of this rank whose channels are last."""
    if isinstance(value, Last):
        if len(value.shape) == rank:
            return value.array
        value = declared(value)
    if value is None or np.ndim(value) == 0:
        return value
    module = np if isinstance(value, np.ndarray) else jnp
    value = module.reshape(value, (1,) * (rank - value.ndim) + value.shape)
    return module.moveaxis(value, 1, -1)


def _by_reference(node: Node, inputs: list[Any]) -> list[np.ndarray]:
    """An operation on constants, by onnx itself."""
    from onnx.reference import ReferenceEvaluator

    given = {n: np.asarray(v) for n, v in zip(node.inputs, inputs, strict=True) if n}
    evaluator = ReferenceEvaluator(node.proto, opsets={"": node.opset})
    return [np.asarray(value) for value in evaluator.run(None, given)]
