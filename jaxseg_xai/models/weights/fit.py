"""Arrays by PyTorch's names, or ours, as the weights of a Flax NNX model."""

from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import nnx

from jaxseg_xai.core.errors import ModelError
from jaxseg_xai.models.weights.mismatch import Mismatch

#: What of a model's state is trained, and so stands in a file.
_WEIGHTS = (nnx.Param, nnx.BatchStat)
#: Last part of a PyTorch name -> the names Flax may use for it.
_LEAVES = {
    "weight": ("kernel", "scale", "embedding"),
    "running_mean": ("mean",),
    "running_var": ("var",),
}


def write_weights(path: Path, model: nnx.Module, dtype: str = "float32") -> None:
    """Write a model's parameters and statistics to `.safetensors`, under our own names.

    Args:
      path: of the file.
      model: the network.
      dtype: of the numbers in the file; "float16" halves it.
    """
    arrays = {name: np.asarray(value[...], dtype) for name, value in _flat_state(model).items()}
    safetensors.numpy.save_file(arrays, path)


def build_with_weights(
    build: Callable[[nnx.Rngs], nnx.Module],
    arrays: Mapping[str, np.ndarray],
    names: Mapping[str, str] | None = None,
) -> nnx.Module:
    """Build a network that has the given weights, without drawing initial ones.

    Args:
      build: makes the network.
      arrays: see `load_weights`.
      names: see `load_weights`.

    Raises:
      ModelError: see `load_weights`.
    """
    # Only its shapes: drawing initial weights that are overwritten anyway takes seconds.
    model = nnx.eval_shape(lambda: build(nnx.Rngs(0)))
    load_weights(model, arrays, names)
    # What is no weight (the random stream of a dropout, a table of positions) is as it was built.
    rest = nnx.Not(nnx.Any(*_WEIGHTS))
    if jax.tree.leaves(nnx.state(model, rest)):
        nnx.update(model, jax.jit(lambda: nnx.state(build(nnx.Rngs(0)), rest))())
    return model


def load_weights(
    model: nnx.Module, arrays: Mapping[str, np.ndarray], names: Mapping[str, str] | None = None
) -> None:
    """Set a model's weights, in place.

    An array called `weight` is taken as PyTorch's. Where the model has a kernel for it, its axes
    are turned to ours, for any number of axes (OIHW to HWIO, OIDHW to DHWIO, OI to IO), and those
    of a transposed convolution flipped too. `bn1` may stand for `norm1`; `num_batches_tracked` is
    dropped. Layers whose biases are all absent, as before norms, get biases of 0.

    Args:
      model: the Flax NNX model to fill.
      arrays: flat name -> array.
      names: module of the file -> module of the model ("u1" -> "decoder/0"); the longest that fits
        counts. Without an entry a module keeps its name, with "/" for ".".

    Raises:
      MismatchError: names are missing or unexpected, or shapes differ.
      ModelError: values are not finite.
    """
    state = _flat_state(model)
    transposed = {
        "/".join(map(str, path))
        for path, module in nnx.iter_modules(model)
        if isinstance(module, nnx.ConvTranspose)
    }
    found, sources, unexpected, misshapen = {}, {}, [], {}
    for name, value in arrays.items():
        if name.endswith("num_batches_tracked"):
            continue
        target = _translate(name, names or {}, state)
        if target is None or target in found:
            unexpected.append(name)
            continue
        module, _, leaf = target.rpartition("/")
        if leaf == "kernel" and name.endswith("weight"):
            value = _from_torch(value, module in transposed)
        found[target], sources[target] = value, name
        if value.shape != state[target].shape:
            misshapen[name] = (value.shape, state[target].shape)
    found |= _zero_biases(state, found)
    missing = sorted(state.keys() - found.keys())
    if missing or unexpected or misshapen:
        fitting = len(found) - len(misshapen)
        raise Mismatch(
            missing=missing, unexpected=unexpected, misshapen=misshapen, num_fitting=fitting
        ).error()
    broken = [
        sources.get(target, target) for target, v in found.items() if not np.isfinite(v).all()
    ]
    if broken:
        listed = ", ".join(broken[:4]) + (f" and {len(broken) - 4} more" if broken[4:] else "")
        raise ModelError(f"NaN or infinity in {listed}; train again, or copy the file again")
    for target, value in found.items():
        state[target].set_value(jnp.asarray(value, state[target].dtype))


def _zero_biases(
    state: Mapping[str, nnx.Variable], found: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Biases of layers that have none in the file.

    One that is absent alone was lost: all layers of its name (`conv1` of every block), and more
    than one, must be without.
    """
    groups: dict[str, list[str]] = {}
    for name in state:
        module, _, leaf = name.rpartition("/")
        if leaf == "bias" and f"{module}/kernel" in found:
            words = [part for part in module.split("/") if not part.isdigit()]
            groups.setdefault(words[-1] if words else "", []).append(name)
    bare = [g for g in groups.values() if len(g) > 1 and not any(name in found for name in g)]
    return {name: np.zeros(state[name].shape, np.float32) for group in bare for name in group}


def _flat_state(model: nnx.Module) -> dict[str, nnx.Variable]:
    state = nnx.state(model, _WEIGHTS)
    return {"/".join(map(str, path)): variable for path, variable in nnx.to_flat_state(state)}


def _translate(name: str, names: Mapping[str, str], state: Mapping[str, object]) -> str | None:
    module, _, leaf = name.replace("/", ".").rpartition(".")
    fits = [prefix for prefix in names if f"{module}.".startswith(f"{prefix}.")]
    if fits:
        longest = max(fits, key=len)
        module = names[longest] + module[len(longest) :]
    module = module.replace(".", "/").strip("/")
    modules = (module, module.replace("/bn", "/norm"))
    options = _LEAVES.get(leaf, (leaf,))
    candidates = [f"{m}/{option}".lstrip("/") for m in modules for option in options]
    return next((candidate for candidate in candidates if candidate in state), None)


def _from_torch(value: np.ndarray, transposed: bool) -> np.ndarray:
    """A kernel (out, in, *space) as (*space, in, out)."""
    if value.ndim < 2:
        return value
    space = tuple(range(2, value.ndim))
    if transposed:  # (in, out, *space), applied as a gradient: flipped
        return np.flip(value.transpose(*space, 0, 1), tuple(range(len(space))))
    return value.transpose(*space, 1, 0)
