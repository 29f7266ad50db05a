"""What can be set about a training run."""

import dataclasses
import inspect
from pathlib import Path
from typing import Any, get_args

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.fields import setting
from jaxseg_xai.core.types import Source
from jaxseg_xai.data import SOURCES, open_dataset
from jaxseg_xai.models.zoo.unet import Norm, UNetConfig, Upsample


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A U-Net, the data it learns, and how long.

    Attributes:
      out: folder to write: `model.json`, `weights.safetensors`, `metrics.jsonl`, `train.json`,
        `checkpoints/`. A run that finds its own checkpoints there continues from the last.
      data: a labelled data set (see `jaxseg-xai data`), or a folder with train/ and validation/ in
        it, each with images/ and labels/.
      classes: names of the classes of a folder's label maps, background first.
      size: side of the generated images (synthetic data sets only).
      width: channels at full resolution.
      depth: number of poolings.
      norm: normalisation layer.
      upsample: how the decoder rises.
      steps: optimiser steps.
      batch_size: images per step.
      learning_rate: peak of the warm-up and cosine schedule.
      weight_decay: of AdamW.
      augment: random flips, shifts, contrast and noise.
      eval_every: steps between evaluations on the validation split, each with a checkpoint.
      seed: of the initial weights, the order of the images and their augmentation.
      licence: of the weights, written to the model card.
    """

    out: Path = Path("runs/train")
    data: str = ""
    classes: tuple[str, ...] = ()
    size: int = setting(64, at_least=1)
    width: int = setting(16, at_least=1)
    depth: int = setting(4, at_least=1)
    norm: Norm = setting("batch", choices=get_args(Norm))
    upsample: Upsample = setting("bilinear", choices=get_args(Upsample))
    steps: int = setting(2000, at_least=1)
    batch_size: int = setting(16, at_least=1)
    learning_rate: float = setting(2e-3, above=0)
    weight_decay: float = setting(1e-4, at_least=0)
    augment: bool = False
    eval_every: int = setting(200, at_least=1)
    seed: int = setting(0, at_least=0)
    licence: str = "Apache-2.0"

    def open(self, split: str, channels: int | None = None) -> Source:
        """A split of the data; the images of a folder must have so many channels."""
        if not self.data:
            raise ConfigError(
                f"data is empty: name a data set ({', '.join(SOURCES.names())}) or a folder"
            )
        if self.data in SOURCES:
            takes_size = "size" in inspect.signature(SOURCES.get(self.data)).parameters
            return open_dataset(self.data, split, **({"size": self.size} if takes_size else {}))
        if len(self.classes) < 2:
            raise ConfigError(
                f"{self.data}: classes has {len(self.classes)} entries; name the classes of the "
                "label maps, background first"
            )
        return open_dataset(self.data, split, class_names=self.classes, channels=channels)

    def identity(self) -> dict[str, Any]:
        """What must be equal for a run to be continued, as JSON values."""
        fields = dataclasses.asdict(self)
        for name in ("out", "licence"):
            del fields[name]
        return fields | {"classes": list(self.classes)}

    def architecture(self, in_channels: int, num_classes: int) -> UNetConfig:
        """The U-Net for data of so many channels and classes."""
        return UNetConfig.of_width(
            self.width,
            self.depth,
            in_channels=in_channels,
            num_logits=1 if num_classes == 2 else num_classes,
            norm=self.norm,
            upsample=self.upsample,
        )
