"""What can be set about a training run."""

import dataclasses
from pathlib import Path
from typing import Any

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.types import Source
from jaxseg_xai.data import open_dataset
from jaxseg_xai.models.zoo.unet import Norm, UNetConfig, Upsample


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A U-Net, the data it learns, and how long.

    Attributes:
      out: folder to write: `model.json`, `weights.safetensors`, `metrics.jsonl`, `train.json`,
        `checkpoints/`. A run that finds its own checkpoints there continues from the last.
      data: brain, triangle, triangle-cue, or a folder with train/ and validation/ in it, each with
        images/ and labels/.
      classes: names of the classes of a folder's label maps, background first.
      size: side of the generated images (triangle data sets only).
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
    data: str = "triangle"
    classes: tuple[str, ...] = ()
    size: int = 64
    width: int = 16
    depth: int = 4
    norm: Norm = "batch"
    upsample: Upsample = "bilinear"
    steps: int = 2000
    batch_size: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    augment: bool = False
    eval_every: int = 200
    seed: int = 0
    licence: str = "Apache-2.0"

    def __post_init__(self) -> None:
        for name in ("size", "width", "depth", "steps", "batch_size", "eval_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}; it must not be negative")
        if not self.learning_rate > 0 or not self.weight_decay >= 0:
            raise ConfigError("learning_rate must be positive and weight_decay not negative")

    def open(self, split: str, channels: int | None = None) -> Source:
        """A split of the data; the images of a folder must have so many channels."""
        if self.data in ("triangle", "triangle-cue"):
            return open_dataset(self.data, split, size=self.size)
        if self.data == "brain":
            return open_dataset(self.data, split)
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
