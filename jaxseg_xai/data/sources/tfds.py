"""Any TFDS data source as a `Source`; neither tensorflow nor the network is touched."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

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
from jaxseg_xai.data.label_values import LabelValues

_INFO = "dataset_info.json"
#: Names under which label maps are found where several features could be one.
_LABELS = ("label", "segmentation_mask", "segmentation_label", "mask")


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
        label_values: LabelValues | None = None,
    ) -> None:
        """Wrap a source.

        Args:
          source: from `builder.as_data_source(split)`.
          image: name of the image feature, [H, W, C].
          labels: name of the label-map feature, [H, W] or [H, W, 1]; None for no ground truth.
          class_names: the classes, in the order of the label values; empty: range not checked.
          name: prefix of the ids.
          id_feature: text feature that holds the ids. Every record is then read once at opening.
          label_values: what the values of the label maps mean; None: classes.
        """
        self._values = label_values or LabelValues()
        self._source, self._image, self._labels = source, image, labels
        self.class_names: tuple[str, ...] = tuple(class_names)
        positions = range(len(source))
        self.ids: Sequence[str] = tuple(f"{name}-{position:05d}" for position in positions)
        if id_feature is not None:
            self.ids = tuple(
                _text(self._feature(source[position], id_feature, self.ids[position]))
                for position in positions
            )

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
            if self._values.of_pictures:
                raw = self._values.numbers(raw, name)
            return check_labels(raw, name, image.shape[:2], self.class_names, self._values)

        return Sample(id=name, image=image, **labels_or_error(labels))

    @staticmethod
    def _feature(record: Mapping[str, Any], feature: str, name: str) -> Any:
        if feature not in record:
            raise DataError(f"{name}: no feature {feature!r}; there are {', '.join(record)}")
        return record[feature]


class PreparedDataset(TFDSDataset):
    """A data set that TFDS has prepared, read from its folder.

    It must be prepared as array_record, which is read without tensorflow:
    `tfds.data_source(NAME)`, or `tfds.builder(NAME, file_format="array_record")` and
    `download_and_prepare()`. The splits are the data set's own.

    Attributes:
      class_names: those of the label feature; where it has none, as given.
      ids: "<name>-<split>-00012" by position, or the text of `id_feature`.
    """

    layout: ClassVar[str] = "ROOT/NAME[/CONFIG]/VERSION with dataset_info.json (tfds:NAME[/CONFIG])"
    licence: ClassVar[str] = "each data set's own: see its page"
    homepage: ClassVar[str] = "https://www.tensorflow.org/datasets/catalog/overview"

    def __init__(
        self,
        name: str = "",
        *,
        split: str = "test",
        root: str | os.PathLike[str] | None = None,
        image_feature: str = "",
        label_feature: str = "",
        id_feature: str | None = None,
        class_names: Sequence[str] = (),
        read_labels: bool = True,
        label_values: LabelValues | None = None,
    ) -> None:
        """Open a split.

        Args:
          name: NAME, NAME/CONFIG or NAME/CONFIG/VERSION; the newest version by itself. "": `root`
            is the folder of a version.
          split: name of a split.
          root: the folder of all data sets; None: $TFDS_DATA_DIR, or ~/tensorflow_datasets.
          image_feature: which feature is the image; "": that called "image", or the only one.
          label_feature: which is the label map; "": the image of one channel, where there is one.
          id_feature: text feature that holds the ids.
          class_names: the classes, where the label feature does not name them.
          read_labels: False: items come without label maps.
          label_values: what the values of the label maps mean; None: classes.

        Raises:
          MissingExtraError: TFDS is absent.
          DataError: no prepared data set in the folder, or not one that can be read.
          ConfigError: no such split, or it must be said which feature is which.
        """
        try:
            import tensorflow_datasets as tfds
        except ImportError:
            raise MissingExtraError("reading a TFDS data set", "tfds") from None
        # builder_from_directory reads local files only; tfds.load could ask the network.
        builder: Any = tfds.builder_from_directory(_version_of(name, root))
        info = builder.info
        if split not in info.splits:
            raise ConfigError(f"split={split!r}: choose one of {', '.join(info.splits)}")
        if info.file_format.value != "array_record":
            raise DataError(
                f"{info.data_dir}: written as {info.file_format.value}, which needs tensorflow; "
                f"prepare it again: tfds.data_source({info.name!r})"
            )
        pictures: dict[str, Any] = {
            feature: found
            for feature, found in info.features.items()
            if isinstance(found, tfds.features.Image)
        }
        image = image_feature or _choice("image", ["image"], list(pictures))
        maps = [f for f, found in pictures.items() if f != image and found.shape[-1] == 1]
        named = [f for f in maps if isinstance(pictures[f], tfds.features.LabeledImage)]
        labels = label_feature or (_choice("label", _LABELS, named or maps) if maps else None)
        super().__init__(
            builder.as_data_source(split),
            image=image,
            labels=labels if read_labels else None,
            class_names=getattr(pictures.get(labels or ""), "names", None) or class_names,
            name=f"{info.name}-{split}",
            id_feature=id_feature,
            label_values=label_values,
        )

    @staticmethod
    def recognises(folder: Path) -> bool:
        """Whether a folder is that of a version."""
        return (folder / _INFO).is_file() and (folder / "features.json").is_file()


def _version_of(name: str, root: str | os.PathLike[str] | None) -> Path:
    """The folder of the newest version of a data set."""
    usual = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    folder = Path(usual if root is None else root).expanduser() / name.replace(":", "/")
    found = [path.parent for depth in ("", "*/", "*/*/") for path in folder.glob(depth + _INFO)]
    if not found:
        raise DataError(
            f"{folder}: no prepared TFDS data set (no {_INFO}); run download_and_prepare, or say "
            "where it is (root)"
        )
    configs = sorted({path.parent.name for path in found})
    if len(configs) > 1:
        raise ConfigError(
            f"{folder}: it has the configurations {', '.join(configs)}; name one, "
            f"tfds:{'/'.join(filter(None, (name, configs[0])))}"
        )
    return max(found, key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)])


def _choice(what: str, usual: Sequence[str], names: Sequence[str]) -> str:
    """The feature that is the image, or the label map."""
    for name in (*usual, *names[: len(names) == 1]):
        if name in names:
            return name
    raise ConfigError(
        f"{what}_feature: say which feature is the {what}, of {', '.join(names) or 'none'}"
    )


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
