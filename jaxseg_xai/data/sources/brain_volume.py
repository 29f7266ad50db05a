"""The MNI152 template as volumes: parts of one head, from its front to its back.

Source and licence are those of the slices, see `jaxseg_xai.data.sources.brain`. No part is a
mirrored copy of another: the template is symmetrical, so that it is cut along the other axis.
"""

import functools
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.types import Sample
from jaxseg_xai.data.checks import check_index, check_split
from jaxseg_xai.data.sources.brain import BrainDataset, Template, load_template, padded_range

#: Millimetres behind the front of the brain: the frontal lobes, the middle, the back. Between two
#: parts are 4.
_PARTS = {"test": (0, 64), "train": (68, 148), "validation": (152, 184)}
_SMALLEST, _AROUND = 16, 32


class BrainVolumeDataset:
    """Volumes of 1 mm as a `Source`: one for test, one for validation, cubes for training.

    Axes run up, from front to back, and from the patient's right to the left.

    Attributes:
      class_names: ("background", "csf", "grey matter", "white matter").
      ids: "brain-volume-test"; "brain-volume-train-00012" is cube 12.
    """

    layout: ClassVar[str] = BrainDataset.layout
    licence: ClassVar[str] = BrainDataset.licence
    homepage: ClassVar[str] = BrainDataset.homepage
    class_names: tuple[str, ...] = BrainDataset.class_names

    def __init__(self, split: str = "test", cube: int = 32, num_cubes: int = 64) -> None:
        """Load the template, and keep its parts for the life of the process.

        Args:
          split: "test" (the frontal lobes), "validation" (the back of the head), or "train":
            cubes at random places of what lies between.
          cube: side of a training cube in voxels, 16 to 80.
          num_cubes: how many of them there are.

        Raises:
          ConfigError: another split or size.
          MissingExtraError: nilearn is absent.
        """
        check_split(split)
        if not _SMALLEST <= cube <= 80:
            raise ConfigError(f"cube={cube!r}: choose a side of {_SMALLEST} to 80 voxels")
        if num_cubes < 1:
            raise ConfigError(f"num_cubes={num_cubes!r}: choose at least 1")
        self._whole = _load_parts()[split]
        self._cube = cube if split == "train" else None
        count = num_cubes if self._cube else 0
        self.ids: Sequence[str] = tuple(f"{self._whole.id}-{index:05d}" for index in range(count))
        self.ids = self.ids or (self._whole.id,)

    def __len__(self) -> int:
        """Number of volumes."""
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Volume `index`: image float32 [D, H, W, 1] in [0, 1], labels int32 [D, H, W]."""
        name = self.ids[check_index(index, len(self))]
        whole, labels = self._whole, self._whole.labels
        assert labels is not None
        assert whole.affine is not None
        place, corner = (slice(None),) * 3, np.zeros(3, int)
        if self._cube is not None:
            # Around a voxel of the brain: elsewhere is nothing to learn.
            rng = np.random.default_rng([self._cube, index])
            centre = np.unravel_index(rng.choice(np.flatnonzero(labels)), labels.shape)
            most = np.array(labels.shape) - self._cube
            corner = np.clip(np.array(centre) - self._cube // 2, 0, most)
            place = tuple(slice(int(c), int(c) + self._cube) for c in corner)
        affine = whole.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ corner
        return Sample(
            id=name,
            image=whole.image[place].copy(),
            labels=labels[place].copy(),
            spacing=whole.spacing,
            affine=affine,
        )


@functools.cache
def _load_parts() -> dict[str, Sample]:
    template = load_template(1)
    return {split: _part(template, split) for split in _PARTS}


def _part(template: Template, split: str) -> Sample:
    """What lies between two distances from the front of the brain, as large as holds it."""
    first, end = _PARTS[split]
    brain = template.labels > 0
    front = int(np.flatnonzero(brain.any(axis=(0, 2)))[-1]) + 1
    y0, y1 = front - end, front - first
    inside = brain[:, max(0, y0) : y1]
    (x0, x1), (z0, z1) = (
        padded_range(np.asarray(inside.any(axis=axes))) for axes in ((1, 2), (0, 1))
    )
    box = tuple(slice(a + _AROUND, b + _AROUND) for a, b in ((x0, x1), (y0, y1), (z0, z1)))

    def cut(volume: np.ndarray) -> np.ndarray:
        part = np.pad(volume, _AROUND)[box][::-1, ::-1].transpose(2, 1, 0)
        return np.ascontiguousarray(part)

    # Indices (up, back, left) to those of the template (right, front, up).
    to_template = np.array([[0, 0, -1, x1 - 1], [0, -1, 0, y1 - 1], [1, 0, 0, z0], [0, 0, 0, 1]])
    return Sample(
        id=f"brain-volume-{split}",
        image=cut(template.image)[..., None],
        labels=cut(template.labels),
        spacing=(1.0, 1.0, 1.0),
        affine=template.affine @ to_template,
    )
