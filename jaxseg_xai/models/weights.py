"""Weight files, ours and PyTorch's, into a Flax model; every name checked both ways."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import nnx

from jaxseg_xai.core.errors import MissingExtraError, ModelError

#: Last part of a PyTorch name -> the names Flax may use for it.
_LEAVES = {
    "weight": ("kernel", "scale", "embedding"),
    "running_mean": ("mean",),
    "running_var": ("var",),
}


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """Read a flat name -> array dictionary from `.npz`, `.safetensors`, `.pth` or `.pt`.

    Only the last two need PyTorch (extra `peers`).

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
        raise MissingExtraError(f"reading {path} (or save it as .safetensors)", "peers") from error
    state = torch.load(path, map_location="cpu", weights_only=True)
    state = state.get("state_dict", state) if isinstance(state, Mapping) else state
    if not isinstance(state, Mapping) or not all(hasattr(v, "numpy") for v in state.values()):
        raise ModelError(f"{path}: not a state dict; save model.state_dict()")
    return {name: value.detach().float().numpy() for name, value in state.items()}


def write_weights(path: Path, model: nnx.Module) -> None:
    """Write a model's parameters and statistics to `.safetensors`, under our own names."""
    arrays = {name: np.asarray(value[...]) for name, value in _flat_state(model).items()}
    safetensors.numpy.save_file(arrays, path)


def load_weights(
    model: nnx.Module, arrays: Mapping[str, np.ndarray], names: Mapping[str, str] | None = None
) -> None:
    """Set a model's state, in place.

    Kernels called `weight` are taken as PyTorch's (OIHW) and turned to HWIO, those of a transposed
    convolution flipped too; `bn1` may stand for `norm1`; `num_batches_tracked` is dropped.

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
        if name.endswith("weight"):
            value = _from_torch(value, target.rpartition("/")[0] in transposed)
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
    state = nnx.state(model, (nnx.Param, nnx.BatchStat))
    return {"/".join(map(str, path)): variable for path, variable in nnx.to_flat_state(state)}


def _translate(name: str, names: Mapping[str, str], state: Mapping[str, object]) -> str | None:
    module, _, leaf = name.replace("/", ".").rpartition(".")
    fits = [prefix for prefix in names if f"{module}.".startswith(f"{prefix}.")]
    if fits:
        longest = max(fits, key=len)
        module = names[longest] + module[len(longest) :]
    module = module.replace(".", "/").strip("/")
    modules = (module, module.replace("/bn", "/norm"))
    candidates = [f"{m}/{option}" for m in modules for option in _LEAVES.get(leaf, (leaf,))]
    return next((candidate for candidate in candidates if candidate in state), None)


def _from_torch(value: np.ndarray, transposed: bool) -> np.ndarray:
    if value.ndim == 4 and transposed:  # (in, out, h, w), applied as a gradient: flipped
        return value.transpose(2, 3, 0, 1)[::-1, ::-1]
    if value.ndim == 4:
        return value.transpose(2, 3, 1, 0)
    return value.T if value.ndim == 2 else value
