"""Where a network can be intervened on: layers and skip connections of a traced model."""

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

import jax

from jaxseg_xai.core.errors import ConfigError, ModelError
from jaxseg_xai.core.types import Array
from jaxseg_xai.program.trace import Equation, Program, operand

#: Applied to every number by itself: bias, normalisation and activation consist of these.
# fmt: off
_ELEMENTWISE = frozenset([
    "abs", "add", "ceil", "clamp", "convert_element_type", "copy", "div", "erf", "erfc", "exp",
    "exp2", "expm1", "floor", "integer_pow", "log", "log1p", "logistic", "max", "min", "mul",
    "neg", "pow", "round", "rsqrt", "select_n", "sign", "sqrt", "square", "sub", "tanh",
])
# fmt: on
#: Further ones between the first and the last equation of a normalisation or an activation.
_OF_NORMS = frozenset(
    ["broadcast_in_dim", "ge", "gt", "le", "lt", "reduce_sum", "reshape", "squeeze"]
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Site:
    """A tensor of the program that interventions replace, whole or by channel.

    Attributes:
      name: of a layer the path of its weight ("encoder/0/conv1"); of a skip connection the layers
        at its ends ("encoder/0/conv2 -> decoder/3/conv1").
      kind: "layer" or "skip".
      value: number of the tensor.
      axis: its channel axis.
      num_channels: its size there.
      reader: index of the only equation that sees the replaced tensor; None: all that read it do.
    """

    name: str
    kind: Literal["layer", "skip"]
    value: int
    axis: int
    num_channels: int
    reader: int | None = None

    def changed(self, program: Program) -> list[Equation]:
        """The equations whose result an intervention here can change, in order."""
        dirty = set() if self.reader is not None else {self.value}
        changed = []
        for index, equation in enumerate(program.equations):
            if index == self.reader or dirty.intersection(_values(equation)):
                changed.append(equation)
                dirty.update(equation.outputs)
        return changed

    def run_from(
        self, program: Program, base: Mapping[int, Array], replacement: jax.Array
    ) -> jax.Array:
        """The logits when the tensor is replaced; only what depends on it is evaluated again.

        Args:
          program: the model.
          base: its values without intervention, from `Program.run`.
          replacement: of the tensor's shape.

        Returns:
          Logits [B, *S, K].
        """
        values = dict(base)
        if self.reader is None:
            values[self.value] = replacement
        reader = None if self.reader is None else program.equations[self.reader]
        for equation in self.changed(program):
            seen = values if equation is not reader else {**values, self.value: replacement}
            found = equation.bind(*(operand(seen, atom) for atom in equation.inputs))
            values.update(zip(equation.outputs, found, strict=True))
        return operand(values, program.logits)


def run_shifted(
    program: Program, variables: object, image: jax.Array, sites: Sequence[Site], shifts: Sequence
) -> tuple[jax.Array, list[jax.Array]]:
    """Run the whole program, with an array added to the tensor of every site where it is read.

    With arrays of zeros it is the model itself; the gradients with respect to them are those with
    respect to the sites' tensors.

    Args:
      program: the model.
      variables: its weights.
      image: [B, *S, C].
      sites: where to add.
      shifts: one array per site, of its tensor's shape.

    Returns:
      (logits [B, *S, K], the sites' tensors before the addition).
    """
    values = dict(zip(program.variables, jax.tree.leaves(variables), strict=True))
    values[program.image] = image
    tensors: list = [None] * len(sites)
    for index, equation in enumerate(program.equations):
        seen = values
        for i, site in enumerate(sites):
            if site.reader == index:
                tensors[i] = values[site.value]
                seen = {**seen, site.value: seen[site.value] + shifts[i]}
        found = equation.bind(*(operand(seen, atom) for atom in equation.inputs))
        values.update(zip(equation.outputs, found, strict=True))
        for i, site in enumerate(sites):
            if site.reader is None and site.value in equation.outputs:
                tensors[i] = values[site.value]
                values[site.value] = tensors[i] + shifts[i]
    return operand(values, program.logits), tensors


def find_sites(program: Program) -> tuple[Site, ...]:
    """Layers, in order, then skip connections.

    A layer is a convolution, or a matrix product, of something that depends on the image by a
    weight that does not. Its tensor is what comes out of bias, normalisation and activation: it is
    followed through elementwise equations, and the sums of a normalisation, as long as nothing else
    reads it or enters. (Before an instance normalisation the gradient is 0 in the mean.)

    A skip connection is an operand of a concatenation or addition that comes from a higher
    resolution than the others: of the convolutions on its way from the image, even the one with the
    smallest output has a larger one than theirs. (Residual additions within one resolution are not
    listed, nor are skips of models that change resolution without a convolution.)

    Raises:
      ModelError: the model has no layer.
    """
    readers = defaultdict(list)
    for index, equation in enumerate(program.equations):
        for value in set(_values(equation)):
            readers[value].append(index)
    coarsest, last_layer = {program.image: math.inf}, {}
    layers: list[Site] = []
    skips: list[tuple[int, int]] = []
    for index, equation in enumerate(program.equations):
        sources = [v for v in dict.fromkeys(_values(equation)) if v in program.of_image]
        if not sources:
            continue
        smallest = min(coarsest[value] for value in sources)
        if equation.primitive.name in ("concatenate", "add") and len(sources) > 1:
            skips += [(index, value) for value in sources if coarsest[value] > smallest]
        latest = max(last_layer.get(value, -1) for value in sources)
        axis = _channel_axis(equation, program)
        if axis is not None:
            latest = len(layers)
            name = equation.name.rpartition("/")[0] or equation.name or equation.primitive.name
            layers.append(_layer(program, readers, name, equation.outputs[0], axis))
            smallest = min(smallest, _area(equation, program))
        for output in equation.outputs:
            coarsest[output], last_layer[output] = smallest, latest
    if not layers:
        raise ModelError(
            "the model has no convolution or matrix product with a weight to explain; weights that "
            "a function has captured are constants: give them as variables of as_model"
        )
    found = list(layers)
    for index, value in skips:
        source = last_layer[value]
        shape = program.shapes[value].shape
        axis = min(layers[source].axis if source >= 0 else len(shape), len(shape) - 1)
        start = layers[source].name if source >= 0 else "image"
        found.append(
            Site(
                name=f"{start} -> {_next_layer(program, index, layers)}",
                kind="skip",
                value=value,
                axis=axis,
                num_channels=shape[axis],
                reader=index,
            )
        )
    return _numbered(found)


def select_sites(sites: Sequence[Site], names: Sequence[str]) -> tuple[Site, ...]:
    """The sites of these names, all where there are none; ConfigError for an unknown name."""
    known = [site.name for site in sites]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(f"no layer {', '.join(unknown)}; the model has {', '.join(known)}")
    return tuple(site for site in sites if not names or site.name in names)


def _values(equation: Equation) -> list[int]:
    return [atom for atom in equation.inputs if isinstance(atom, int)]


def _channel_axis(equation: Equation, program: Program) -> int | None:
    """Axis of the output channels of a layer; None for another equation."""
    name = equation.primitive.name
    if name not in ("conv_general_dilated", "dot_general"):
        return None
    left, right = equation.inputs
    # A weight, not a constant: up-sampling by a fixed matrix is no layer.
    of_image = isinstance(left, int) and left in program.of_image
    if not of_image or not isinstance(right, int) or right in program.of_image:
        return None
    if name == "conv_general_dilated":
        return equation.params["dimension_numbers"].out_spec[1]
    (_, contracted), (batch, _) = equation.params["dimension_numbers"]
    one_axis = len(program.shapes[right].shape) == len(contracted) + 1
    return len(program.shapes[equation.outputs[0]].shape) - 1 if one_axis and not batch else None


def _layer(
    program: Program, readers: Mapping[int, list[int]], name: str, value: int, axis: int
) -> Site:
    shape = program.shapes[value].shape
    while (after := _followed(program, readers, value)) is not None:
        value = after
    return Site(name=name, kind="layer", value=value, axis=axis, num_channels=shape[axis])


def _followed(program: Program, readers: Mapping[int, list[int]], value: int) -> int | None:
    """The next tensor of the same shape that is made of this one alone, and replaces it for good.

    Normalisations by the image's own mean and activations like GELU read a tensor several times:
    all that is made of it must have come together again. None: it does not.
    """
    made, waiting = {value}, readers[value]
    while waiting:
        equation = program.equations[waiting[0]]
        if equation.primitive.name not in _ELEMENTWISE | _OF_NORMS:
            return None
        if not made.issuperset(v for v in _values(equation) if v in program.of_image):
            return None
        (output,) = equation.outputs
        waiting = sorted({*waiting[1:], *readers[output]})
        together = not any(made.intersection(_values(program.equations[i])) for i in waiting)
        made.add(output)
        same = program.shapes[output].shape == program.shapes[value].shape
        if together and same and equation.primitive.name in _ELEMENTWISE:
            return output
    return None


def _area(equation: Equation, program: Program) -> float:
    """Pixels that a convolution makes; infinite where there is one only (a pooled vector)."""
    if equation.primitive.name != "conv_general_dilated":
        return math.inf
    shape = program.shapes[equation.outputs[0]].shape
    area = math.prod(shape[d] for d in equation.params["dimension_numbers"].out_spec[2:])
    return area if area > 1 else math.inf


def _next_layer(program: Program, index: int, layers: Sequence[Site]) -> str:
    """Name of the first layer that a skip connection runs into."""
    changed = set(program.equations[index].outputs)
    for equation in program.equations[index + 1 :]:
        if changed.intersection(_values(equation)):
            changed.update(equation.outputs)
            name = next((site.name for site in layers if site.value in equation.outputs), "")
            if name:
                return name
    return "logits"


def _numbered(sites: Sequence[Site]) -> tuple[Site, ...]:
    """Names made unique: weights that are used twice make two layers."""
    seen: Counter[str] = Counter()
    named = []
    for site in sites:
        seen[site.name] += 1
        again = f"#{seen[site.name]}" if seen[site.name] > 1 else ""
        named.append(dataclasses.replace(site, name=site.name + again))
    return tuple(named)
