"""A folder of DICOM series, with DICOM-SEG as labels."""

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from jaxseg_xai.core.errors import ConfigError, DataError
from jaxseg_xai.core.types import Sample
from jaxseg_xai.data import dicom_files, nifti
from jaxseg_xai.data.checks import (
    Window,
    check_image,
    check_index,
    check_split,
    check_window,
    labels_or_error,
)
from jaxseg_xai.data.dicom_files import Series
from jaxseg_xai.data.files import in_window
from jaxseg_xai.data.nifti import Plane

_COLOURS = (0.0, 255.0)


class DICOMDataset:
    """DICOM series in a folder and its sub-folders: each is a volume, a slice or a picture an item.

    Values are those of the scanner (rescale slope and intercept applied). The window of the headers
    becomes 0 to 1, or the 0.5 to 99.5 percentile where there is none; or what `window` says. Of
    MONOCHROME1 bright and dark are exchanged then. With `raw` values stay.

    Slices are sorted by their place and must lie equally far apart. A volume is [z, y, x], not
    turned; slices are of a plane, as a radiologist sees them, as `FolderDataset` has them. Images
    that say no place (X-ray, ultrasound) are pictures, an item each.

    Labels are the segments of DICOM-SEG files that name the series, or lie in its frame of
    reference. Segments that overlap are planes with `overlapping`.

    Attributes:
      class_names: "background" and the labels of the segments, or as given.
      ids: patient and number of the series, "P17_3"; "P17_3#017" for slice 17. The group is the
        patient.
    """

    layout: ClassVar[str] = "any folder with DICOM files; DICOM-SEG files for labels"
    licence: ClassVar[str] = "that of the data"

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        split: str = "test",
        class_names: Sequence[str] = (),
        overlapping: bool = False,
        rank: int = 3,
        plane: Plane = "axial",
        raw: bool = False,
        window: Window | None = None,
        read_labels: bool = True,
    ) -> None:
        """Read the headers.

        Args:
          root: the folder.
          split: "train", "validation" or "test": the sub-folder of this name, if there is one; any
            other folder is one data set whatever `split` says.
          class_names: the classes, whose names are the labels of the segments in upper or lower
            case; (): all segments there are.
          overlapping: whether segments may overlap: planes instead of a label map.
          rank: 3 for volumes, 2 for slices and pictures.
          plane: of the slices: "axial", "coronal" or "sagittal".
          raw: whether values stay those of the scanner.
          window: (lo, hi) in the scanner's units that become 0 and 1.
          read_labels: False: items come without labels.

        Raises:
          DataError: no such folder, or no DICOM image in it.
          ConfigError: a bad window, rank, plane or split.
          MissingExtraError: pydicom or highdicom is absent.
        """
        check_split(split)
        if rank not in (2, 3) or plane not in nifti.PLANES:
            raise ConfigError(
                f"rank={rank}, plane={plane!r}: give 2 for slices or 3 for volumes, and one of "
                f"{', '.join(nifti.PLANES)}"
            )
        self._window, self._raw, self._rank = check_window(window), raw, rank
        self._order, self._overlapping = "".join(nifti.DIRECTIONS[plane]), overlapping
        folder = Path(root).expanduser()
        folder = folder / split if (folder / split).is_dir() else folder
        series, others = dicom_files.find_series(folder)
        if others:
            logging.getLogger(__name__).warning(f"{folder}: left out are {others} other files")
        segmentations = [path for one in series for path in one.segmentations if read_labels]
        found = dicom_files.segment_labels(segmentations)
        self._wanted = bool(segmentations)
        self.class_names: tuple[str, ...] = tuple(class_names)
        if not self.class_names and found:
            self.class_names = found if overlapping else ("background", *found)
        # (id, series, file of a picture or None, slice or None)
        self._items = [item for one in series for item in self._items_of(one)]
        self.ids: Sequence[str] = tuple(item[0] for item in self._items)
        self._last: tuple[str, Any, Any] | None = None

    @staticmethod
    def recognises(folder: Path) -> bool:
        """Whether a folder holds DICOM files and no other images."""
        return dicom_files.is_dicom(folder)

    def __len__(self) -> int:
        """Number of items."""
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Read item `index`: image float32 [*S, C], labels, or why they cannot be used.

        Raises:
          DataError: the item cannot be used; one line with the series and the remedy.
        """
        name, series, picture, level = self._items[check_index(index, len(self))]
        group = series.patient or series.name
        if picture is not None:
            if self._rank == 3:
                raise DataError(f"{picture}: a picture, no volume; use a model of images")
            values = self._scaled(dicom_files.read_picture(picture), series)
            image = check_image(values, f"{picture} ({name})")
            return Sample(id=name, image=image, group=group)
        values, place = self._volume(series)
        if self._rank == 2 and (level is None or level >= values.shape[2]):
            raise DataError(f"{series.where}: changed since it was opened; open it again")
        values = (values if level is None else values[:, :, level]).copy()
        affine = dicom_files.affine_of(place)
        if level is not None:
            affine[:, 3] += level * affine[:, 2]
        values = check_image(values, f"{series.where}: {name}", rank=self._rank)
        return Sample(
            id=name,
            image=values,
            **labels_or_error(lambda: self._labels(series, place, level)),
            group=group,
            spacing=nifti.spacing_of(affine)[: self._rank],
            affine=affine,
        )

    def files(self, index: int) -> list[Path]:
        """The files that item `index` is read from."""
        _, series, picture, _ = self._items[index]
        if picture is not None:
            return [picture]
        return [*series.files, *(series.segmentations if self._wanted else [])]

    def _items_of(self, series: Series) -> Iterator[tuple[str, Series, Path | None, int | None]]:
        """What a series is: a volume, its slices, or pictures."""
        try:
            geometry = dicom_files.geometry_of(series)
        except DataError:  # reading the item will say what is wrong
            yield series.name, series, None, None
            return
        if geometry is None:
            for number, path in enumerate(series.files):
                name = series.name if len(series.files) == 1 else f"{series.name}_{number:03d}"
                yield name, series, path, None
        elif self._rank == 3:
            yield series.name, series, None, None
        else:
            for level in range(geometry.to_patient_orientation(self._order).spatial_shape[2]):
                yield f"{series.name}#{level:03d}", series, None, level

    def _volume(self, series: Series) -> tuple[np.ndarray, Any]:
        """Scaled voxels [z, y, x] or [rows, columns, slices] and their place; the last is kept."""
        if self._last is None or self._last[0] != series.name:
            volume = dicom_files.read_volume(series)
            if self._rank == 2:
                volume = volume.to_patient_orientation(self._order)
            scaled = self._scaled(np.asarray(volume.array), series)
            self._last = (series.name, scaled, volume.get_geometry())
        return self._last[1], self._last[2]

    def _scaled(self, values: np.ndarray, series: Series) -> np.ndarray:
        values = values.astype(np.float32)
        if self._raw:
            return values
        is_colour = series.headers[0].get("SamplesPerPixel", 1) > 1
        scaled = in_window(values, self._window or (_COLOURS if is_colour else series.window))
        return 1 - scaled if series.is_inverted else scaled

    def _labels(self, series: Series, place: Any, level: int | None) -> np.ndarray | None:
        if not self._wanted or not series.segmentations:
            return None
        names = {name.casefold(): number for number, name in enumerate(self.class_names)}
        planes = np.zeros((*place.spatial_shape, len(self.class_names)), bool)
        for path in series.segmentations:
            for label, voxels in dicom_files.read_segments(path, place).items():
                if label.casefold() not in names:
                    raise DataError(
                        f"{path}: its segment {label!r} is none of the classes "
                        f"({', '.join(self.class_names)}); rename it, or leave the file out"
                    )
                planes[..., names[label.casefold()]] |= voxels
        if level is not None:
            planes = planes[:, :, level]
        if self._overlapping:
            return planes
        if (planes.sum(axis=-1) > 1).any():
            raise DataError(
                f"{series.segmentations[0]}: its segments overlap; set overlapping (data.options) "
                "for a model of classes that may"
            )
        return planes.argmax(axis=-1).astype(np.int32)
