"""Tiny DICOM series and segmentations, as a scanner and a workstation write them."""

import highdicom
import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
)

ROOT = "1.2.826.0.1.3680043.8.498."
#: Rows, columns, slices; rows run to the back, columns to the left, slices to the head.
SIZE = (6, 5, 4)
SLOPE, INTERCEPT = 2.0, -1000.0


def stored(number, size=SIZE):
    """Stored values of a series, uint16 [rows, columns, slices]."""
    return np.random.default_rng(number).integers(0, 1000, size, dtype=np.uint16)


def series(folder, number, *, patient="P17", shuffled=True, places=None, **changes):
    """Write a CT series; the files are not in the order of the slices."""
    folder.mkdir(parents=True, exist_ok=True)
    values = stored(number)
    order = np.random.default_rng(number).permutation(SIZE[2]) if shuffled else range(SIZE[2])
    for name, k in enumerate(order):
        place = 3.0 * k if places is None else places[k]
        image = instance(CTImageStorage, values[..., k], number, patient)
        image.Modality = "CT"
        image.InstanceNumber = name + 1
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = (
            f"{ROOT}{number}.{k + 1}"
        )
        image.ImagePositionPatient = [-7.0, 3.0, place - 5.0]
        image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        image.PixelSpacing, image.SliceThickness = [1.5, 2.0], 3.0  # of rows, then columns
        image.FrameOfReferenceUID = f"{ROOT}9.{number}"
        image.RescaleSlope, image.RescaleIntercept = SLOPE, INTERCEPT
        for key, value in changes.items():
            setattr(image, key, value)
        image.save_as(folder / f"IM{name:04d}", enforce_file_format=True)
    return folder


def picture(path, number, **changes):
    """Write an X-ray."""
    image = instance(DigitalXRayImageStorageForPresentation, stored(number)[..., 0], number, "P17")
    image.Modality = "DX"
    for key, value in changes.items():
        setattr(image, key, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save_as(path, enforce_file_format=True)


def instance(kind, values, number, patient):
    """One image without a place."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = kind, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = f"{ROOT}{number}.99"
    image = pydicom.Dataset()
    image.file_meta = meta
    image.SOPClassUID, image.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
    image.StudyInstanceUID, image.SeriesInstanceUID = f"{ROOT}1", f"{ROOT}2.{number}"
    image.PatientID, image.PatientName, image.SeriesNumber = patient, "Doe^J", number
    image.PatientBirthDate, image.PatientSex, image.AccessionNumber = "", "", ""
    image.StudyDate, image.StudyTime, image.StudyID = "20200101", "120000", "1"
    image.ReferringPhysicianName = ""
    image.Rows, image.Columns = values.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
    image.PixelRepresentation = 0
    image.PixelData = np.ascontiguousarray(values).tobytes()
    return image


def segmentation(path, folder, planes, labels=("Liver", "Spleen")):
    """Write a DICOM-SEG of a series: planes bool [rows, columns, slices, segments]."""
    images = [pydicom.dcmread(file) for file in sorted(folder.iterdir()) if file.name[:2] == "IM"]
    images.sort(key=lambda image: image.ImagePositionPatient[2])
    code = highdicom.sr.CodedConcept("85756007", "SCT", "Tissue")
    algorithm = highdicom.seg.SegmentAlgorithmTypeValues.MANUAL
    described = [
        highdicom.seg.SegmentDescription(n, label, code, code, algorithm)
        for n, label in enumerate(labels, start=1)
    ]
    found = highdicom.seg.Segmentation(
        images,
        np.moveaxis(planes, 2, 0).astype(np.uint8),
        highdicom.seg.SegmentationTypeValues.BINARY,
        described,
        series_instance_uid=f"{ROOT}3.{images[0].SeriesNumber}",
        series_number=100,
        sop_instance_uid=f"{ROOT}4.{images[0].SeriesNumber}",
        instance_number=1,
        manufacturer="none",
        manufacturer_model_name="none",
        software_versions="1",
        device_serial_number="1",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    found.save_as(path)
    return path


def planes_of(number):
    """Two segments that do not overlap, bool [rows, columns, slices, 2]."""
    labels = np.random.default_rng(50 + number).integers(0, 3, SIZE)
    labels[..., 0] = 0  # a slice without any, which a SEG leaves out
    return np.stack([labels == 1, labels == 2], axis=-1)


def dicom(root):
    """Three series of two patients, the first with a segmentation in another folder."""
    for number, patient in ((3, "P17"), (4, "P17"), (5, "P18")):
        series(root / "data" / patient / f"S{number}", number, patient=patient)
    segmentation(root / "data" / "P17" / "seg" / "SEG.dcm", root / "data/P17/S3", planes_of(3))
    return root / "data"
