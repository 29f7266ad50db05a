"""DICOM: the series of a folder, their voxels and segmentations, by pydicom and highdicom."""

import dataclasses
import functools
import itertools
import os
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from jaxseg_xai.core.errors import DataError, MissingExtraError
from jaxseg_xai.data import readers
from jaxseg_xai.data.checks import Window

T = TypeVar("T")
#: Files that tell what a folder holds.
_LOOKED_AT = 50
_SEG = "1.2.840.10008.5.1.4.1.1.66.4"
#: Patients' axes run to the left, back and head in DICOM, to the right, front and head in NIfTI.
_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Series:
    """Images that were taken together.

    Attributes:
      name: patient and number of the series, unique in its folder.
      patient: whom it shows; "" where nobody says.
      files: of the instances, by path.
      headers: of the files, without pixels.
      segmentations: files of DICOM-SEG that are about it.
    """

    name: str
    patient: str
    files: tuple[Path, ...]
    headers: tuple[Any, ...]
    segmentations: tuple[Path, ...] = ()

    @property
    def where(self) -> str:
        """What an error message calls it."""
        return f"{self.files[0].parent} (series {self.name})"

    @property
    def is_inverted(self) -> bool:
        """Whether low values are shown bright."""
        return self.headers[0].get("PhotometricInterpretation") == "MONOCHROME1"

    @property
    def window(self) -> Window | None:
        """The first window of the headers; None where they have none, or several."""
        found = {_window_of(header) for header in self.headers}
        return found.pop() if len(found) == 1 else None


