"""What `torch.save` wrote, read without PyTorch: a file can name any code, and none of it runs.

Pickle builds objects by calling what the file names. Here a name stands for one of the few
functions below, which make arrays and plain containers; any other stands for an `Inert`.
"""

import collections
import dataclasses
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, ClassVar

import jax.numpy as jnp
import numpy as np

from jaxseg_xai.core.errors import ModelError
from jaxseg_xai.models.weights.stored import Inert, NumpyArray, NumpyDtype, Storage, Tensor

#: First object of a file from before PyTorch 1.6.
_LEGACY = 0x1950A86A20F9469CFC6C
#: `torch.FloatStorage` and its kin.
_STORAGES = {
    "Float": np.float32,
    "Double": np.float64,
    "Half": np.float16,
    "BFloat16": jnp.bfloat16,
    "Long": np.int64,
    "Int": np.int32,
    "Short": np.int16,
    "Char": np.int8,
    "Byte": np.uint8,
    "Bool": np.bool_,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Content:
    """What a file holds.

    Attributes:
      root: the object that was saved; its tensors are `Tensor`, unknown objects `Inert`.
      num_tensors: in all of it.
      unknown: names of the classes and functions that were not looked up.
    """

    root: Any
    num_tensors: int
    unknown: frozenset[str]


def read(path: Path) -> Content:
    """Read a file of `torch.save`, today's or from before PyTorch 1.6, or a plain pickle.

    Raises:
      ModelError: it holds a program (TorchScript).
      Exception: the file is damaged; which one depends on where.
    """
    with path.open("rb") as file:
        if file.peek(4)[:4] != b"PK\x03\x04":
            return _read_stream(file)
        with zipfile.ZipFile(file) as archive:
            return _read_archive(archive)


def _read_archive(archive: zipfile.ZipFile) -> Content:
    files = archive.namelist()
    pickles = [name for name in files if name.rpartition("/")[2] == "data.pkl"]
    if not pickles:
        raise ModelError("a zip archive that torch.save did not write; save model.state_dict()")
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}constants.pkl" in files:
        raise ModelError("holds a TorchScript program: save model.state_dict()")
    with archive.open(pickles[0]) as file:
        reader = _Reader(file)
        root = reader.load()
    swapped = f"{folder}byteorder" in files and archive.read(f"{folder}byteorder") == b"big"
    for key, storage in reader.storages.items():
        storage.fill(archive.read(f"{folder}data/{key}"), ">" if swapped else "<")
    return reader.content(root)


def _read_stream(file: IO[bytes]) -> Content:
    reader = _Reader(file)
    first = reader.load()
    if first != _LEGACY:
        return reader.content(first)
    _Reader(file).load()  # version of the format
    order = "<" if _Reader(file).load().get("little_endian", True) else ">"
    reader = _Reader(file)
    root = reader.load()
    for key in _Reader(file).load():
        storage = reader.storages[key]
        length = int.from_bytes(file.read(8), "little" if order == "<" else "big")
        storage.fill(file.read(length * storage.dtype.itemsize), order)
    return reader.content(root)


class _Reader(pickle.Unpickler):
    """Unpickler that looks no name up."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="latin1")
        self.storages: dict[str, Storage] = {}
        self.num_tensors = 0
        self.unknown: dict[str, type[Inert]] = {}

    def content(self, root: Any) -> Content:
        """All that was read, once the storages are filled."""
        harmless = ("torch.", "numpy.")
        unknown = frozenset(name for name in self.unknown if not name.startswith(harmless))
        return Content(root=root, num_tensors=self.num_tensors, unknown=unknown)

    def find_class(self, module: str, name: str, /) -> Any:
        """One of the known functions, or a class of inert objects."""
        if module in ("torch", "torch.storage") and name.removesuffix("Storage") in _STORAGES:
            return np.dtype(_STORAGES[name.removesuffix("Storage")])
        full = f"{module}.{name}".replace("numpy._core.", "numpy.core.")
        if full in self._TENSORS:
            return self._tensor
        if full in self._KNOWN:
            return self._KNOWN[full]
        shown = "".join(c if c.isprintable() else "?" for c in full)
        return self.unknown.setdefault(shown, type(shown, (Inert,), {}))

    def persistent_load(self, pid: Any, /) -> Any:
        """A storage, which is filled later; of a whole module's entry, its class."""
        kind, *rest = pid
        if kind == "module":
            return rest[0]
        dtype, key, _, length = rest[:4]
        if not isinstance(dtype, np.dtype):
            return dtype(*rest)
        return self.storages.setdefault(key, Storage(dtype=dtype, length=length))

    def _tensor(self, storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> Any:
        if not isinstance(storage, Storage):
            return Inert(storage, offset, size, stride)
        self.num_tensors += 1
        return Tensor(storage=storage, offset=offset, size=tuple(size), stride=tuple(stride))

    _TENSORS: ClassVar = {"torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"}
    _KNOWN: ClassVar[dict[str, Callable[..., Any]]] = {
        "torch._utils._rebuild_parameter": lambda data, *_: data,
        "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
        "torch._tensor._rebuild_from_type_v2": lambda make, _, args, *__: make(*args),
        "torch.Size": tuple,
        "collections.OrderedDict": collections.OrderedDict,
        "collections.defaultdict": lambda *_: {},
        "collections.Counter": lambda counts=(): dict(counts),
        "builtins.set": set,
        "__builtin__.set": set,
        "builtins.frozenset": frozenset,
        "_codecs.encode": lambda text, encoding: str(text).encode("latin1"),
        "numpy.dtype": NumpyDtype,
        "numpy.core.multiarray.scalar": lambda dtype, raw=b"": NumpyArray(dtype, (), raw),
        "numpy.core.multiarray._reconstruct": lambda *_: NumpyArray(),
        "numpy.core.numeric._frombuffer": lambda raw, dtype, shape, order: NumpyArray(
            dtype, shape, raw, order == "F"
        ),
    }
