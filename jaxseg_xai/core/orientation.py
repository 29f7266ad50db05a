"""How arrays lie in the body, by an affine from voxel indices to millimetres (right, front, up)."""

import dataclasses
import itertools

import numpy as np

#: Where each millimetre axis comes from and runs to: Left, Right, Posterior, Anterior, ...
_LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))


@dataclasses.dataclass(frozen=True)
class Turn:
    """Axes in another order and direction; oblique volumes are turned to the nearest axis.

    Attributes:
      order: axis i of what is turned is axis `order[i]` of the array.
      flipped: whether axis i then runs backwards.
    """

    order: tuple[int, ...] = (0, 1, 2)
    flipped: tuple[bool, ...] = (False, False, False)

    def apply(self, array: np.ndarray) -> np.ndarray:
        """[*S, ...] turned; a view."""
        rank = len(self.order)
        turned = array.transpose(*self.order, *range(rank, array.ndim))
        return turned[tuple(slice(None, None, -1 if back else 1) for back in self.flipped)]


def turn_to(affine: np.ndarray, directions: str) -> Turn:
    """The turn after which the axes of a volume run in three directions, "IPL" say.

    Args:
      affine: float [4, 4].
      directions: three of the letters L or R, P or A, I or S.
    """
    axes = _body_axes(affine)
    order, flipped = [], []
    for letter in directions:
        body = next(i for i, pair in enumerate(_LETTERS) if letter in pair)
        axis = axes.index(body)
        order.append(axis)
        flipped.append(letter != _letter(affine, axis, body))
    return Turn(tuple(order), tuple(flipped))


def orientation_of(affine: np.ndarray | None, rank: int) -> str:
    """Where the axes of an image run to in the body, "P L" for rows and columns of a slice.

    Letters: Left, Right, Anterior, Posterior, Superior, Inferior. "" where it is not known.
    """
    if affine is None:
        return ""
    axes = _body_axes(affine)[:rank]
    return " ".join(_letter(affine, axis, body) for axis, body in enumerate(axes))


def _letter(affine: np.ndarray, axis: int, body: int) -> str:
    return _LETTERS[body][int(affine[body, axis] > 0)]


def _body_axes(affine: np.ndarray) -> tuple[int, ...]:
    """For each axis of the array the axis of the body that it runs along, each once."""
    steps = np.asarray(affine, np.float64)[:3, :3]
    along = np.abs(steps) / np.maximum(np.linalg.norm(steps, axis=0), 1e-30)
    # All six ways: of an oblique volume two axes may be nearest to the same one of the body.
    return max(itertools.permutations(range(3)), key=lambda p: along[p, range(3)].sum())
