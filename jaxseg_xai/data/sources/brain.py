"""A real image with reference labels that needs no download: the MNI152 T1 template from nilearn.

Source: ICBM 152 non-linear symmetric template, version 2009a, 1 mm, skull-stripped, with its grey
and white matter probability maps; V. Fonov et al., "Unbiased average age-appropriate atlases for
pediatric studies", NeuroImage 54 (2011). nilearn ships the files inside its package
(`mni_icbm152_*_tal_nlin_sym_09a_converted.nii.gz`).

Licence: the notice that copies of the ICBM 152 templates are distributed with is "Copyright (C)
1993-2004 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute, McGill
University", with permission to use, copy, modify and distribute for any purpose and without fee as
long as the notice appears in all copies. nilearn, which is BSD-3, calls the licence unknown (and
the template asymmetrical, but the file names say, and the voxels show, symmetric). No copy of the
template is kept here.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from jaxseg_xai.core.errors import ConfigError, MissingExtraError
from jaxseg_xai.core.types import Sample
from jaxseg_xai.data.checks import check_index, check_split

#: Slabs along z as fractions of the usable slices, bottom to top.
_SLABS = (
    ("train", 0.0, 0.40),
    ("test", 0.40, 0.55),
    ("train", 0.55, 0.80),
    ("validation", 0.80, 0.90),
    ("train", 0.90, 1.0),
)
_GAP_MM = 4
_MIN_BRAIN = 0.03


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Slices:
    """All usable slices: images float32 [N, H, W], labels int32 [N, H, W], levels int [N] (z)."""

    images: np.ndarray
    labels: np.ndarray
    levels: np.ndarray


class BrainDataset:
    """Axial slices of the MNI152 T1 template, labelled by tissue.

    Every slice has the same size: the brain's bounding box, padded to multiples of 16 (192 x 160 at
    1 mm). Anterior is up and the patient's right is on the left, as radiologists look at it. The
    image is float32 [H, W, 1], T1 divided by the maximum of the volume. Labels: 0 background, 1
    cerebrospinal fluid (whatever inside the brain mask is neither of the others), 2 grey matter, 3
    white matter; the likeliest of the three inside the mask (T1 above a fifth of its maximum).
    Slices in which less than 3 % of the pixels are brain are left out.

    What held-out means here: very little. It is ONE brain, an average of 152 people and exactly
    symmetric. The splits are slabs of neighbouring slices with a gap of about 4 mm on either side,
    so a test slice is never next to a training slice; but it is anatomy of the same average head,
    with the same smoothness and contrast, and its labels come from the same averaging. Scores on
    "test" show that a model has learned this template, not that it would segment a patient.

    Attributes:
      class_names: ("background", "csf", "grey matter", "white matter").
      ids: "brain-1mm-test-z072", z the slice of the template, bottom to top.
    """

    layout: ClassVar[str] = "none: nilearn, of the extra demo, ships the template"
    licence: ClassVar[str] = (
        "free for any purpose with the notice of McConnell Brain Imaging Centre"
    )
    homepage: ClassVar[str] = "https://www.bic.mni.mcgill.ca/ServicesAtlases/ICBM152NLin2009"
    class_names: tuple[str, ...] = ("background", "csf", "grey matter", "white matter")

    def __init__(self, split: str = "test", resolution_mm: int = 1) -> None:
        """Load (and keep, for the life of the process) the template at a resolution.

        Args:
          split: "train", "validation" or "test".
          resolution_mm: 1 as shipped; 2 to 4 are resampled by nilearn (a few seconds).

        Raises:
          ConfigError: another split or resolution.
          MissingExtraError: nilearn is absent.
        """
        check_split(split)
        if resolution_mm not in (1, 2, 3, 4):
            raise ConfigError(f"resolution_mm={resolution_mm!r}: choose 1, 2, 3 or 4")
        self._resolution = resolution_mm
        self._slices = _load_slices(resolution_mm)
        self._chosen = _split_positions(len(self._slices.levels), split, resolution_mm)
        self.ids: Sequence[str] = tuple(
            f"brain-{resolution_mm}mm-{split}-z{self._slices.levels[position]:03d}"
            for position in self._chosen
        )

    def __len__(self) -> int:
        """Number of slices."""
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Slice `index`: image float32 [H, W, 1] in [0, 1], labels int32 [H, W].

        Slices stand for images of several people, though they are of one head: as a group, none
        would give patches for another.
        """
        position = self._chosen[check_index(index, len(self))]
        return Sample(
            id=self.ids[index],
            image=self._slices.images[position][..., None].copy(),
            labels=self._slices.labels[position].copy(),
            spacing=(float(self._resolution),) * 2,
        )


