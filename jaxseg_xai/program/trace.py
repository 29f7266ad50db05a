"""A model as a flat list of equations: calls inlined, constants evaluated, dead code gone."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
from jax.extend import core

from jaxseg_xai.core.errors import JaxsegError, ModelError
from jaxseg_xai.core.types import Array, Predict
from jaxseg_xai.ops.convolution import textbook
from jaxseg_xai.program.convolve import convolve
from jaxseg_xai.program.derivatives import RELU, ZERO, is_relu, own_derivative

#: Calls whose body is put in their place: parameter that holds it.
_BODY = ("jaxpr", "call_jaxpr", "fun_jaxpr")
_INLINED = (
    "jit",
    "pjit",
    "closed_call",
    "core_call",
    "remat",
    "remat2",
    "checkpoint",
    "custom_jvp_call",
    "custom_vjp_call",
    "custom_vjp_call_jaxpr",
)

#: What a weight goes through before it is used.
_SAME_WEIGHT = ("reshape", "convert_element_type", "broadcast_in_dim", "transpose", "rev")

#: A value of the program: its number, or (constants) the value itself.
Atom = int | Array


@dataclasses.dataclass(frozen=True, eq=False)
class Equation:
    """One primitive applied to atoms.

    Attributes:
      primitive: the JAX primitive.
      params: its parameters.
      inputs: numbers of values, or constants.
      outputs: numbers of the values it makes.
      name: path of the weight it uses, where there is one (a readable name of a layer).
    """

    primitive: Any
    params: Mapping[str, Any]
    inputs: tuple[Atom, ...]
    outputs: tuple[int, ...]
    name: str = ""

    def bind(self, *operands: Array) -> list[Array]:
        """Evaluate; convolutions in the library's faster form, which has reverse mode only."""
        if self.primitive.name == "conv_general_dilated":
            return [convolve(self.params, operands, self.params["padding"])]
        found = self.primitive.bind(*operands, **self.params)
        return list(found) if self.primitive.multiple_results else [found]


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """A traced model.

    Attributes:
      equations: in order; only those that the output needs.
      shapes: number of a value -> its shape and dtype.
      variables: numbers of the weights' leaves.
      image: number of the images [B, *S, C].
      logits: number of the output [B, *S, K].
      of_image: values that depend on the image.
      derivatives: names of functions in the model that define their own derivative, which is lost
        here: the program's derivative is that of what they compute.
    """

    equations: tuple[Equation, ...]
    shapes: Mapping[int, jax.ShapeDtypeStruct]
    variables: tuple[int, ...]
    image: int
    logits: int
    of_image: frozenset[int]
    derivatives: frozenset[str]

    def numbers(self) -> list[int]:
        """Numbers of the image and of all outputs, in order; those of two traces correspond."""
        return [self.image, *(out for equation in self.equations for out in equation.outputs)]

    def run(self, variables: Any, image: Array) -> dict[int, Array]:
        """Every value of the program, by number."""
        values = dict(zip(self.variables, jax.tree.leaves(variables), strict=True))
        values[self.image] = image
        for equation in self.equations:
            found = equation.bind(*(operand(values, atom) for atom in equation.inputs))
            values.update(zip(equation.outputs, found, strict=True))
        return values


def operand(values: Mapping[int, Array], atom: Atom) -> Array:
    """The value of an atom."""
    return values[atom] if isinstance(atom, int) else atom


def trace(
    predict: Predict, variables: Any, shape: tuple[int, ...], dtype: Any, *, whole: bool = False
) -> Program:
    """Trace `predict(variables, images)` for images of a shape [B, *S, C].

    Args:
      predict: the model.
      variables: its weights, or their shapes.
      shape: of the images.
      dtype: of the images.
      whole: make a single equation of the whole model.

    Raises:
      ModelError: it cannot be traced, or does not map images to logits [B, *S, K] that depend on
        them.
    """
    traced = jax.jit(predict) if whole else predict
    try:
        with textbook(not whole):
            closed = jax.make_jaxpr(traced)(variables, jax.ShapeDtypeStruct(shape, dtype))
    except JaxsegError:
        raise
    except Exception as error:  # whatever the user's model raises
        reason = str(error).strip().split("\n")[0]
        raise ModelError(
            f"the model cannot be traced for images {shape}: {type(error).__name__}: {reason}; "
            "give it images of a size that it takes, and write it in JAX without Python "
            "control flow on values"
        ) from error
    _check_logits([var.aval for var in closed.jaxpr.outvars], shape)
    paths = [_path(path) for path, _ in jax.tree_util.tree_flatten_with_path(variables)[0]]
    flat = _Flattener(inlines=not whole)
    numbers = [flat.number(var.aval) for var in closed.jaxpr.invars]
    flat.names = dict(zip(numbers, paths, strict=False))
    (logits,) = flat.inline(closed.jaxpr, closed.consts, numbers)
    equations = _with_constants(_alive(flat.equations, logits), flat.constant)
    of_image = {numbers[-1]}
    for equation in equations:
        if any(isinstance(atom, int) and atom in of_image for atom in equation.inputs):
            of_image.update(equation.outputs)
    if not isinstance(logits, int) or logits not in of_image:
        raise ModelError(
            "the logits do not depend on the image; an intervention on it can have no effect"
        )
    return Program(
        equations=tuple(equations),
        shapes=flat.shapes,
        variables=tuple(numbers[:-1]),
        image=numbers[-1],
        logits=logits,
        of_image=frozenset(of_image),
        derivatives=frozenset(flat.derivatives),
    )


