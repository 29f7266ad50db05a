"""Models of other libraries, in one line each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxseg_xai.models.adapters.onnx import read_onnx
from jaxseg_xai.models.bundle import Bundle
from jaxseg_xai.models.wrap import as_model


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
