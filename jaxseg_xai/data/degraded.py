"""Images made worse by a known amount, so that a model's Dice varies: noise, blur, low contrast.

The levels are those of ImageNet-C (Hendrycks and Dietterich, arXiv 1903.12261), in units of the
image's own range and size rather than of 8 bits and 224 pixels.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from scipy import ndimage

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.inputs import pixels_of
from jaxseg_xai.core.types import Sample, Source
from jaxseg_xai.data.stamps import files_of
from jaxseg_xai.ops.random import image_id

Kind = Literal["noise", "blur", "contrast"]
Degradation = Kind | Literal["mixed"]
SEVERITIES = (1, 2, 3, 4, 5)

#: By severity. Noise: standard deviation as a share of the image's range. Blur: that of the
#: Gaussian in pixels of an image whose shorter side is 224. Contrast: what is left of it.
_NOISE = (0.08, 0.12, 0.18, 0.26, 0.38)
_BLUR = (1.0, 2.0, 3.0, 4.0, 6.0)
_CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)
_BLUR_SIDE = 224
_KINDS: tuple[Kind, ...] = get_args(Kind)


class DegradedDataset:
    """Another data set with its images degraded; names and label maps stay.

    What is done to an image depends on its name, the degradation and the severity alone. With
    "mixed" every image has a kind and a severity of its own: one of the three kinds, and a severity
    drawn evenly from 0 (left as it is) to `severity`.

    Attributes:
      class_names: of the data set underneath.
      ids: of the data set underneath.
    """

    def __init__(self, dataset: Source, degradation: Degradation, severity: int) -> None:
        """Wrap a data set.

        Args:
          dataset: images float32 [*S, C], of any range.
          degradation: "noise", "blur", "contrast" or "mixed".
          severity: 1 to 5.

        Raises:
          ConfigError: another degradation or severity.
        """
        if degradation not in (*_KINDS, "mixed") or severity not in SEVERITIES:
            raise ConfigError(
                f"degradation {degradation!r} of severity {severity}: choose one of "
                f"{', '.join(_KINDS)}, mixed and a severity from 1 to {max(SEVERITIES)}"
            )
        self._dataset, self._severity = dataset, severity
        self._degradation: Degradation = degradation
        self.class_names: tuple[str, ...] = dataset.class_names
        self.ids: Sequence[str] = dataset.ids

    def __len__(self) -> int:
        """Number of items."""
        return len(self._dataset)

    def files(self, index: int) -> Sequence[Path]:
        """The files that item `index` is read from."""
        return files_of(self._dataset, index)

    def __getitem__(self, index: int) -> Sample:
        """Item `index` with its image degraded; as the data set underneath otherwise."""
        sample = self._dataset[index]
        # The severity is no part of it: the same noise grows from level to level.
        rng = np.random.default_rng(image_id(sample.id))
        if self._degradation == "mixed":
            kind = _KINDS[int(rng.integers(len(_KINDS)))]
            severity = int(rng.integers(self._severity + 1))
        else:
            kind, severity = self._degradation, self._severity
        image = degrade(pixels_of(sample), kind, severity, rng)
        return dataclasses.replace(sample, image=image)


def degrade(
    image: np.ndarray,
    kind: Kind,
    severity: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """An image made worse, within the range of values that it had.

    Args:
      image: float32 [*S, C], finite.
      kind: "noise" (Gaussian), "blur" (Gaussian) or "contrast" (towards the mean).
      severity: 1 to 5; 0 gives the image back.
      rng: for the noise.

    Returns:
      float32 [*S, C].
    """
    if severity == 0:
        return image
    low, high = float(image.min()), float(image.max())
    level = severity - 1
    if kind == "noise":
        worse = image + rng.normal(0, _NOISE[level] * (high - low), image.shape)
    elif kind == "blur":
        *size, _ = image.shape
        width = _BLUR[level] * min(size) / _BLUR_SIDE
        worse = ndimage.gaussian_filter(image, (*(width,) * len(size), 0))
    else:
        mean = image.mean(axis=tuple(range(image.ndim - 1)))
        worse = mean + _CONTRAST[level] * (image - mean)
    return np.clip(worse, low, high).astype(np.float32)
