"""Why weights do not fit a network, in one line; and all of it, on request."""

import dataclasses

from jaxseg_xai.core.errors import MismatchError

#: Characters of the line, without the name of the file.
_MOST = 300

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mismatch:
    """What of a network and a file does not go together.

    Attributes:
      missing: weights of the network that the file has not.
      unexpected: arrays of the file that the network has not.
      misshapen: array of the file -> (its shape, the network's), kernels as (*space, in, out).
      num_fitting: weights that do.
    """

    missing: list[str]
    unexpected: list[str]
    misshapen: dict[str, tuple[Shape, Shape]]
    num_fitting: int

    @property
    def count(self) -> int:
        """How many names."""
        return len(self.missing) + len(self.unexpected) + len(self.misshapen)

    def error(self) -> MismatchError:
        """The line, at most 300 characters, with all names as its `details`."""
        shapes = [f"{name} {a} for {b}" for name, (a, b) in self.misshapen.items()]
        kinds = {"missing": self.missing, "unexpected": self.unexpected, "of another shape": shapes}
        kinds = {kind: names for kind, names in kinds.items() if names}
        start = f"the weights do not fit: {self._cause()}"
        for most in (4, 3, 2, 1, 0):
            line = "; ".join([start, *(_some(kind, names, most) for kind, names in kinds.items())])
            if len(line) <= _MOST:
                break
        details = [f"{kind}: {name}" for kind, names in kinds.items() for name in names]
        return MismatchError(line, "\n".join(details))

    def _cause(self) -> str:
        if self.missing or self.unexpected:
            if not self.num_fitting:
                return "another architecture, or names that need a name_map"
            if not self.unexpected:
                return "an incomplete file, or an architecture with more layers"
            if not self.missing:
                return "parts for training only (null in the name_map drops them) or another depth"
            return "another version of the architecture, or names that need a name_map"
        pairs = list(self.misshapen.values())
        if any(len(a) != len(b) for a, b in pairs):
            return "another rank: images or volumes"
        changes = {
            (axis - len(a), a[axis], b[axis])
            for a, b in pairs
            for axis in range(len(a))
            if a[axis] != b[axis]
        }
        if len(changes) == 1:
            (axis, found, wanted) = changes.pop()
            if axis == -1:
                return f"another class count: the file has {found}, num_logits is {wanted}"
            if axis == -2 and len(pairs) == 1:
                return f"other channels of the image: the file has {found}, in_channels is {wanted}"
        if all(axis < -2 for axis, _, _ in changes):
            return "another size of kernels"
        return "another width"


def _some(kind: str, names: list[str], most: int) -> str:
    rest = [f"{len(names) - most} more"] if most and len(names) > most else []
    listed = ", ".join([*names[:most], *rest])
    return f"{len(names)} {kind}{': ' if listed else ''}{listed}"
