"""What stands in a pickle for tensors, arrays and objects of unknown classes."""

import dataclasses
import math
from typing import Any

import numpy as np

#: Kinds of numbers, see `np.dtype.kind`.
_NUMBERS = "biuf"


class Inert:
    """Stands for any other object: it keeps what was stored of it, and does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "Inert":
        """An object, whatever the real class takes."""
        made = object.__new__(cls)
        made.parts = [args, kwargs]
        return made

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.parts: list[Any]

    def __call__(self, *args: Any, **kwargs: Any) -> "Inert":
        """What was a function is called in the file; another inert object."""
        return Inert(self, *args, **kwargs)

    def __setstate__(self, state: Any) -> None:
        self.parts.append(state)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.parts.append((key, value))

    def append(self, item: Any) -> None:
        """An element of what was a list."""
        self.parts.append(item)

    add = append


@dataclasses.dataclass(kw_only=True)
class Storage:
    """Numbers in a row, shared by the tensors that look at them."""

    dtype: np.dtype
    length: int
    values: np.ndarray | None = None

    def fill(self, raw: bytes, order: str) -> None:
        """Take the bytes of a file; order is "<" or ">".

        Raises:
          EOFError: they are too few.
        """
        if len(raw) < self.length * self.dtype.itemsize:
            raise EOFError("it ends too early")
        swapped = order == ">" and self.dtype.itemsize > 1
        values = np.frombuffer(raw, self.dtype, self.length)
        self.values = values.byteswap() if swapped else values


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Tensor:
    """A view of a storage."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def array(self) -> np.ndarray:
        """Its numbers; half precision as float32.

        Raises:
          ValueError: it looks beyond the storage.
        """
        values, numbers = self.storage.values, (self.offset, *self.size, *self.stride)
        whole = all(isinstance(n, int) and n >= 0 for n in numbers)
        if not whole or len(self.size) != len(self.stride) or values is None:
            raise ValueError("a tensor without a storage")
        reach = sum((n - 1) * step for n, step in zip(self.size, self.stride, strict=True))
        if math.prod(self.size) == 0:
            return np.zeros(self.size, self.storage.dtype)
        if self.offset + reach >= len(values):
            raise ValueError("a tensor that looks beyond its storage")
        steps = [step * values.itemsize for step in self.stride]
        view = np.lib.stride_tricks.as_strided(values[self.offset :], self.size, steps)
        half = values.dtype.itemsize == 2 and values.dtype.kind not in "iu"
        return view.astype(np.float32) if half else np.ascontiguousarray(view).reshape(self.size)


class NumpyDtype:
    """`np.dtype`, as far as numbers need it."""

    def __init__(self, name: str = "", *_: Any) -> None:
        self.name, self.swapped = str(name), False

    def __setstate__(self, state: Any) -> None:
        self.swapped = state[1] == ">"

    def dtype(self) -> np.dtype | None:
        """None of what is no number."""
        if self.name[:1] not in _NUMBERS:
            return None
        return np.dtype(self.name).newbyteorder(">" if self.swapped else "<")


class NumpyArray:
    """`np.ndarray`, or a scalar of NumPy, of numbers; without any of other things."""

    def __init__(
        self, dtype: Any = None, shape: Any = (), raw: Any = b"", fortran: bool = False
    ) -> None:
        self.parts = (dtype, shape, raw, fortran)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        self.parts = (dtype, shape, raw, fortran)

    def array(self) -> np.ndarray | None:
        """Its numbers, or None.

        Raises:
          ValueError: there are fewer than its shape says.
        """
        dtype, shape, raw, fortran = self.parts
        found = dtype.dtype() if isinstance(dtype, NumpyDtype) else None
        if found is None or not isinstance(raw, bytes | bytearray):
            return None
        values = np.frombuffer(raw, found).reshape(shape, order="F" if fortran else "C")
        return np.ascontiguousarray(values, found.newbyteorder("=")).reshape(shape)
