"""What `jaxseg_xai.explain` gives back: explanations that print, plot, convert and save."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from jaxseg_xai.core.display import class_name
from jaxseg_xai.core.errors import ConfigError, MissingExtraError
from jaxseg_xai.facade.arrays import stack
from jaxseg_xai.report.record import STATUS_NOTES, Record, meta_of
from jaxseg_xai.store import (
    Entry,
    Row,
    Store,
    StoredExplanation,
    StoredImage,
    ZarrStore,
    copy_store,
)

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure


class Explained:
    """One explanation of one class in one image.

    Attributes:
      attribution: float32 [*S] on the image's own grid; None of methods that explain parts of the
        network. Unit and sign: `unit`, `note`.
      maps: name -> [*S], further maps.
      scores: name -> float, NaN where a score is not defined.
      traces: name -> float32 [T].
      region: bool [*S], the output pixels that it is about.
      reference: bool [*S], the pixels of the class that are explained.
    """

    def __init__(self, store: Store, row: Row) -> None:
        self._store, self._row = store, row
        self._stored: StoredExplanation = store.read(row)
        found = self._stored
        self.attribution, self.maps = found.attribution, found.maps
        self.scores, self.traces = found.row.scores, found.traces
        self.region, self.reference = found.region, found.reference

    @property
    def image_id(self) -> str:
        """Name of the image."""
        return self._row.image_id

    @property
    def class_name(self) -> str:
        """Name of the class."""
        return class_name(self._row.class_index, self._store.class_names)

    @property
    def method(self) -> str:
        """Name of the method."""
        return self._row.method

    @property
    def status_name(self) -> str:
        """ "OK", or why there is no explanation, or not the one expected."""
        return "PENDING" if self._row.status is None else self._row.status.name

    @property
    def reason(self) -> str:
        """Why there is no explanation, or not the one expected; "" where there is."""
        return self._row.reason or STATUS_NOTES[self._row.status]

    @property
    def unit(self) -> str:
        """Unit of the attribution."""
        return self._record.unit

    @property
    def note(self) -> str:
        """How to read the map."""
        return self._record.meta.note

    @property
    def image(self) -> StoredImage | None:
        """The image as it is shown, with labels and the model's prediction."""
        return self._store.read_image(self._row)

    def plot(self) -> "Figure":
        """The figure, as a matplotlib `Figure`; needs the extra `report`."""
        from jaxseg_xai.report.figures import draw

        return draw(self._stored, self.image, self._store.class_names, self._entry)

    @property
    def _entry(self) -> Entry:
        return self._store.entry(self._row.label)

    @property
    def _record(self) -> Record:
        entry = self._entry
        return Record(
            stored=self._stored,
            image=None,
            class_names=self._store.class_names,
            entry=entry,
            meta=meta_of(entry),
        )

    def __repr__(self) -> str:
        """One line: what of what, the status, and the range of the map."""
        head = f"{self.method} of {self.class_name} in {self.image_id}: {self.status_name}"
        why = f" ({self.reason})" if self.reason else ""
        if self.attribution is None or self.status_name not in ("OK", "NOT_REACHED"):
            return f"{head}{why}"
        low, high = float(self.attribution.min()), float(self.attribution.max())
        size = "x".join(map(str, self.attribution.shape))
        return f"{head}, {size}, {low:.3g} to {high:.3g} {self.unit}".rstrip() + why


class Explanations(Sequence[Explained]):
    """Explanations of some images and classes, in order; one that is alone acts for itself.

    `found[0]` is an `Explained`; `found.plot()`, `found.attribution` and its other attributes are
    those of the only one, where there is one.
    """

    def __init__(self, store: Store, *, done_only: bool = False) -> None:
        self._store, self._rows = store, store.rows(done_only=done_only)

    def __len__(self) -> int:
        """How many."""
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Explained: ...
    @overload
    def __getitem__(self, index: slice) -> "list[Explained]": ...
    def __getitem__(self, index: int | slice) -> "Explained | list[Explained]":
        """One explanation, or a list of some."""
        if isinstance(index, slice):
            return [Explained(self._store, row) for row in self._rows[index]]
        return Explained(self._store, self._rows[index])

    def __iter__(self) -> Iterator[Explained]:
        """One after the other."""
        return (Explained(self._store, row) for row in self._rows)

    def __getattr__(self, name: str) -> Any:
        """Attributes of the only explanation."""
        if name.startswith("_") or (not hasattr(Explained, name) and name not in _VALUES):
            raise AttributeError(name)
        if len(self) != 1:
            raise AttributeError(f"there are {len(self)} explanations; choose one, found[0].{name}")
        return getattr(self[0], name)

    def to_xarray(self) -> "xarray.Dataset":
        """All maps and scores with named dimensions; needs the extra `xarray`.

        Returns:
          Variables `attribution` and `map_<name>` [explanation, (z,) y, x], `score_<name>` and
          `status` [explanation]; coordinates `image`, `class` and `method`. What failed has NaN,
          False or (in label maps) -1. The images must be of one size.
        """
        try:
            import xarray
        except ImportError as error:
            raise MissingExtraError("to_xarray()", "xarray") from error
        axes = ("z", "y", "x")[-self._store.rank :]
        variables: dict[str, Any] = {}
        for name, values in stack(self).items():
            kind, _, rest = name.partition("_")
            dims = (f"t_{rest}",) if kind == "trace" else (*axes, "plane")
            variables[name] = (("explanation", *dims[: values.ndim - 1]), values)
        coordinates = {name: variables.pop(name) for name in ("image", "class", "method")}
        return xarray.Dataset(variables, coords=coordinates)

    def save(self, path: str | Path) -> Path:
        """Save all of them.

        Args:
          path: ending with .png (figures; of several, their number is put before the ending), .npz
            (arrays named as in `to_xarray`) or .zarr (a store, as a sweep writes it).

        Its folder is made where there is none.

        Returns:
          The path; of several figures, that of the first.

        Raises:
          ConfigError: another ending, a store that is there already, or a place where nothing can
            be written.
        """
        path = Path(path).expanduser()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return self._save(path)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror or error}; save elsewhere") from error

    def _save(self, path: Path) -> Path:
        match path.suffix.lower():
            case ".png":
                from jaxseg_xai.report.panels import to_png

                paths = [path]
                if len(self) > 1:
                    names = [f"{path.stem}-{i}{path.suffix}" for i in range(len(self))]
                    paths = [path.with_name(name) for name in names]
                for one, place in zip(self, paths, strict=True):
                    place.write_bytes(to_png(one.plot()))
                return paths[0]
            case ".npz":
                arrays: dict[str, Any] = stack(self)
                with path.open("wb") as file:  # a name is given the ending .npz once more
                    np.savez_compressed(file, **arrays)
            case ".zarr":
                if path.exists():
                    raise ConfigError(f"{path} is there already; delete it, or save elsewhere")
                copy_store(self._store, path)
            case _:
                raise ConfigError(f"{path}: save as .png, .npz or .zarr")
        return path

    def __repr__(self) -> str:
        """A line for each."""
        return "\n".join(map(repr, self)) if len(self) else "no explanation"


#: Attributes of an `Explained` that are set in its constructor.
_VALUES = ("attribution", "maps", "scores", "traces", "region", "reference")


def open_store(path: str | Path) -> Explanations:
    """What a sweep stored, as explanations that print and plot; rows that are pending left out.

    Raises:
      JaxsegError: there is no store at `path`.
    """
    return Explanations(ZarrStore.open(path), done_only=True)