class _Flattener:
    """Numbers the values of a jaxpr and of the calls in it, and notes those that are constant."""

    def __init__(self, inlines: bool) -> None:
        self.inlines = inlines
        self.equations: list[Equation] = []
        self.constant: set[int] = set()
        self.shapes: dict[int, jax.ShapeDtypeStruct] = {}
        self.names: dict[int, str] = {}
        self.derivatives: set[str] = set()

    def number(self, aval: Any) -> int:
        number = len(self.shapes)
        self.shapes[number] = jax.ShapeDtypeStruct(aval.shape, aval.dtype)
        return number

    def is_constant(self, atom: Atom) -> bool:
        """Whether it depends on neither weights nor image."""
        return not isinstance(atom, int) or atom in self.constant

    def inline(self, jaxpr: Any, consts: Any, atoms: list[Atom]) -> list[Atom]:
        atom_of: dict[Any, Atom] = dict(zip(jaxpr.constvars, consts, strict=True))
        atom_of.update(zip(jaxpr.invars, atoms, strict=True))

        def look_up(var: Any) -> Atom:
            if isinstance(var, core.Literal):  # a Python number has no type of its own
                aval: Any = var.aval
                return aval.dtype.type(var.val)
            return atom_of[var]

        for eqn in jaxpr.eqns:
            inputs = [look_up(var) for var in eqn.invars]
            body = next((eqn.params[key] for key in _BODY if key in eqn.params), None)
            if self.inlines and eqn.primitive.name in _INLINED and body is not None:
                inner = body if isinstance(body, core.ClosedJaxpr) else core.ClosedJaxpr(body, ())
                if is_relu(eqn.primitive.name, inner.jaxpr):
                    outputs = self._append(eqn, [*inputs, ZERO], RELU)
                else:
                    self.derivatives |= own_derivative(eqn.primitive.name, inner.jaxpr)
                    outputs = self.inline(inner.jaxpr, inner.consts, inputs)
            else:
                outputs = self._append(eqn, inputs)
            atom_of.update(zip(eqn.outvars, outputs, strict=True))
        return [look_up(var) for var in jaxpr.outvars]

    def _append(self, eqn: Any, inputs: list[Atom], replacement: Any = None) -> list[Atom]:
        if eqn.primitive.name == "optimization_barrier":
            return inputs
        if eqn.primitive.name == "concatenate":
            # `jnp.pad` joins what is empty to the axes that it does not pad.
            d = eqn.params["dimension"]
            inputs = [a for a, var in zip(inputs, eqn.invars, strict=True) if var.aval.shape[d]]
            if len(inputs) == 1:
                return inputs
        outputs = tuple(self.number(var.aval) for var in eqn.outvars)
        if not eqn.effects and all(self.is_constant(a) for a in inputs):
            self.constant.update(outputs)
        name = next((self.names[a] for a in inputs if isinstance(a, int) and a in self.names), "")
        primitive, params = (replacement, {}) if replacement else (eqn.primitive, eqn.params)
        self.equations.append(Equation(primitive, params, tuple(inputs), outputs, name))
        if eqn.primitive.name in _SAME_WEIGHT and name:
            self.names[outputs[0]] = name
        return list(outputs)


def _check_logits(found: list[Any], shape: tuple[int, ...]) -> None:
    """Only of functions that are no `Segmenter`, which says more about its output itself."""
    axes = ", ".join(map(str, shape[:-1]))
    wanted = f"the model must give one array of logits [{axes}, K]"
    if len(found) != 1:
        raise ModelError(f"{wanted}, not {len(found)} arrays; wrap it in a function that picks one")
    if len(found[0].shape) != len(shape) or found[0].shape[:-1] != shape[:-1]:
        raise ModelError(
            f"{wanted}, aligned with images {shape}, not {found[0].shape}; resize its output to "
            "the image's size"
        )


def _with_constants(equations: list[Equation], constant: set[int]) -> list[Equation]:
    """Evaluate what depends on neither weights nor image: interpolations, counts, positions.

    In one compiled program, as in the compiled model: eager arithmetic rounds differently, and
    then nearest neighbours can be others.
    """
    known = [e for e in equations if constant.issuperset(e.outputs)]
    rest = [e for e in equations if not constant.issuperset(e.outputs)]
    wanted = constant.intersection(a for e in rest for a in e.inputs if isinstance(a, int))

    def evaluate() -> dict[int, Array]:
        values: dict[int, Array] = {}
        for equation in known:
            found = equation.bind(*(operand(values, atom) for atom in equation.inputs))
            values.update(zip(equation.outputs, found, strict=True))
        return {number: values[number] for number in wanted}

    # Compiled by hand, for a plan may be made while something else is traced.
    found = jax.jit(evaluate).lower().compile()() if wanted else {}
    # On the host: they go into programs of any devices.
    values = {number: jax.device_get(value) for number, value in found.items()}
    return [
        dataclasses.replace(
            e, inputs=tuple(values.get(a, a) if isinstance(a, int) else a for a in e.inputs)
        )
        for e in rest
    ]


def _alive(equations: list[Equation], logits: Atom) -> list[Equation]:
    needed, alive = {logits} if isinstance(logits, int) else set(), []
    for equation in reversed(equations):
        if needed.intersection(equation.outputs):
            alive.append(equation)
            needed.update(atom for atom in equation.inputs if isinstance(atom, int))
    return alive[::-1]


def _path(path: Any) -> str:
    """encoder/0/conv1/kernel from a key path."""
    parts = (getattr(key, "key", getattr(key, "idx", getattr(key, "name", None))) for key in path)
    return "/".join(str(part) for part in parts if part not in (None, "value"))
