"""Triangle and Triangle-Cue as TFDS data sets that are built and read without tensorflow.

    builder = TriangleCue(config="64", data_dir=folder)
    builder.download_and_prepare()                      # writes array_record; downloads nothing
    dataset = open_dataset("tfds:triangle_cue/64", root=folder, id_feature="id")

TFDS's default file format and `as_dataset` need tensorflow, and so does encoding an array as an
image. Hence three choices: records in array_record, images handed over as PNG bytes, and a
`DatasetInfo` that says everything. Importing this module needs the extra `tfds`.
"""

import dataclasses
import io
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from jaxseg_xai.core.errors import MissingExtraError
from jaxseg_xai.data.checks import SPLITS
from jaxseg_xai.data.sources.triangle import TriangleCueDataset, TriangleDataset, causal_mask

try:
    import tensorflow_datasets as tfds
except ImportError:
    raise MissingExtraError("the TFDS builders", "tfds") from None


@dataclasses.dataclass(kw_only=True)
class TriangleConfig(tfds.core.BuilderConfig):
    """Size of the images and of the splits.

    Attributes:
      size: side of the images in pixels.
      num_items: number of items of the splits train, validation and test.
    """

    size: int = 64
    num_items: tuple[int, int, int] = (2000, 200, 200)


def _configs() -> list[TriangleConfig]:
    return [
        TriangleConfig(name=str(size), description=f"{size} x {size} pixels", size=size)
        for size in (64, 128)
    ]


class Triangle(tfds.core.GeneratorBasedBuilder):
    """Find the triangle among rectangles and discs (see `sources.triangle`).

    Features: "id" text, "image" uint8 [S, S, 3], "label" uint8 [S, S, 1] (class indices), and
    "causal" uint8 [S, S, 1], 1 at the pixels that decide the label.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar[list[Any]] = _configs()

    scenes: ClassVar[type[TriangleDataset]] = TriangleDataset

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes in the label map."""
        return self._items("test", 1).class_names

    # TFDS wraps its method in an object of its own, which no method can override for pyright.
    def download_and_prepare(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, *, file_format: Any = "array_record", **options: Any
    ) -> None:
        """Write the records; as TFDS's own, but in array_record, which needs no tensorflow."""
        super().download_and_prepare(file_format=file_format, **options)

    @property
    def _config(self) -> TriangleConfig:
        assert isinstance(self.builder_config, TriangleConfig)
        return self.builder_config

    def _info(self) -> Any:
        size = self._config.size
        return tfds.core.DatasetInfo(
            builder=self,
            description=type(self).__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "image": tfds.features.Image(shape=(size, size, 3), encoding_format="png"),
                    "label": tfds.features.LabeledImage(
                        labels=list(self.class_names), shape=(size, size, 1), encoding_format="png"
                    ),
                    "causal": tfds.features.Image(shape=(size, size, 1), encoding_format="png"),
                }
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager
        sizes = zip(SPLITS, self._config.num_items, strict=True)
        return {split: self._generate_examples(split, num) for split, num in sizes}

    def _generate_examples(self, split: str, num: int) -> Iterator[tuple[int, dict[str, Any]]]:
        items = self._items(split, num)
        for index, name in enumerate(items.ids):
            image, labels, info = items.make(index)
            yield (
                index,
                {
                    "id": name,
                    "image": _png(image),
                    "label": _png(labels),
                    "causal": _png(causal_mask(labels, info).astype(np.uint8)),
                },
            )

    def _items(self, split: str, num: int) -> TriangleDataset:
        return self.scenes(split, size=self._config.size, num=num)


class TriangleCue(Triangle):
    """Name the triangle by whether a marker is elsewhere (see `sources.triangle`)."""

    BUILDER_CONFIGS: ClassVar[list[Any]] = _configs()

    scenes = TriangleCueDataset


def _png(pixels: np.ndarray) -> bytes:
    """PNG bytes of uint8 [H, W] or [H, W, 3]."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()
