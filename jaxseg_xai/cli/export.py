"""`jaxseg-xai store export`: maps of a store as NIfTI, NumPy or PNG files."""

import dataclasses
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from jaxseg_xai.cli.command import EXIT_OK, Command
from jaxseg_xai.core.display import class_name
from jaxseg_xai.core.errors import ConfigError, DataError, JaxsegError
from jaxseg_xai.core.fields import check
from jaxseg_xai.data.nifti import save_slices, save_volume
from jaxseg_xai.report.files import file_name
from jaxseg_xai.store import Row, Store, ZarrStore

_ENDINGS = {"nifti": "nii.gz", "numpy": "npy", "png": "png"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Maps of a store as files: IMAGE-CLASS-LABEL-MAP.nii.gz, .npy or .png.

    NIfTI files lie where their images lie: slices of one volume become one file, 0 where a slice
    was not explained; images that do not say where they lie (pictures) are left out. NumPy files
    hold the numbers. PNG files are for looking at (8 bits, of pictures only): 128 is 0, and 1 and
    255 are the largest absolute value of the map; masks are 0 and 255; label maps are as they are.

    Attributes:
      store: made by `sweep` or `explain`.
      out: folder to write.
      maps: which maps: "attribution", "region", "reference", or a further one of the method
        ("prediction", of every method).
      to: kind of the files.
    """

    store: Path = Path("runs/sweep.zarr")
    out: Path = Path("runs/maps")
    maps: tuple[str, ...] = ("attribution",)
    to: Literal["nifti", "numpy", "png"] = "nifti"


def run(config: ExportConfig, command: str) -> int:
    """Write the files and print their paths."""
    del command
    check(config)
    store = ZarrStore.open(config.store)
    if config.to == "png" and store.rank == 3:
        raise ConfigError(f"{config.store} holds volumes, which are no pictures; use --to nifti")
    together = _volumes(store) if config.to == "nifti" else _alone(store)
    written = 0
    for rows in together.values():
        for name in config.maps:
            places, values = _read(store, rows, name, placed=config.to == "nifti")
            if not values:
                continue
            row = rows[0]
            slices = config.to == "nifti" and store.rank == 2
            stem = row.image_id.rpartition("#")[0] if slices else row.image_id
            words = (stem, class_name(row.class_index, store.class_names), row.label, name)
            path = config.out / f"{file_name('-'.join(words))}.{_ENDINGS[config.to]}"
            try:
                config.out.mkdir(parents=True, exist_ok=True)
                match config.to:
                    case "numpy":
                        np.save(path, values[0])
                    case "png":
                        Image.fromarray(_grey(values[0])).save(path)
                    case "nifti" if store.rank == 3:
                        save_volume(path, values[0], places[0])
                    case "nifti":
                        save_slices(path, values, places)
            except OSError as error:
                raise JaxsegError(f"{path}: cannot be written ({error.strerror})") from error
            print(path)
            written += 1
    if not written:
        why = " that says where it lies; NIfTI images do, in stores of this version"
        raise DataError(f"{config.store}: no map of an image{why if config.to == 'nifti' else ''}")
    return EXIT_OK


def _grey(values: np.ndarray) -> np.ndarray:
    """A map as a picture uint8 [H, W]; the first of planes of classes."""
    values = values[..., 0] if values.ndim > 2 else values
    if values.dtype == bool:
        return np.where(values, 255, 0).astype(np.uint8)
    if values.dtype.kind == "i":
        return np.clip(values, 0, 255).astype(np.uint8)
    largest = np.abs(values).max(initial=0.0)
    return np.round(128 + 127 * values / (largest or 1.0)).astype(np.uint8)


def _alone(store: Store) -> dict[Any, list[Row]]:
    """Every row by itself."""
    return {(row.label, row.number): [row] for row in store.rows(done_only=True)}


def _volumes(store: Store) -> dict[Any, list[Row]]:
    """Rows that belong into one file: one of a volume, those of all its slices."""
    found: dict[Any, list[Row]] = {}
    for row in store.rows(done_only=True):
        of = row.number if store.rank == 3 else row.image_id.rpartition("#")[0] or row.number
        found.setdefault((row.label, row.class_index, row.region_name, of), []).append(row)
    return found


def _read(
    store: Store, rows: list[Row], name: str, *, placed: bool
) -> tuple[list[Any], list[np.ndarray]]:
    """Affines and maps of the rows that have a map, and where they must be `placed`, an affine."""
    places, values = [], []
    for row in rows:
        stored = store.read(row)
        image = store.read_image(row) if placed else None
        affine = None if image is None else image.affine
        own = ("attribution", "region", "reference")
        found = {**stored.maps, **{key: getattr(stored, key) for key in own}}
        if stored.region is not None and name not in found:
            raise ConfigError(f"{row.label} has no map {name!r}; it has {', '.join(found)}")
        value = found.get(name)
        if value is not None and (affine is not None or not placed):
            places.append(affine)
            values.append(value)
    return places, values


COMMAND = Command(
    config=ExportConfig,
    run=run,
    example="jaxseg-xai store export --store runs/sweep.zarr --out maps --maps region",
)
