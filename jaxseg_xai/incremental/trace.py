"""A model as a flat list of equations: traced, calls inlined, constants evaluated, dead code gone."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.extend import core

from jaxseg_xai.types import Array, Predict

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
        """Evaluate."""
        found = self.primitive.bind(*operands, **self.params)
        return list(found) if self.primitive.multiple_results else [found]


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """A traced model.

    Attributes:
      equations: in order; only those that the output needs.
      shapes: number of a value -> its shape and dtype.
      variables: numbers of the weights' leaves.
      image: number of the image [B, H, W, C].
      logits: number of the output [B, H, W, K], or the constant that it is.
      of_image: values that depend on the image.
    """

    equations: tuple[Equation, ...]
    shapes: Mapping[int, jax.ShapeDtypeStruct]
    variables: tuple[int, ...]
    image: int
    logits: Atom
    of_image: frozenset[int]

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


def trace(predict: Predict, variables: Any, shape: tuple[int, ...], dtype: Any) -> Program:
    """Trace `predict(variables, images)` for images of a shape [B, H, W, C]."""
    closed = jax.make_jaxpr(predict)(variables, jax.ShapeDtypeStruct(shape, dtype))
    paths = [_path(path) for path, _ in jax.tree_util.tree_flatten_with_path(variables)[0]]
    flat = _Flattener()
    numbers = [flat.number(var.aval) for var in closed.jaxpr.invars]
    flat.names = dict(zip(numbers, paths, strict=False))
    (logits,) = flat.inline(closed.jaxpr, closed.consts, numbers)
    equations = _alive(flat.equations, logits)
    of_image = {numbers[-1]}
    for equation in equations:
        if any(isinstance(atom, int) and atom in of_image for atom in equation.inputs):
            of_image.update(equation.outputs)
    return Program(
        equations=tuple(equations),
        shapes=flat.shapes,
        variables=tuple(numbers[:-1]),
        image=numbers[-1],
        logits=logits,
        of_image=frozenset(of_image),
    )


class _Flattener:
    """Numbers the values of a jaxpr and of the calls in it; evaluates what depends on nothing."""

    def __init__(self) -> None:
        self.equations: list[Equation] = []
        self.shapes: dict[int, jax.ShapeDtypeStruct] = {}
        self.names: dict[int, str] = {}

    def number(self, aval: Any) -> int:
        number = len(self.shapes)
        self.shapes[number] = jax.ShapeDtypeStruct(aval.shape, aval.dtype)
        return number

    def inline(self, jaxpr: Any, consts: Any, atoms: list[Atom]) -> list[Atom]:
        atom_of: dict[Any, Atom] = dict(zip(jaxpr.constvars, consts, strict=True))
        atom_of.update(zip(jaxpr.invars, atoms, strict=True))

        def look_up(var: Any) -> Atom:
            return np.asarray(var.val) if isinstance(var, core.Literal) else atom_of[var]

        for eqn in jaxpr.eqns:
            inputs = [look_up(var) for var in eqn.invars]
            body = next((eqn.params[key] for key in _BODY if key in eqn.params), None)
            if eqn.primitive.name in _INLINED and body is not None:
                inner = body if isinstance(body, core.ClosedJaxpr) else core.ClosedJaxpr(body, ())
                outputs = self.inline(inner.jaxpr, inner.consts, inputs)
            else:
                outputs = self._append(eqn, inputs)
            atom_of.update(zip(eqn.outvars, outputs, strict=True))
        return [look_up(var) for var in jaxpr.outvars]

    def _append(self, eqn: Any, inputs: list[Atom]) -> list[Atom]:
        if not any(isinstance(atom, int) for atom in inputs) and not eqn.effects:
            # Depends on neither weights nor image: interpolation matrices, counts, positions.
            with jax.ensure_compile_time_eval():
                return list(Equation(eqn.primitive, eqn.params, tuple(inputs), ()).bind(*inputs))
        outputs = tuple(self.number(var.aval) for var in eqn.outvars)
        name = next((self.names[a] for a in inputs if isinstance(a, int) and a in self.names), "")
        self.equations.append(Equation(eqn.primitive, eqn.params, tuple(inputs), outputs, name))
        if eqn.primitive.name in ("reshape", "convert_element_type", "broadcast_in_dim") and name:
            self.names[outputs[0]] = name
        return list(outputs)


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