def _split_positions(num_slices: int, split: str, resolution_mm: int) -> list[int]:
    """Positions 0..num_slices-1 of a split; half the gap is cut off at each inner slab border."""
    half_gap = max(1, round(_GAP_MM / resolution_mm / 2))
    chosen: list[int] = []
    for name, start, stop in _SLABS:
        first = round(start * num_slices) + (half_gap if start > 0 else 0)
        last = round(stop * num_slices) - (half_gap if stop < 1 else 0)
        if name == split:
            chosen += range(first, last)
    return chosen


@dataclasses.dataclass(frozen=True, kw_only=True)
class Template:
    """The template on its own grid [X, Y, Z]: x to the right, y to the front, z up.

    Attributes:
      image: float32, T1 intensities in [0, 1]; 0 outside of the brain.
      labels: int32, the classes of the data set.
      affine: float64 [4, 4] from indices to MNI152 millimetres.
    """

    image: np.ndarray
    labels: np.ndarray
    affine: np.ndarray


def load_template(resolution_mm: int) -> Template:
    """The template as nilearn's package carries it; nothing is downloaded.

    Raises:
      MissingExtraError: nilearn is absent.
    """
    try:
        from nilearn import datasets
    except ImportError:
        raise MissingExtraError("the brain data set", "demo") from None
    # These four read files of the package; the fetch_* functions of nilearn would download.
    whole = datasets.load_mni152_template(resolution=resolution_mm)
    template = whole.get_fdata()
    grey = datasets.load_mni152_gm_template(resolution=resolution_mm).get_fdata()
    white = datasets.load_mni152_wm_template(resolution=resolution_mm).get_fdata()
    brain = datasets.load_mni152_brain_mask(resolution=resolution_mm).get_fdata() > 0
    other = np.clip(1 - grey - white, 0, 1)
    labels = np.where(brain, 1 + np.argmax(np.stack([other, grey, white]), axis=0), 0)
    return Template(
        image=np.clip(template / template.max(), 0, 1).astype(np.float32),
        labels=labels.astype(np.int32),
        affine=np.asarray(whole.affine, np.float64),
    )


@functools.lru_cache(maxsize=2)
def _load_slices(resolution_mm: int) -> _Slices:
    template = load_template(resolution_mm)
    brain = template.labels > 0
    box = tuple(padded_range(np.asarray(brain.any(axis=axes))) for axes in ((1, 2), (0, 2)))
    images, labels, brain = (axial(a, box) for a in (template.image, template.labels, brain))
    levels = np.flatnonzero(brain.mean(axis=(1, 2)) >= _MIN_BRAIN)
    return _Slices(images=images[levels], labels=labels[levels], levels=levels)


def padded_range(occupied: np.ndarray) -> tuple[int, int]:
    """(start, stop) around the True entries of [L], a multiple of 16 long; may exceed [0, L)."""
    where = np.flatnonzero(occupied)
    length = -(-(where[-1] + 1 - where[0]) // 16) * 16
    start = (where[0] + where[-1] + 1 - length) // 2
    return int(start), int(start + length)


def axial(volume: np.ndarray, box: tuple[tuple[int, int], ...]) -> np.ndarray:
    """Cut [X, Y, Z] (x to the right, y to the front, z up) to axial slices [Z, H, W].

    Rows run from front to back and columns from the patient's right to the left.
    """
    (x0, x1), (y0, y1) = box
    pad = max(0, -x0, x1 - volume.shape[0], -y0, y1 - volume.shape[1])
    padded = np.pad(volume, ((pad, pad), (pad, pad), (0, 0)))
    return padded[x0 + pad : x1 + pad, y0 + pad : y1 + pad][::-1, ::-1].transpose(2, 1, 0)
