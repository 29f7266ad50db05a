"""The explanation store: what a sweep computed, in Zarr v3, readable by xarray.

    store.zarr/                      attributes: config, and what the sweep adds (seed, versions,
      |                              class_names, ...)
      images/                        dimensions image, y, x, channel
      |   image       uint8 [image, y, x, 3]   for display
      |   labels      int16 [image, y, x]      ground truth, -1 = none
      |   prediction  int16 [image, y, x]      the model's label map, -1 = none
      |   id          string [image];  height, width int32 [image], 0 = not written
      patch_pool/                    patches and sources: what the ATE draws from (by the sweep)
      misure/, ate/, ...             one group an explainer; attributes: its parameters
          attribution           float32 [explanation, y, x]
          map_<name>            each entry of `Explanation.maps` (bool as uint8)
          region, reference     uint8 [explanation, y, x], the target
          trace_<name>          float32 [explanation, t_<name>], NaN-padded
          score_<name>          float32 [explanation], NaN = not defined
          status                int8 [explanation], a `Status`; -1 = pending
          reason                string [explanation], why a row failed
          height, width         int32 [explanation], size of the maps; 0 = no maps
          image_index, class_index int32, region_name, id string [explanation], the plan

Every row of a map is one chunk. Images of different sizes share an array of the largest size; the
rest of a smaller row is padding (NaN or 0), which `read` crops. A row's `status` reaches the disk
after everything else of that row, so a killed sweep leaves rows pending, never half written.

    xr.open_datatree("store.zarr", engine="zarr")
    xr.open_zarr("store.zarr", group="misure").score_dice_minimal.mean()

One process writes a store at a time; any number may read it.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg_xai.core.types import Explanation, SegmentTarget, Status
from jaxseg_xai.store import layout
from jaxseg_xai.store.layout import PENDING
from jaxseg_xai.store.records import Plan, PlanRow, StoredExplanation, StoredImage
from jaxseg_xai.store.tables import Table, consolidate, io_errors

__all__ = ["PENDING", "ExplanationStore", "Plan", "PlanRow", "StoredExplanation", "StoredImage"]


class ExplanationStore:
    """An open store; make one with `create_or_resume` (to write) or `open` (to read)."""

    def __init__(self, path: Path, mode: str) -> None:
        self.path = path
        self.attrs = layout.read_attrs(path)
        self._images = layout.open_table(path, "images", "image", mode)
        self._tables = {
            name: layout.open_table(path, name, "explanation", mode)
            for name in self.attrs["explainers"]
        }

    @classmethod
    def create_or_resume(
        cls,
        path: str | os.PathLike[str],
        *,
        plan: Plan,
        config: Mapping[str, Any],
        attrs: Mapping[str, Any] | None = None,
        parameters: Mapping[str, Mapping[str, Any]] | None = None,
        overwrite: bool = False,
    ) -> "ExplanationStore":
        """Open the store at `path` to continue the same sweep, or create it.

        Args:
          path: folder of the store.
          plan: explainer name -> its rows.
          config: what must be equal for a sweep to be continued; JSON values.
          attrs: further root attributes (seed, versions, class_names); the first run's are kept.
          parameters: explainer name -> attributes of its group.
          overwrite: delete an existing store first (never a folder that is not one).

        Raises:
          ConfigError: the store at `path` was made from another plan or config.
          JaxsegError: `path` cannot be written, or is something else than a store.
        """
        path = Path(path)
        with io_errors(path):
            if path.exists() and not (path.is_dir() and not any(path.iterdir())):
                layout.read_attrs(path)  # or it is not ours to continue, let alone to delete
                if not overwrite:
                    store = cls(path, "r+")
                    old = store.attrs["config"]
                    layout.check_same(path, store._images, store._tables, old, plan, config)
                    layout.clear_unfinished(path, ["images", *store.explainers])
                    store._consolidate()  # a killed process may have left it stale
                    return store
                # Renamed first: half a store is neither continued nor overwritten.
                deleted = path.with_name(path.name + ".deleted")
                shutil.rmtree(deleted, ignore_errors=True)  # of a run killed here
                shutil.rmtree(path.rename(deleted))
            layout.create(path, plan, config, attrs or {}, parameters or {})
            return cls(path, "r+")

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "ExplanationStore":
        """Open an existing store to read; JaxsegError where there is none."""
        path = Path(path)
        with io_errors(path):
            return cls(path, "r")

    @property
    def explainers(self) -> tuple[str, ...]:
        """Names of the explainers, in the order of the plan."""
        return tuple(self._tables)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, where the sweep gave `attrs["class_names"]`."""
        return tuple(self.attrs.get("class_names", ()))

    def parameters(self, explainer: str) -> dict[str, Any]:
        """What the sweep gave as `parameters` of an explainer."""
        return self._tables[explainer].attrs.get("parameters", {})

    def num_rows(self, explainer: str) -> int:
        """Number of rows planned for an explainer."""
        return self._tables[explainer].num_rows

    def plan_row(self, explainer: str, row: int) -> PlanRow:
        """One row of the plan."""
        return layout.plan_row(self._images, self._tables[explainer], row)

    def reason(self, explainer: str, row: int) -> str:
        """Why a row failed, "" where it did not."""
        return str(self._tables[explainer].columns["reason"][row])

    def statuses(self, explainer: str) -> np.ndarray:
        """Status of every row, int8 [explanation], -1 = pending."""
        return self._tables[explainer].columns["status"].copy()

    def pending(self, explainer: str) -> np.ndarray:
        """Rows not yet written, int [P], ascending."""
        return np.flatnonzero(self.statuses(explainer) == PENDING)

    def counts(self) -> dict[str, dict[str, int]]:
        """Explainer -> name of the status (or "PENDING") -> number of rows, zeros left out."""
        result = {}
        for name in self.explainers:
            values, numbers = np.unique(self.statuses(name), return_counts=True)
            result[name] = {
                "PENDING" if v == PENDING else Status(v).name: int(n)
                for v, n in zip(values, numbers, strict=True)
            }
        return result

    def scores(self, explainer: str) -> dict[str, np.ndarray]:
        """Every score as a column float32 [explanation], NaN where it is not defined."""
        columns = self._tables[explainer].columns
        return {n[6:]: values.copy() for n, values in columns.items() if n.startswith("score_")}

    def traces(self, explainer: str) -> dict[str, np.ndarray]:
        """Every trace of all rows, float32 [explanation, T], NaN-padded."""
        arrays = self._tables[explainer].arrays
        with io_errors(self.path):
            return {n[6:]: np.asarray(a[:]) for n, a in arrays.items() if n.startswith("trace_")}

    def has_image(self, index: int) -> bool:
        """Whether image `index` was written."""
        return bool(self._images.columns["height"][index] > 0)

    def write_image(
        self,
        index: int,
        image: np.ndarray,
        labels: np.ndarray | None = None,
        prediction: np.ndarray | None = None,
    ) -> None:
        """Write an image for display, uint8 [H, W, 1 or 3], and its label maps [H, W].

        It counts as written after the next `flush`.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3):
            raise ValueError(f"image must be uint8 [H, W, 1 or 3], not {image.dtype} {image.shape}")
        table = self._images
        with io_errors(self.path):
            rgb = np.broadcast_to(image, (*image.shape[:2], 3))
            table.put("image", index, rgb, ("y", "x", "channel"))
            for name, value in (("labels", labels), ("prediction", prediction)):
                if value is not None:
                    table.put(name, index, np.asarray(value).astype(np.int16), ("y", "x"), -1)
            table.set("height", index, image.shape[0])
            table.set("width", index, image.shape[1])

    def write(
        self,
        explainer: str,
        row: int,
        explanation: Explanation,
        target: SegmentTarget,
        *,
        reason: str = "",
        flush: bool = True,
    ) -> None:
        """Write one explanation (without a batch axis) and the target it explains.

        The maps go to disk at once. The row stops being pending with the next `flush`; with
        `flush=False` many rows share the cost of one.
        """
        table = self._tables[explainer]
        maps = {f"map_{name}": value for name, value in explanation.maps.items()}
        maps |= {
            "attribution": explanation.attribution,
            "region": target.region,
            "reference": target.reference,
        }
        with io_errors(self.path):
            for name, value in maps.items():
                table.put(name, row, _storable(value), ("y", "x"))
            for name, value in explanation.traces.items():
                trace = np.asarray(value, np.float32)
                table.put(f"trace_{name}", row, trace, (f"t_{name}",))
            for name, value in explanation.scores.items():
                table.set(f"score_{name}", row, np.float32(np.asarray(value)))
            height, width = explanation.attribution.shape
            table.set("height", row, height)
            table.set("width", row, width)
        self._finish(table, row, int(explanation.status), reason, flush)

    def fail(self, explainer: str, row: int, reason: str, *, flush: bool = True) -> None:
        """Record that a row could not be explained, and why."""
        self._finish(self._tables[explainer], row, int(Status.FAILED), reason, flush)

    def flush(self) -> None:
        """Bring images, scores and, last, the statuses to disk."""
        with io_errors(self.path):
            self._images.flush()
            for table in self._tables.values():
                table.flush(last="status")
            if any(table.reshaped for table in (self._images, *self._tables.values())):
                self._consolidate()

    def read_image(self, index: int) -> StoredImage | None:
        """Image `index`, or None if it was not written."""
        if not self.has_image(index):
            return None
        with io_errors(self.path):
            maps = _read_maps(self._images, index)
        labels, prediction = (
            value if value is not None and (value >= 0).any() else None
            for value in (maps.get("labels"), maps.get("prediction"))
        )
        return StoredImage(
            id=str(self._images.columns["id"][index]),
            image=maps["image"],
            labels=labels,
            prediction=prediction,
        )

    def read(self, explainer: str, row: int) -> StoredExplanation:
        """One row, maps cropped to the size they were written with."""
        table = self._tables[explainer]
        columns = table.columns
        status = int(columns["status"][row])
        maps, traces, scores = {}, {}, {}
        if status != PENDING and columns["height"][row] > 0:
            with io_errors(self.path):
                maps = _read_maps(table, row)
                names = [n for n in table.arrays if n.startswith("trace_")]
                traces = {n[6:]: np.asarray(table.arrays[n][row]) for n in names}
            scores = {n: float(values[row]) for n, values in self.scores(explainer).items()}
            # Only what was boolean is stored as uint8.
            maps = {n: v.astype(bool) if v.dtype == np.uint8 else v for n, v in maps.items()}
        return StoredExplanation(
            explainer=explainer,
            row=row,
            plan=self.plan_row(explainer, row),
            status=None if status == PENDING else Status(status),
            reason=self.reason(explainer, row),
            attribution=maps.pop("attribution", None),
            region=maps.pop("region", None),
            reference=maps.pop("reference", None),
            maps={name.removeprefix("map_"): value for name, value in maps.items()},
            scores=scores,
            traces=traces,
        )

    def __iter__(self) -> Iterator[StoredExplanation]:
        """Every row that is not pending, explainer by explainer."""
        for name in self.explainers:
            for row in np.flatnonzero(self.statuses(name) != PENDING):
                yield self.read(name, int(row))

    def _finish(self, table: Table, row: int, status: int, reason: str, flush: bool) -> None:
        table.set("reason", row, " ".join(reason.split()))
        table.set("status", row, status)
        if flush:
            self.flush()

    def _consolidate(self) -> None:
        for table in (self._images, *self._tables.values()):
            table.grow()
            table.reshaped = False
        consolidate(self.path, ["images", *self._tables])


def _storable(value: Any) -> np.ndarray:
    value = np.asarray(value)
    kinds = {"b": np.uint8, "i": np.int32, "u": np.int32, "f": np.float32}
    return value.astype(kinds[value.dtype.kind])


def _read_maps(table: Table, row: int) -> dict[str, np.ndarray]:
    size = tuple(slice(int(table.columns[name][row])) for name in ("height", "width"))
    return {
        name: np.asarray(array[(row, *size)])
        for name, array in table.arrays.items()
        if table.dims(name)[1:3] == ("y", "x")
    }
