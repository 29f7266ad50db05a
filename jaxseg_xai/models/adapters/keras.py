"""Keras 3 models on its JAX backend."""

import dataclasses
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxseg_xai.core.errors import ConfigError, MissingExtraError, ModelError
from jaxseg_xai.models.adapters import Adapter, Apply
from jaxseg_xai.models.adapters.places import call_factory


class KerasAdapter(Adapter):
    """Models of `keras.Model`, which hold their weights."""

    @staticmethod
    def matches(model: Any) -> bool:
        """Whether it is a Keras model; there is none before somebody has imported Keras."""
        model_class = getattr(sys.modules.get("keras"), "Model", None)
        return model_class is not None and isinstance(model, model_class)

    @classmethod
    def describe(cls, model: Any) -> Mapping[str, Mapping[str, Any]]:
        """Rank, channels and a fixed size where it declares them; a sigmoid at its end."""
        shapes = [tuple(value.shape) for value in getattr(model, "inputs", None) or ()]
        found: dict[str, dict[str, Any]] = {"input": {}, "output": {}}
        if len(shapes) == 1:
            _, *space, channels = shapes[0]
            found["input"] = {"rank": len(space), "channels": channels}
            if None not in space:
                found["input"]["fixed_size"] = tuple(space)
        if _last_activation(model)[1] == "sigmoid":
            found["output"] = {"activation": "threshold"}
        return found

    @staticmethod
    def adapt(model: Any, variables: Any) -> tuple[Apply, Any]:
        """The model in evaluation mode and its weights, by their paths.

        Raises:
          ConfigError: weights are given beside the model, or Keras runs on another backend.
          ModelError: it has no weights yet, several inputs, channels first, or a softmax at its
            end.
        """
        if variables is not None:
            raise ConfigError("a Keras model holds its own weights; leave variables out")
        backend = sys.modules["keras"].backend.backend()
        if backend != "jax":
            raise ConfigError(
                f"Keras runs on {backend}: set KERAS_BACKEND=jax before it is imported, and load "
                "the model again"
            )
        _check(model)
        found = [*model.trainable_variables, *model.non_trainable_variables]
        keys = _unique([variable.path for variable in found])
        weights = {key: jnp.copy(value.value) for key, value in zip(keys, found, strict=True)}
        return ApplyKeras(model, keys, len(model.trainable_variables)), weights

    @staticmethod
    def open(place: Any, folder: Path, weights: Path | None) -> tuple[Any, Any]:
        """A file beside the card, "net.keras", or a factory "package.module:function"."""
        if weights is not None:
            raise ConfigError("a Keras model has its own weights; leave weights out")
        _import_keras(f"opening {place}")
        if isinstance(place, str) and place.endswith((".keras", ".h5")):
            return read_keras(folder / place), None
        return call_factory(place, KerasAdapter.matches), None


def read_keras(path: str | Path) -> Any:
    """Load a Keras file, without running code that it holds.

    Raises:
      MissingExtraError: Keras is not installed.
      ModelError: the file is absent or damaged, or needs classes that are not registered.
    """
    keras = _import_keras(f"reading {path}")
    if not Path(path).is_file():
        raise ModelError(f"{path}: no such file")
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # whatever a damaged file makes Keras raise
        reason = str(error).strip().split("\n")[0][:200]
        raise ModelError(
            f"{path}: cannot be loaded ({reason}); copy it again, or name a factory that makes it"
        ) from error


def _import_keras(purpose: str) -> Any:
    if "keras" not in sys.modules:
        os.environ.setdefault("KERAS_BACKEND", "jax")
    try:
        import keras
    except ImportError as error:
        if error.name != "keras":  # its backend's
            raise ConfigError(f"{purpose}: {error}; set KERAS_BACKEND=jax") from error
        raise MissingExtraError(purpose, "keras") from error
    return keras


def _check(model: Any) -> None:
    if not model.built:
        raise ModelError("the Keras model has no weights yet: call model.build((None, H, W, C))")
    if len(getattr(model, "inputs", None) or (0,)) != 1:
        raise ModelError("the Keras model has several inputs; give one whose only input is images")
    for layer in model._flatten_layers():
        if getattr(layer, "data_format", None) == "channels_first":
            raise ModelError(f"layer {layer.name!r} has channels first; build it channels last")
    name, activation = _last_activation(model)
    if activation == "softmax":
        raise ModelError(
            f"layer {name!r} ends in a softmax, explanations need logits: set "
            f"model.get_layer({name!r}).activation = keras.activations.linear, or leave a Softmax "
            "layer out"
        )


def _last_activation(model: Any) -> tuple[str, str]:
    """Layer that makes the only output, and its activation; "" where it cannot be told."""
    outputs = getattr(model, "outputs", None)
    if not outputs or len(outputs) != 1:
        return "", ""
    layer = outputs[0]._keras_history.operation
    function = getattr(layer, "activation", None)
    return layer.name, getattr(function, "__name__", type(layer).__name__.lower())


def _unique(paths: list[str]) -> tuple[str, ...]:
    """Layers of one name, which only models of classes have, get a number."""
    return tuple(
        f"{paths[:i].count(path)}/{path}" if path in paths[:i] else path
        for i, path in enumerate(paths)
    )


@dataclasses.dataclass(frozen=True, eq=False)
class ApplyKeras:
    """A model, equal to itself only, and the keys of its weights, trainable ones first."""

    model: Any
    keys: tuple[str, ...]
    num_trainable: int

    def __call__(self, variables: Any, inputs: jax.Array) -> Any:
        """The model's output."""
        values = [variables[key] for key in self.keys]
        trainable, others = values[: self.num_trainable], values[self.num_trainable :]
        found, _ = self.model.stateless_call(trainable, others, inputs, training=False)
        return found
