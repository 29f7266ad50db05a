"""Any TFDS data source as a `Source`; neither tensorflow nor the network is touched."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np

from jaxseg_xai.core.errors import ConfigError, DataError, MissingExtraError
from jaxseg_xai.core.types import Sample
from jaxseg_xai.data.checks import (
    check_image,
    check_index,
    check_labels,
    labels_or_error,
    scale_integers,
)


class Source(Protocol):
    """What `builder.as_data_source(split)` returns: random access to dicts of numpy arrays."""

    def __len__(self) -> int:
        """Number of records."""
        ...

    def __getitem__(self, index: Any) -> Any:
        """Record `index`, a mapping from feature name to array."""
        ...


class TFDSDataset:
    """Picks image and label map out of each record of a data source.

    Images are scaled by their dtype (u8 / 255, u16 / 65535); float images stay as they are.

    Attributes:
      class_names: as given.
      ids: "<name>-00012" by position, or the text of `id_feature`.
    """

    def __init__(
        self,
        source: Source,
        *,
        image: str = "image",
        labels: str | None = "label",
        class_names: Sequence[str] = (),
        name: str = "tfds",
        id_feature: str | None = None,
    ) -> None:
        """Wrap a source.

        Args:
          source: from `builder.as_data_source(split)`.
          image: name of the image feature, [H, W, C].
          labels: name of the label-map feature, [H, W] or [H, W, 1]; None for no ground truth.
          class_names: the classes, in the order of the label values; empty: range not checked.
          name: prefix of the ids.
          id_feature: text feature that holds the ids. Every record is then read once at opening.
        """
        self._source, self._image, self._labels = source, image, labels
        self.class_names: tuple[str, ...] = tuple(class_names)
        positions = range(len(source))
        self.ids: Sequence[str] = tuple(f"{name}-{position:05d}" for position in positions)
        if id_feature is not None:
            self.ids = tuple(
                _text(self._feature(source[position], id_feature, self.ids[position]))
                for position in positions
            )

    @classmethod
    def from_directory(cls, folder: str | os.PathLike[str], split: str, **options: Any) -> Self:
        """Open a prepared data set, e.g. ".../triangle_cue/64/1.0.0".

        Args:
          folder: the version folder that `download_and_prepare` wrote, in array_record format.
          split: name of a split.
          **options: as for the constructor.

        Raises:
          MissingExtraError: TFDS is absent.
          DataError: no prepared data set in the folder.
          ConfigError: no such split.
        """
        try:
            import tensorflow_datasets as tfds
        except ImportError:
            raise MissingExtraError("reading a TFDS data set", "tfds") from None
        if not os.path.isfile(os.path.join(folder, "dataset_info.json")):
            raise DataError(
                f"{os.fspath(folder)}: no prepared TFDS data set (no dataset_info.json); run"
                " download_and_prepare and give the folder named by the version"
            )
        # builder_from_directory reads local files only; tfds.load could ask the network.
        builder: Any = tfds.builder_from_directory(folder)
        splits = builder.info.splits
        if split not in splits:
            raise ConfigError(f"split={split!r}: choose one of {', '.join(splits)}")
        return cls(builder.as_data_source(split), **options)

    def __len__(self) -> int:
        """Number of items."""
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Item `index`: image float32 [H, W, C], labels int32 [H, W] or None."""
        index = check_index(index, len(self))
        name = self.ids[index]
        record = self._source[index]
        raw = np.asarray(self._feature(record, self._image, name))
        image = check_image(scale_integers(raw, name), name)

        def labels() -> np.ndarray | None:
            if self._labels is None:
                return None
            raw = np.asarray(self._feature(record, self._labels, name))
            return check_labels(raw, name, image.shape[:2], self.class_names)

        return Sample(id=name, image=image, **labels_or_error(labels))

    @staticmethod
    def _feature(record: Mapping[str, Any], feature: str, name: str) -> Any:
        if feature not in record:
            raise DataError(f"{name}: no feature {feature!r}; there are {', '.join(record)}")
        return record[feature]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
