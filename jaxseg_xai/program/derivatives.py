"""Functions that define their derivative themselves, which inlining them would lose."""

from typing import Any

import jax
import numpy as np
from jax.extend import core

from jaxseg_xai.core.types import Array

#: Functions whose own rule is the derivative of what they compute, up to rounding.
_TRUE = ("conv_general_dilated", "_softmax")


class _Relu:
    """Stands for the primitive of max(x, 0), with `jax.nn.relu`'s derivative: 0 at 0, not 1/2.

    On a black image, where MiSuRe differentiates, many values are exactly 0.
    """

    name = "max"
    multiple_results = False

    def bind(self, x: Array, _: Array) -> jax.Array:
        return jax.nn.relu(x)


RELU = _Relu()
ZERO = np.zeros((), np.float32)


def is_relu(call: str, body: Any) -> bool:
    """Whether a call is that of a function max(x, 0) with a derivative of its own."""
    eqn = _alone(body)
    if call != "custom_jvp_call" or eqn is None or eqn.primitive.name != "max":
        return False
    bound = eqn.invars[1]
    return isinstance(bound, core.Literal) and np.ndim(bound.val) == 0 and bound.val == 0


def own_derivative(call: str, body: Any) -> set[str]:
    """The name of a called function whose derivative may be another than that of its body."""
    if not call.startswith("custom_"):
        return set()
    eqn, name = _alone(body), body.debug_info.func_name
    known = name in _TRUE or (eqn is not None and eqn.primitive.name in _TRUE)
    return set() if known else {name}


def _alone(body: Any) -> Any:
    """The only equation of a function, also inside calls; None if there are more."""
    while len(body.eqns) == 1:
        eqn = body.eqns[0]
        if eqn.primitive.name not in ("jit", "pjit", "closed_call"):
            return eqn
        body = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
        body = getattr(body, "jaxpr", body)
    return None
