"""Models of other libraries, in one line each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.models.adapters.keras import KerasAdapter, read_keras
from jaxseg_xai.models.adapters.onnx import read_onnx
from jaxseg_xai.models.adapters.torch import TorchAdapter
from jaxseg_xai.models.bundle import Bundle
from jaxseg_xai.models.wrap import as_model


def from_torch(
    module: Any, *, class_names: Sequence[str], name: str = "model", **description: Any
) -> Bundle:
    """Make a model out of a PyTorch module (extra `torch`).

    Images [B, *S, C] are shown to it as [B, C, *S], its output is turned likewise. It runs in
    evaluation mode, in JAX: PyTorch is needed to trace it, and no longer when it is compiled. Its
    weights are copied; the module stays as it is.

    Args:
      module: a `torch.nn.Module`, in whatever mode, on whatever device.
      class_names: one per class; of a softmax model the first is the background.
      name: what tables and figures call it.
      **description: see `as_model`; `select` leads to the logits in a dict or tuple.

    Raises:
      ConfigError: it is no PyTorch module; see also `as_model`.
      ModelError: it cannot be copied, or the description contradicts itself.
      MissingExtraError: without the extra `torch`.
    """
    if not TorchAdapter.matches(module):
        raise ConfigError(f"a {type(module).__name__} is no torch.nn.Module; use as_model")
    return as_model(module, class_names=class_names, name=name, **description)


def from_onnx(
    path: str | Path,
    *,
    class_names: Sequence[str],
    output: str | int = 0,
    name: str = "model",
    **description: Any,
) -> Bundle:
    """Make a model out of an ONNX file (extra `onnx`).

    Its operators run in JAX, with its weights as variables, and it is windowed and differentiated
    like any other network. Channels, rank and fixed sizes are read from the file; images are
    [B, *S, C] here whatever they are there. A file that was exported for one image and reshapes it
    is run image by image; export it with a dynamic batch to be rid of that.

    Args:
      path: opset 17 to 20, with one input.
      class_names: one per class; of a softmax model the first is the background.
      output: name or index of the output that is the logits.
      name: what tables and figures call it.
      **description: see `as_model`.

    Raises:
      ModelError: the file is absent, damaged, of another opset, or has operators that are not
        supported, which are listed; or the description contradicts itself.
      ConfigError: the description has an unknown field.
      MissingExtraError: without the extra `onnx`.
    """
    return as_model(read_onnx(path, output), class_names=class_names, name=name, **description)


def from_keras(
    model: Any, *, class_names: Sequence[str], name: str = "model", **description: Any
) -> Bundle:
    """Make a model out of a Keras 3 model on the JAX backend (extra `keras`).

    It runs in evaluation mode; its weights are copied. Channels, rank and a fixed size are read
    from its input. Where its last layer applies a sigmoid, its output is probabilities, which
    `activation` "threshold" describes, and so it is by default; a softmax there is refused.

    Args:
      model: a `keras.Model`, or a file "net.keras". Where Keras is not imported yet, it is
        imported on JAX.
      class_names: one per class; of a softmax model the first is the background.
      name: what tables and figures call it.
      **description: see `as_model`; `select` leads to the logits among several outputs.

    Raises:
      ConfigError: it is no Keras model, or Keras runs on another backend; see also `as_model`.
      ModelError: the file cannot be loaded; the model is not built, has several inputs, channels
        first or a softmax at its end; or the description contradicts itself.
      MissingExtraError: without the extra `keras`.
    """
    if isinstance(model, str | Path):
        model = read_keras(model)
    if not KerasAdapter.matches(model):
        raise ConfigError(f"a {type(model).__name__} is no keras.Model; use as_model")
    return as_model(model, class_names=class_names, name=name, **description)
