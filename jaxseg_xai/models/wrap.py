"""A model that is a Python object, with a description in words, as a `Bundle`."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.core.output_spec import OutputSpec
from jaxseg_xai.core.parse import from_table
from jaxseg_xai.core.segmenter import Segmenter, Sites
from jaxseg_xai.models.adapters import Apply
from jaxseg_xai.models.bundle import Bundle, ModelCard
from jaxseg_xai.models.registry import ADAPTERS

#: What a description may say beside the class names, by the part that takes it.
_PARTS = {
    "input": tuple(field.name for field in dataclasses.fields(InputSpec)),
    "output": tuple(f.name for f in dataclasses.fields(OutputSpec) if f.name != "class_names"),
    "sites": tuple(field.name for field in dataclasses.fields(Sites)),
    "segmenter": ("dtype", "differentiable"),
}


def as_model(
    model: Any,
    variables: Any = None,
    *,
    class_names: Sequence[str] = (),
    name: str = "model",
    **description: Any,
) -> Bundle:
    """Make a model out of a Python object.

    >>> import jax.numpy as jnp
    >>> bright = as_model(
    ...     lambda images: images - 0.5, class_names=["dark", "bright"], channels=1
    ... )
    >>> bright.segmenter.logits(bright.variables, jnp.ones((1, 2, 2, 1))).shape
    (1, 2, 2, 2)

    Args:
      model: a Flax NNX module; a Linen module; a function (variables, inputs [B, *S, C]) -> output,
        or (inputs) -> output where `variables` is None; or a `Bundle`, which is returned as it is.
      variables: the weights, where the object does not hold them.
      class_names: one per class; of a softmax model the first is the background.
      name: what tables and figures call it.
      **description: fields of `InputSpec`, `OutputSpec` and `Sites`, and `dtype` and
        `differentiable` of `Segmenter`. By default an image of three channels and any size, and
        softmax.

    Raises:
      ConfigError: nothing adapts such an object, or the description has an unknown field or a value
        of another type.
      ModelError: the description contradicts itself.
    """
    if isinstance(model, Bundle):
        if variables is not None or class_names or description:
            raise ConfigError(
                f"{model.name} is a model already, with its description; leave out variables, "
                "class_names and the rest"
            )
        return model
    known = [field for part in _PARTS.values() for field in part]
    for field in description:
        if field not in known:
            raise ConfigError(
                f"unknown field {field!r} of a model's description; it has class_names, name, "
                f"{', '.join(known)}"
            )
    apply, variables = _adapt(model, variables)
    tables = {
        part: {field: _plain(description[field]) for field in fields if field in description}
        for part, fields in _PARTS.items()
    }
    output = {"class_names": _plain(class_names)} | tables["output"]
    segmenter = Segmenter(
        apply=apply,
        input=from_table(InputSpec, tables["input"]),
        output=from_table(OutputSpec, output),
        sites=from_table(Sites, tables["sites"]),
    ).replace(**tables["segmenter"])
    card = ModelCard(architecture="", config={}, class_names=segmenter.output.class_names)
    return Bundle(name=name, card=card, segmenter=segmenter, variables=variables)


def _adapt(model: Any, variables: Any) -> tuple[Apply, Any]:
    adapters = dict(ADAPTERS.usable())
    for adapter in reversed(adapters.values()):
        if adapter.matches(model):
            apply, variables = adapter.adapt(model, variables)
            return _hashable(apply), variables
    kind = type(model) if not isinstance(model, type) else model
    found = f"the class {kind.__name__}" if model is kind else f"a {kind.__name__}"
    problems = "".join(f"; {problem}" for problem in ADAPTERS.problems())
    raise ConfigError(
        f"{found} is no model; there are adapters for {', '.join(adapters)}{problems}; wrap it in "
        "a JAX function (variables, inputs) -> logits"
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _ByIdentity:
    """A function that cannot be hashed by its value (it holds arrays, say) is equal to itself."""

    function: Apply

    def __call__(self, variables: Any, inputs: Any) -> Any:
        return self.function(variables, inputs)


def _hashable(apply: Apply) -> Apply:
    try:
        hash(apply)
    except TypeError:
        return _ByIdentity(apply)
    return apply


def _plain(value: Any) -> Any:
    """Arrays and NumPy's numbers as lists and Python's numbers."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else value
