"""An ONNX model, read: what it takes, its weights, its constants and its operations."""

import ast
import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from jaxseg_xai.core.errors import ModelError
from jaxseg_xai.models.onnx.node import Node
from jaxseg_xai.models.onnx.run import SUPPORTED

#: Versions of the operators that are known here.
_OPSETS = range(17, 21)
#: Inputs that say how, not what: they are constants even where they are floats.
_SETTINGS = {
    "Clip": (1, 2),
    "Pad": (1, 2, 3),
    "Resize": (1, 2, 3),
    "Reshape": (1,),
    "Range": (0, 1, 2),
}
#: Operators whose arrays are weights, however few.
_LAYERS = {"Conv", "ConvTranspose", "Gemm", "BatchNormalization", "InstanceNormalization"}
#: Operators that may hold the number of images as a constant.
_OF_BATCH = {"Reshape", "Expand", "Tile", "Squeeze"}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """What runs.

    Attributes:
      input: name of the images.
      output: name of the logits.
      shape: of the images as declared, None for an axis of any size.
      channels_first: whether they are [B, C, *S].
      weights: name of an array that is a weight -> its key, "encoder/conv/weight".
      constants: the other arrays of the file.
      nodes: the operations, in order.
    """

    input: str
    output: str
    shape: tuple[int | None, ...]
    channels_first: bool
    weights: dict[str, str]
    constants: dict[str, np.ndarray]
    nodes: tuple[Node, ...]

    def description(self) -> dict[str, dict[str, Any]]:
        """What the file says of input and output, by the part of a description that takes it."""
        batch, *rest = self.shape
        del batch
        channels, space = (rest[0], rest[1:]) if self.channels_first else (rest[-1], rest[:-1])
        found: dict[str, Any] = {"rank": len(space)}
        if channels is not None:
            found["channels"] = channels
        if None not in space:
            found["fixed_size"] = tuple(space)
        return {"input": found, "output": {"channels_first": self.channels_first}}

    @property
    def one_by_one(self) -> bool:
        """Whether it was written for one image and may hold that number in a shape."""
        return self.shape[0] == 1 and any(node.kind in _OF_BATCH for node in self.nodes)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """A graph and its weights, key -> array."""

    graph: Graph
    weights: dict[str, np.ndarray]


def read_graph(model: Any, output: str | int = 0) -> Network:
    """Read an `onnx.ModelProto`.

    Args:
      model: it.
      output: name or index of the output that is the logits.

    Raises:
      ModelError: another version, unknown operators, or not one image as input.
    """
    import onnx
    from onnx import numpy_helper
    from onnx.inliner import inline_local_functions

    if model.functions:
        model = inline_local_functions(model)
    opset = {entry.domain: entry.version for entry in model.opset_import}.get("", 0)
    if opset not in _OPSETS:
        raise ModelError(
            f"opset {opset}; {_OPSETS[0]} to {_OPSETS[-1]} are supported: export with "
            "opset_version=18, or use onnx.version_converter.convert_version(model, 18)"
        )
    graph = model.graph
    unknown = sorted(
        {
            f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            for node in graph.node
            if node.domain not in ("", "ai.onnx") or node.op_type not in SUPPORTED
        }
    )
    if unknown:
        raise ModelError(
            f"operators that are not supported: {', '.join(unknown)}; export the network without "
            "them, or give it to as_model as a JAX function"
        )
    arrays = {array.name: numpy_helper.to_array(array) for array in graph.initializer}
    nodes = tuple(_node(node, opset, onnx, numpy_helper) for node in graph.node)
    roles = [
        (name, node.kind, i)
        for node in nodes
        for i, name in enumerate(node.inputs)
        if name in arrays
    ]
    settings = {name for name, kind, i in roles if i in _SETTINGS.get(kind, ())}
    of_layers = {name for name, kind, _ in roles if kind in _LAYERS} - settings
    weights, constants = {}, {}
    for name, array in arrays.items():
        floats = array.dtype.kind not in "iubO"
        if floats and name not in settings and (array.size > 1 or name in of_layers):
            weights[name] = np.asarray(array, np.float32)
        else:
            constants[name] = array
    inputs = [value for value in graph.input if value.name not in arrays]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise ModelError(f"inputs {names}; export a network whose only input is the image")
    dims = inputs[0].type.tensor_type.shape.dim
    shape = tuple(
        d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in dims
    )
    if len(shape) not in (4, 5):
        raise ModelError(f"an input of {len(shape)} axes; images have 4, volumes 5")
    if shape[0] not in (1, None):
        raise ModelError(
            f"it takes {shape[0]} images at a time; export it for one, or with a dynamic batch"
        )
    read = Graph(
        input=inputs[0].name,
        output=_output(graph, output),
        shape=shape,
        channels_first=shape[1] is not None or shape[-1] is None,
        weights=_keys(weights, nodes),
        constants=constants,
        nodes=nodes,
    )
    return Network(graph=read, weights={read.weights[name]: weights[name] for name in weights})


def _keys(names: Collection[str], nodes: Sequence[Node]) -> dict[str, str]:
    """Keys of weights, after which layers are named; what exporters number is called by its use."""
    keys = {name: name.replace(".", "/") for name in names}
    for node in nodes:
        for name, role in zip(node.inputs[1:], ("weight", "bias"), strict=False):
            module = _module(node)
            if name.startswith(("onnx::", "val_")) and name in keys and module:
                key = f"{module}/{role}"
                keys[name] = keys[name] if key in keys.values() else key
    return keys


def _module(node: Node) -> str:
    """The PyTorch module that an operation was in, as far as its exporter tells."""
    for entry in node.proto.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            *_, module, _ = ["", "", *ast.literal_eval(entry.value)]
            return module.replace(".", "/")
    return node.name.strip("/").rpartition("/")[0]


def _output(graph: Any, output: str | int) -> str:
    names = [value.name for value in graph.output]
    if isinstance(output, int) and -len(names) <= output < len(names):
        return names[output]
    if output in names:
        return str(output)
    raise ModelError(f"no output {output!r}; it has {', '.join(names)}")


def _node(node: Any, opset: int, onnx: Any, numpy_helper: Any) -> Node:
    attributes = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode()
        elif isinstance(value, onnx.TensorProto):
            value = numpy_helper.to_array(value)
        attributes[attribute.name] = value
    return Node(
        kind=node.op_type,
        name=node.name or ", ".join(node.output),
        inputs=tuple(node.input),
        outputs=tuple(node.output),
        attributes=attributes,
        opset=opset,
        proto=node,
    )
