"""PyTorch modules, by torchax."""

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg_xai.core.errors import ConfigError, MissingExtraError, ModelError
from jaxseg_xai.models.adapters import Adapter, Apply
from jaxseg_xai.models.adapters.places import call_factory
from jaxseg_xai.models.weights import read_weights, readings
from jaxseg_xai.models.weights.mismatch import Mismatch


class TorchAdapter(Adapter):
    """Modules of `torch.nn`, which hold their weights; channels come first inside them only."""

    @staticmethod
    def matches(model: Any) -> bool:
        """Whether it is a PyTorch module; there is none before somebody has imported PyTorch."""
        torch = sys.modules.get("torch")
        return torch is not None and isinstance(model, torch.nn.Module)

    @staticmethod
    def adapt(model: Any, variables: Any) -> tuple[Apply, Any]:
        """The module in evaluation mode and its weights, copied, by PyTorch's names.

        The module itself stays as it is, on whatever device. Dropout and batch statistics are off.

        Raises:
          ConfigError: weights are given beside the module.
          ModelError: it cannot be copied, or has weights without values.
          MissingExtraError: without the extra `torch`.
        """
        if variables is not None:
            raise ConfigError("a PyTorch module holds its own weights; leave variables out")
        try:
            from jaxseg_xai.models.torchax.parts import take_apart
        except ImportError as error:
            raise MissingExtraError("explaining PyTorch modules", "torch") from error
        parts, weights = take_apart(model)
        return ApplyTorch(parts), {name: jnp.asarray(value) for name, value in weights.items()}

    @staticmethod
    def open(place: Any, folder: Path, weights: Path | None) -> tuple[Any, Any]:
        """What the factory "package.module:name" returns; a weight file holds its state dict."""
        del folder
        model = call_factory(place, TorchAdapter.matches)
        if weights is not None:
            _load(model, read_weights(weights))
        return model, None


def _load(model: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """Set a module's parameters and buffers, whatever wrapper the names tell of."""
    import torch

    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    errors = []
    for found in readings(arrays):
        shared = found.keys() & wanted.keys()
        fits = {name for name in shared if found[name].shape == wanted[name]}
        mismatch = Mismatch(
            missing=[n for n in wanted if n not in found and not n.endswith("num_batches_tracked")],
            unexpected=[name for name in found if name not in wanted],
            misshapen={n: (_turned(found[n].shape), _turned(wanted[n])) for n in shared - fits},
            num_fitting=len(fits),
        )
        if not mismatch.count:
            state = {name: torch.from_numpy(np.array(value)) for name, value in found.items()}
            model.load_state_dict(state, strict=False)
            return
        errors.append(mismatch.error())
    raise min(errors, key=lambda error: error.details.count("\n"))


def _turned(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(*space, in, out) of a kernel."""
    return (*shape[2:], *shape[1::-1]) if len(shape) > 1 else shape


@dataclasses.dataclass(frozen=True)
class ApplyTorch:
    """Equal by value: modules of one architecture share compiled programs.

    Attributes:
      parts: the module without its weights.
    """

    parts: Any

    def __call__(self, variables: Any, inputs: jax.Array) -> Any:
        """The module's output, its arrays [B, *S, K] where they have the axes of the images."""
        return _run(self.parts, variables, inputs)


def _forward(parts: Any, variables: Any, inputs: jax.Array) -> Any:
    from jaxseg_xai.models.torchax.environment import call

    def channels_last(value: jax.Array) -> jax.Array:
        return jnp.moveaxis(value, 1, -1) if value.ndim == inputs.ndim else value

    try:
        found = call(parts, variables, jnp.moveaxis(inputs, -1, 1))
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
        raise ModelError(
            "the PyTorch module decides in Python or computes in NumPy by the values of the image; "
            "write it with torch.where and operators of PyTorch"
        ) from error
    return jax.tree.map(channels_last, found)


#: Traced once for a module and a shape: what PyTorch's Python code does takes longer than JAX's.
_run = jax.jit(_forward, static_argnums=0)
