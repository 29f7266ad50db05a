"""What can be set about a training run."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.fields import setting
from jaxseg_xai.core.parse import from_table, json_value
from jaxseg_xai.core.types import Source
from jaxseg_xai.data import SOURCES, name_of_source, open_dataset, options_of
from jaxseg_xai.models.architecture import Architecture
from jaxseg_xai.models.registry import MODELS

#: Settings of every network that the data say.
TOLD_BY_DATA = ("in_channels", "num_logits")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Everything of a training run but the settings of the network.

    Attributes:
      out: folder to write: `model.json`, `weights.safetensors`, `metrics.jsonl`, `train.json`,
        `checkpoints/`. A run that finds its own checkpoints there continues from the last.
      architecture: a family of networks, see `jaxseg-xai models`.
      data: a labelled data set (see `jaxseg-xai sources`), or a folder with train/ and validation/
        in it, each with images/ and labels/.
      classes: names of the classes of a folder's label maps, background first.
      size: side of the generated images (synthetic data sets only).
      num: images of the training split (synthetic data sets only); what the set has, where left
        out.
      steps: optimiser steps.
      batch_size: images per step.
      learning_rate: peak of the warm-up and cosine schedule.
      weight_decay: of AdamW.
      augment: random flips, shifts, contrast and noise.
      eval_every: steps between evaluations on the validation split, each with a checkpoint.
      seed: of the initial weights, the order of the images and their augmentation.
      weights_dtype: of the numbers in the weight file; "float16" halves it.
      licence: of the weights, written to the model card.
    """

    out: Path = Path("runs/train")
    architecture: str = setting("", choices=MODELS)
    data: str = ""
    classes: tuple[str, ...] = ()
    size: int = setting(64, at_least=1)
    num: int | None = setting(None, at_least=1)
    steps: int = setting(2000, at_least=1)
    batch_size: int = setting(16, at_least=1)
    learning_rate: float = setting(2e-3, above=0)
    weight_decay: float = setting(1e-4, at_least=0)
    augment: bool = False
    eval_every: int = setting(200, at_least=1)
    seed: int = setting(0, at_least=0)
    weights_dtype: Literal["float32", "float16"] = "float32"
    licence: str = "Apache-2.0"

    def open(self, split: str, channels: int | None = None) -> Source:
        """A split of the data; the images of a folder must have so many channels."""
        if not self.data:
            raise ConfigError(
                f"data is empty: name a data set ({', '.join(SOURCES.names())}) or a folder"
            )
        told = {"size": self.size, "class_names": self.classes, "channels": channels}
        known = options_of(name_of_source(self.data))
        if self.num is not None:
            if "num" not in known:
                raise ConfigError(f"num={self.num}: {self.data} has its own images; leave num out")
            told |= {"num": self.num} if split == "train" else {}
        options = {name: value for name, value in told.items() if name in known}
        source = open_dataset(self.data, split, **options)
        if len(source.class_names) < 2:
            raise ConfigError(
                f"{self.data}: classes has {len(self.classes)} entries; name the classes of the "
                "label maps, background first"
            )
        return source


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig(TrainSettings):
    """A network of any family, the data it learns, and how long.

    Attributes:
      config: settings of the network, {"embed_dims": (16, 32)}; what is left out is as published.
    """

    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def network(self, in_channels: int, num_classes: int) -> Architecture:
        """The network for data of so many channels and classes.

        Raises:
          ConfigError: an unknown setting or one out of its bounds, or one that the data say.
        """
        for name in TOLD_BY_DATA:
            if name in self.config:
                raise ConfigError(f"{self.architecture}: the data say {name}; leave it out")
        told = {"in_channels": in_channels, "num_logits": 1 if num_classes == 2 else num_classes}
        try:
            return from_table(MODELS.get(self.architecture), told | dict(self.config))
        except ConfigError as error:
            raise ConfigError(f"{self.architecture}: {error}") from None

    def identity(self, network: Architecture) -> dict[str, Any]:
        """What must be equal for a run to be continued, as JSON values."""
        fields = dataclasses.asdict(self)
        for name in ("out", "licence", "config"):
            del fields[name]
        settings = dataclasses.asdict(network)
        fields |= {f"{self.architecture}.{name}": value for name, value in settings.items()}
        return json.loads(json.dumps(fields, default=json_value))