def find_series(folder: Path) -> tuple[list[Series], int]:
    """The series in a folder and its sub-folders, and how many other files there are.

    Raises:
      DataError: no such folder, or no series in it.
      MissingExtraError: pydicom is absent.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; name the folder of the DICOM files")
    pydicom = _library("pydicom")
    images: dict[str, list[tuple[Path, Any]]] = defaultdict(list)
    segmentations: list[tuple[Path, Any]] = []
    others = 0
    for path in sorted(Path(top) / name for top, _, names in os.walk(folder) for name in names):
        try:
            with readers.quiet_decoders():
                header = pydicom.dcmread(path, stop_before_pixels=True)
                for tag in filter(lambda tag: not tag.is_private, tuple(header.keys())):
                    _ = header[tag]  # values are looked at, and may be refused, when asked for
        except Exception:  # of a damaged file pydicom raises nearly anything
            others += not path.name.startswith(".")
            continue
        if header.get("SOPClassUID") == _SEG:
            segmentations.append((path, header))
        elif "Rows" in header and "SeriesInstanceUID" in header:
            images[str(header.SeriesInstanceUID)].append((path, header))
        else:
            others += path.name != "DICOMDIR"
    if not images:
        raise DataError(f"{folder}: no DICOM image in it; name the folder that has the series")
    with readers.quiet_decoders():
        found = [_series(uid, pairs, segmentations) for uid, pairs in images.items()]
    names = [one.name for one in found]
    return [
        dataclasses.replace(one, name=f"{one.name}_{one.headers[0].SeriesInstanceUID}")
        if names.count(one.name) > 1
        else one
        for one in sorted(found, key=lambda one: one.name)
    ], others


def is_dicom(folder: Path) -> bool:
    """Whether the first files of a folder, or of its sub-folders, are DICOM and no other images."""
    files = (Path(top) / name for top, _, names in os.walk(folder) for name in names)
    for path in itertools.islice(files, _LOOKED_AT):
        if readers.split_name(path)[1] in readers.SUFFIXES:
            return False
        try:
            with path.open("rb") as file:
                if file.read(132)[128:] == b"DICM":
                    return True
        except OSError:
            continue
    return False


def geometry_of(series: Series) -> Any:
    """Where the voxels of a series lie, from its headers; None of pictures (X-ray, ultrasound).

    Raises:
      DataError: the slices make no volume, or their headers are damaged.
    """
    return readers.guarded(series.where, lambda: _geometry_of(series))


def _geometry_of(series: Series) -> Any:
    highdicom, first = _library("highdicom"), series.headers[0]
    if "NumberOfFrames" in first and len(series.files) == 1:
        return None if "PerFrameFunctionalGroupsSequence" not in first else _frames(series)
    if "ImagePositionPatient" not in first or "ImageOrientationPatient" not in first:
        return None
    across = np.cross(first.ImageOrientationPatient[:3], first.ImageOrientationPatient[3:])
    places = [np.array(header.ImagePositionPatient, float) for header in series.headers]
    order = np.argsort([across @ place for place in places])
    steps = np.diff([across @ places[i] for i in order])
    if len(steps) and (steps.min() <= 0.01 or np.ptp(steps) > 0.01 * steps.mean()):
        raise DataError(
            f"{series.where}: its slices lie {steps.min():.3g} to {steps.max():.3g} mm apart; "
            "export one series with all slices and one image at each place"
        )
    step = steps.mean() if len(steps) else first.get("SpacingBetweenSlices", 1.0)
    return highdicom.VolumeGeometry.from_attributes(
        image_position=first.ImagePositionPatient if not len(steps) else list(places[order[0]]),
        image_orientation=first.ImageOrientationPatient,
        rows=first.Rows,
        columns=first.Columns,
        pixel_spacing=first.PixelSpacing,
        spacing_between_slices=float(step),
        number_of_frames=len(places),
        coordinate_system="PATIENT",
    )


def read_volume(series: Series) -> Any:
    """The voxels of a series as highdicom's `Volume`, in the units of the scanner.

    They are [z, y, x] in the order in which SimpleITK reads them.

    Raises:
      DataError: they cannot be read, or the slices make no volume.
    """
    highdicom = _library("highdicom")
    options: dict[str, Any] = {"apply_real_world_transform": False, "dtype": np.float64}
    options |= {"apply_presentation_lut": False, "apply_icc_profile": False}
    geometry_of(series)  # says what is wrong with it

    def read() -> Any:
        datasets = [_decodable(path) for path in series.files]
        if len(datasets) == 1 and "NumberOfFrames" in datasets[0]:
            return highdicom.Image.from_dataset(datasets[0]).get_volume(**options)
        return highdicom.get_volume_from_series(datasets, **options)

    volume = readers.guarded(series.where, read)
    slices, rows, columns = np.asarray(volume.affine)[:3, :3].T
    # Towards where rows and columns turn, whatever highdicom takes for the first slice.
    return volume if np.cross(columns, rows) @ slices > 0 else volume.flip_spatial(0)


def read_picture(path: Path) -> np.ndarray:
    """An instance that is a picture, [H, W] or [H, W, 3], in the units of the scanner."""
    highdicom = _library("highdicom")
    options: dict[str, Any] = {"apply_real_world_transform": False, "dtype": np.float64}
    options |= {"apply_presentation_lut": False, "apply_icc_profile": False}
    return readers.guarded(
        str(path), lambda: highdicom.Image.from_dataset(_decodable(path)).get_frame(1, **options)
    )


def read_segments(path: Path, like: Any) -> dict[str, np.ndarray]:
    """Label of a segment -> its voxels, bool [z, y, x], on the grid of a volume or geometry.

    Raises:
      DataError: it cannot be read, or has voxels of another grid.
    """
    highdicom = _library("highdicom")

    def read() -> dict[str, np.ndarray]:
        segmentation = highdicom.seg.segread(path)
        volume = segmentation.get_volume(combine_segments=False)
        try:
            array = volume.match_geometry(like).array
        except RuntimeError as error:
            raise DataError(
                f"{path}: its voxels are not those of the images ({error}); resample the "
                "segmentation onto them"
            ) from None
        numbers = [segmentation.get_segment_description(n) for n in segmentation.segment_numbers]
        return {
            str(one.segment_label): array[..., place] > 0.5 for place, one in enumerate(numbers)
        }

    return readers.guarded(str(path), read)


def segment_labels(paths: Iterable[Path]) -> tuple[str, ...]:
    """Labels of the segments in files, each once, in the order of files and numbers."""
    pydicom = _library("pydicom")

    def labels_in(path: Path) -> list[str]:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        return [str(segment.SegmentLabel) for segment in header.get("SegmentSequence", ())]

    found = [readers.guarded(str(path), functools.partial(labels_in, path)) for path in paths]
    return tuple(dict.fromkeys(itertools.chain.from_iterable(found)))


def affine_of(geometry: Any) -> np.ndarray:
    """From the indices of an array to millimetres right, front and up: float64 [4, 4]."""
    return _TO_RAS @ np.asarray(geometry.affine, float)


def _series(
    uid: str, pairs: list[tuple[Path, Any]], segmentations: list[tuple[Path, Any]]
) -> Series:
    first = pairs[0][1]
    patient = str(first.get("PatientID") or "")
    name = f"{patient or 'patient'}_{first.get('SeriesNumber') or 0}"
    frame = first.get("FrameOfReferenceUID")
    about = [
        path
        for path, header in segmentations
        if uid in (of := _referenced(header))
        or (not of and frame and header.get("FrameOfReferenceUID") == frame)
    ]
    return Series(
        name=re.sub(r"[^\w.-]+", "_", name),
        patient=patient,
        files=tuple(path for path, _ in pairs),
        headers=tuple(header for _, header in pairs),
        segmentations=tuple(about),
    )


def _referenced(header: Any) -> list[str]:
    """The series that a segmentation says it is about."""
    return [str(one.SeriesInstanceUID) for one in header.get("ReferencedSeriesSequence", ())]


def _frames(series: Series) -> Any:
    """The geometry of a file of many frames."""
    image = _library("highdicom").Image
    return readers.guarded(
        series.where, lambda: image.from_dataset(_decodable(series.files[0])).get_volume_geometry()
    )


def _window_of(header: Any) -> Window | None:
    """What is shown as black and white, by DICOM's linear function."""
    centre, width = header.get("WindowCenter"), header.get("WindowWidth")
    try:
        centre, width = (float(x[0] if hasattr(x, "__iter__") else x) for x in (centre, width))
    except (TypeError, ValueError, IndexError):
        return None
    half = (width - 1) / 2
    return (centre - 0.5 - half, centre - 0.5 + half) if half > 0 else None


def _decodable(path: Path) -> Any:
    """A file with its pixels; `DataError` where nothing that is installed decompresses them."""
    pydicom = _library("pydicom")
    dataset = pydicom.dcmread(path)
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated and not pydicom.pixels.get_decoder(syntax).is_available:
        raise DataError(
            f"{path}: compressed as {syntax.name}; install what reads it: pip install pylibjpeg "
            "pylibjpeg-libjpeg pylibjpeg-openjpeg"
        )
    return dataset


def _library(name: str) -> Any:
    try:
        import highdicom
        import pydicom
        import pydicom.pixels
    except ImportError:
        raise MissingExtraError("reading DICOM", "dicom") from None
    return {"highdicom": highdicom, "pydicom": pydicom}[name]
