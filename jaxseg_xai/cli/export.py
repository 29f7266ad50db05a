"""`jaxseg-xai export`: maps of a store as NIfTI files, where their images lie."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg_xai.cli.command import EXIT_OK, Command
from jaxseg_xai.core.display import class_name
from jaxseg_xai.core.errors import ConfigError, DataError, JaxsegError
from jaxseg_xai.core.fields import check
from jaxseg_xai.data.nifti import save_slices, save_volume
from jaxseg_xai.report.files import file_name
from jaxseg_xai.store import Row, Store, ZarrStore


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Maps of volumes as NIfTI: IMAGE-CLASS-LABEL-MAP.nii.gz, on the grid of the image.

    Slices of one volume become one file, 0 where a slice was not explained. Images that do not say
    where they lie (pictures) are left out.

    Attributes:
      store: made by `sweep` or `explain`.
      out: folder to write.
      maps: which maps: "attribution", "region", "reference", or a further one of the method
        ("prediction", of every method).
    """

    store: Path = Path("runs/sweep.zarr")
    out: Path = Path("runs/maps")
    maps: tuple[str, ...] = ("attribution",)


def run(config: ExportConfig, command: str) -> int:
    """Write the files and print their paths."""
    del command
    check(config)
    store = ZarrStore.open(config.store)
    written = 0
    for rows in _volumes(store).values():
        for name in config.maps:
            places, values = _read(store, rows, name)
            if not values:
                continue
            row = rows[0]
            stem = row.image_id if store.rank == 3 else row.image_id.rpartition("#")[0]
            words = (stem, class_name(row.class_index, store.class_names), row.label, name)
            path = config.out / f"{file_name('-'.join(words))}.nii.gz"
            try:
                config.out.mkdir(parents=True, exist_ok=True)
                if store.rank == 3:
                    save_volume(path, values[0], places[0])
                else:
                    save_slices(path, values, places)
            except OSError as error:
                raise JaxsegError(f"{path}: cannot be written ({error.strerror})") from error
            print(path)
            written += 1
    if not written:
        raise DataError(
            f"{config.store}: no map of an image that says where it lies; NIfTI images do, in "
            "stores of this version"
        )
    return EXIT_OK


def _volumes(store: Store) -> dict[Any, list[Row]]:
    """Rows that belong into one file: one of a volume, those of all its slices."""
    found: dict[Any, list[Row]] = {}
    for row in store.rows(done_only=True):
        of = row.number if store.rank == 3 else row.image_id.rpartition("#")[0] or row.number
        found.setdefault((row.label, row.class_index, row.region_name, of), []).append(row)
    return found


def _read(store: Store, rows: list[Row], name: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Affines and maps of the rows that have both."""
    places, values = [], []
    for row in rows:
        image, stored = store.read_image(row), store.read(row)
        own = ("attribution", "region", "reference")
        found = {**stored.maps, **{key: getattr(stored, key) for key in own}}
        if stored.region is not None and name not in found:
            raise ConfigError(f"{row.label} has no map {name!r}; it has {', '.join(found)}")
        value = found.get(name)
        if image is not None and image.affine is not None and value is not None:
            places.append(image.affine)
            values.append(value)
    return places, values


COMMAND = Command(
    config=ExportConfig,
    run=run,
    example="jaxseg-xai export --store runs/sweep.zarr --out maps --maps attribution prediction",
)
