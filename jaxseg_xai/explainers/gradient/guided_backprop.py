"""Guided backpropagation: a gradient that ReLUs let through only where it is positive."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg_xai.core.errors import ModelError
from jaxseg_xai.core.segmenter import Segmenter
from jaxseg_xai.explainers.base import Example, Meta, Parts, Problem
from jaxseg_xai.explainers.gradient.base import GradientMethod
from jaxseg_xai.program.cache import traced_for_one
from jaxseg_xai.program.trace import Equation, Program


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class GuidedBackprop(GradientMethod):
    """Gradient of an outcome in which every ReLU passes back only what is positive.

    A ReLU y = max(x, 0) passes back max(0, dF/dy) where x > 0, and else 0; all other equations
    their own derivative. The map is the sum over channels.

    **A control, no explanation**: the map is nearly the same for a network with random weights, for
    it mostly recovers edges of the image (Adebayo et al., arXiv 1810.03292; Nie et al., arXiv
    1805.07039). A test that is to tell maps that know the model from those that do not must fail
    it.

    Every model's ReLUs are found in the traced program, as max(x, 0) in any spelling, but for those
    inside loops (`lax.scan`, `lax.map`), which keep their own derivative.

    Attribution float32 [*S], signed, in units of the outcome per unit of the input. Scores:
    `outcome` F(x); `area_target` in pixels; `num_relus`, the ReLUs that were changed.

    References:
      Springenberg et al., arXiv 1412.6806, section 3.4.
    """

    name: ClassVar[str] = "guided_backprop"
    meta: ClassVar[Meta] = Meta(
        unit="{outcome} per unit of the input",
        signed=True,
        needs=frozenset({"gradient"}),
        note="A control: it shows edges, and hardly knows the model.",
        caption="Outcome {outcome:.0f}; {num_relus:.0f} ReLUs changed.",
        scores={
            "outcome": "outcome of the image",
            "area_target": "pixels explained",
            "num_relus": "ReLUs whose derivative was changed",
        },
    )

    def num_passes(self, shape: tuple[int, ...]) -> int:
        """See `Explainer.num_passes`."""
        del shape
        return 3

    def check_model(self, segmenter: Segmenter, variables: Any, shape: tuple[int, ...]) -> None:
        """See `Explainer.check_model`.

        Raises:
          ModelError: the model has no ReLU that could be changed.
        """
        if not _relus(traced_for_one(segmenter, variables, shape)):
            raise ModelError(
                f"{self.name} changes the derivative of ReLUs and the model has none outside of "
                "loops; use input_x_gradient or another method"
            )

    def explain_one(self, problem: Problem, example: Example) -> Parts:
        """See `Explainer.explain_one`."""
        program = traced_for_one(problem.segmenter, problem.variables, example.image.shape)
        relus = _relus(program)
        guided = dataclasses.replace(
            program,
            equations=tuple(
                dataclasses.replace(equation, primitive=_GUIDED, inputs=(relus[i],), params={})
                if i in relus
                else equation
                for i, equation in enumerate(program.equations)
            ),
        )

        def value(image: jax.Array) -> tuple[jax.Array, jax.Array]:
            logits = guided.run(problem.variables, image[None])[guided.logits][0]
            return self.value_of_logits(problem, example, logits), logits

        (found, logits), slope = jax.value_and_grad(value, has_aux=True)(example.image)
        return Parts(
            attribution=jnp.sum(jnp.where(example.own, slope, 0.0), axis=-1),
            scores={
                "outcome": found,
                "area_target": jnp.sum(example.target.segment, dtype=jnp.float32),
                "num_relus": jnp.float32(len(relus)),
            },
            logits=logits,
        )


def _relus(program: Program) -> dict[int, int]:
    """Index of every equation max(x, 0) of something that depends on the image -> number of x."""
    found = {}
    for index, equation in enumerate(program.equations):
        x = _rectified(equation)
        if x in program.of_image:
            found[index] = x
    return found


def _rectified(equation: Equation) -> int | None:
    """x of an equation max(x, 0) or max(0, x); None of another equation."""
    if equation.primitive.name != "max":
        return None
    values = [atom for atom in equation.inputs if isinstance(atom, int)]
    constants = [atom for atom in equation.inputs if not isinstance(atom, int)]
    return values[0] if len(values) == 1 and not np.any(constants[0]) else None


class _Guided:
    """Stands for the primitive of a ReLU with the guided derivative."""

    name = "guided_relu"
    multiple_results = False

    def bind(self, x: jax.Array) -> jax.Array:
        return _guided_relu(x)


_GUIDED = _Guided()


@jax.custom_vjp
def _guided_relu(x: jax.Array) -> jax.Array:
    return jax.nn.relu(x)


def _forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jax.nn.relu(x), x > 0


def _backward(positive: jax.Array, slope: jax.Array) -> tuple[jax.Array]:
    return (jnp.where(positive, jax.nn.relu(slope), 0.0),)


_guided_relu.defvjp(_forward, _backward)
