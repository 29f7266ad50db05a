"""A model that is a Python object, with a description in words, as a `Bundle`."""

import dataclasses
import functools
import inspect
from collections.abc import Sequence
from typing import Any

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.core.output_spec import OutputSpec
from jaxseg_xai.core.segmenter import Segmenter, Sites
from jaxseg_xai.models.adapters import Adapter, Apply
from jaxseg_xai.models.adapters.callable import ApplyFunction
from jaxseg_xai.models.bundle import Bundle, ModelCard, with_fields
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
      model: a Flax NNX module; a Linen module; a PyTorch module (see `from_torch`); a function
        (variables, inputs [B, *S, C]) -> output, or (inputs) -> output where `variables` is None;
        or a `Bundle`, which is returned as it is.
        Arrays that a function captures are constants to it, read when it is compiled for a size of
        images: call `as_model` again after changing them, or give them as `variables`.
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
    known = [field for part in _PARTS.values() for field in part]
    for field in description:
        if field not in known:
            raise ConfigError(
                f"unknown field {field!r} of a model's description; it has class_names, name, "
                f"{', '.join(known)}"
            )
    tables = {
        part: {field: description[field] for field in fields if field in description}
        for part, fields in _PARTS.items()
    }
    card = ModelCard(class_names=_plain(class_names), weights="")
    return wrap(model, variables, card, tables, name)


def wrap(
    model: Any,
    variables: Any,
    card: ModelCard,
    tables: dict[str, dict[str, Any]],
    name: str = "model",
) -> Bundle:
    """A model out of a Python object, with its description in tables; see `as_model`.

    Args:
      model: see `as_model`.
      variables: see `as_model`.
      card: where it comes from, and its class names.
      tables: fields of `InputSpec` under "input", of `OutputSpec` beside the class names under
        "output", and likewise "sites" and "segmenter".
      name: what tables and figures call it.

    Raises:
      ConfigError: see `as_model`.
      ModelError: see `as_model`.
    """
    if isinstance(model, Bundle):
        if variables is not None or card.class_names or any(tables.values()):
            raise ConfigError(
                f"{model.name} is a model already, with its description; leave out variables, "
                "class_names and the rest"
            )
        return model
    adapter, apply, variables = _adapt(model, variables)
    usual = adapter.describe(model)
    input_spec, output, sites, segmenter = (
        dict(usual.get(part, {})) | _plain(tables.get(part, {})) for part in _PARTS
    )
    names = {"class_names": card.class_names}
    made = Segmenter(
        apply=apply,
        input=with_fields(InputSpec, {}, "input", input_spec),
        output=with_fields(OutputSpec, names, "output", output),
        sites=with_fields(Sites, {}, "sites", sites),
    ).replace(**segmenter)
    card = dataclasses.replace(card, class_names=made.output.class_names)
    return Bundle(name=name, card=card, segmenter=made, variables=variables)


def _adapt(model: Any, variables: Any) -> tuple[type[Adapter], Apply, Any]:
    adapters, problems = dict(ADAPTERS.usable()), ADAPTERS.problems()
    kind = type(model) if not isinstance(model, type) else model
    found = f"the class {kind.__name__}" if model is kind else f"a {kind.__name__}"
    for name, adapter in reversed(adapters.items()):
        try:
            if not adapter.matches(model):
                continue
        except Exception as error:  # whatever somebody's adapter raises
            reason = str(error).strip().split("\n")[0]
            problems.append(
                f"adapter {name!r} fails for {found}: {type(error).__name__}: {reason}; repair or "
                "uninstall its package"
            )
            continue
        if problems and adapter.general and not _is_function(model):
            raise ConfigError(
                f"{found} may belong to an adapter that cannot be used: {'; '.join(problems)}; if "
                "it belongs to none, give a function instead: lambda inputs: model(inputs)"
            )
        apply, variables = adapter.adapt(model, variables)
        return adapter, _hashable(apply), variables
    raise ConfigError(
        f"{found} is no model; there are adapters for {', '.join(adapters)}"
        f"{''.join(f'; {problem}' for problem in problems)}; wrap it in a JAX function (variables, "
        "inputs) -> logits"
    )


def _is_function(model: Any) -> bool:
    """Whether it is a plain function, also one that was jitted or given some arguments."""
    model = inspect.unwrap(model)
    return inspect.isroutine(model) or isinstance(model, functools.partial)


def _hashable(apply: Apply) -> Apply:
    """A dataclass is equal by value where it can be hashed; a function is equal to itself only."""
    try:
        hash(apply)
        by_value = dataclasses.is_dataclass(apply)
    except TypeError:
        by_value = False
    return apply if by_value else ApplyFunction(apply)


def _plain(value: Any) -> Any:
    """Arrays and NumPy's numbers as lists and Python's numbers."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value.tolist() if hasattr(value, "tolist") else value
