"""Weight files, ours and PyTorch's, into a Flax model; every name checked both ways."""

import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import nnx

from jaxseg_xai.core.errors import MissingExtraError, ModelError

#: What of a model's state is trained, and so stands in a file.
_WEIGHTS = (nnx.Param, nnx.BatchStat)
#: Last part of a PyTorch name -> the names Flax may use for it.
_LEAVES = {
    "weight": ("kernel", "scale", "embedding"),
    "running_mean": ("mean",),
    "running_var": ("var",),
}


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """Read a flat name -> array dictionary from `.npz`, `.safetensors`, `.pth` or `.pt`.

    Only the last two need PyTorch (extra `torch`).

    Raises:
      ModelError: the file is absent, damaged, of an unknown kind, or no flat state dict.
    """
    readers = {
        ".npz": _read_npz,
        ".safetensors": safetensors.numpy.load_file,
        ".pth": _read_torch,
        ".pt": _read_torch,
    }
    if path.suffix not in readers:
        raise ModelError(f"{path}: unknown kind of weight file; use one of {', '.join(readers)}")
    try:
        return readers[path.suffix](path)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such weight file") from None
    except (
        OSError,
        EOFError,
        RuntimeError,
        ValueError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        safetensors.SafetensorError,
    ) as error:
        reason = str(error).split("\n")[0]
        raise ModelError(f"{path}: damaged weight file ({reason}); copy it again") from error


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    # Opened here, since np.load leaves a damaged file open.
    with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError(f"reading {path} (or save it as .safetensors)", "torch") from error
    state = torch.load(path, map_location="cpu", weights_only=True)
    state = state.get("state_dict", state) if isinstance(state, Mapping) else state
    if not isinstance(state, Mapping) or not all(hasattr(v, "numpy") for v in state.values()):
        raise ModelError(f"{path}: not a state dict; save model.state_dict()")
    return {name: value.detach().float().numpy() for name, value in state.items()}


def write_weights(path: Path, model: nnx.Module) -> None:
    """Write a model's parameters and statistics to `.safetensors`, under our own names."""
    arrays = {name: np.asarray(value[...]) for name, value in _flat_state(model).items()}
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
    dropped.

    Args:
      model: the Flax NNX model to fill.
      arrays: flat name -> array.
      names: module of the file -> module of the model ("u1" -> "decoder/0"); the longest that fits
        counts. Without an entry a module keeps its name, with "/" for ".".

    Raises:
      ModelError: names missing or unexpected, shapes that differ, or values that are not finite,
        all listed.
    """
    state = _flat_state(model)
    transposed = {
        "/".join(map(str, path))
        for path, module in nnx.iter_modules(model)
        if isinstance(module, nnx.ConvTranspose)
    }
    found, unexpected, misshapen, broken = {}, [], [], []
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
        found[target] = value
        if not np.isfinite(value).all():
            broken.append(name)
        if value.shape != state[target].shape:
            misshapen.append(f"{name} {value.shape} for {target} {state[target].shape}")
    missing = sorted(state.keys() - found.keys())
    problems = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
    if any(problems.values()):
        listed = "; ".join(
            f"{kind}: {', '.join(items)}" for kind, items in problems.items() if items
        )
        raise ModelError(
            f"the weights are those of another architecture, or need a name map; {listed}"
        )
    if broken:
        raise ModelError(
            f"NaN or infinity in {', '.join(broken)}; train again, or copy the file again"
        )
    for target, value in found.items():
        state[target].set_value(jnp.asarray(value, state[target].dtype))


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
