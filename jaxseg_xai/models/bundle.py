"""A model on disk: a folder with `model.json` and a weight file beside it.

`model.json` holds the fields of `ModelCard`. A PyTorch state dict needs no conversion: put it
beside a card that names the architecture (and, for other module names, a `name_map`).
"""

import dataclasses
import importlib.resources
import json
from pathlib import Path
from typing import Any

from flax import nnx

from jaxseg_xai.core.errors import ConfigError, ModelError
from jaxseg_xai.core.parse import from_table
from jaxseg_xai.models import weights
from jaxseg_xai.models.predict import FlaxPredict, from_nnx
from jaxseg_xai.models.zoo.unet import UNetConfig

#: Architecture -> its configuration: a frozen dataclass with `build(rngs)`, `stride`,
#: `in_channels`, `num_logits` and `torch_names()`.
ARCHITECTURES: dict[str, type[UNetConfig]] = {"unet": UNetConfig}

_CARD, _WEIGHTS = "model.json", "weights.safetensors"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What `model.json` says.

    Attributes:
      architecture: a key of `ARCHITECTURES`.
      config: the fields of its configuration.
      class_names: one per class, background first.
      weights: name of the weight file, relative to the card.
      name_map: module of the weight file -> module of the model; {} means that the names are ours,
        None that they are the architecture's usual PyTorch names.
      about: free text or numbers: data, command, seed, held-out Dice, licence.
    """

    architecture: str
    config: dict[str, Any]
    class_names: tuple[str, ...]
    weights: str = _WEIGHTS
    name_map: dict[str, str] | None = None
    about: dict[str, Any] = dataclasses.field(default_factory=dict)

    def architecture_config(self) -> UNetConfig:
        """The validated configuration of the architecture."""
        if self.architecture not in ARCHITECTURES:
            raise ModelError(
                f"unknown architecture {self.architecture!r}; "
                f"there is {', '.join(sorted(ARCHITECTURES))}"
            )
        config = from_table(ARCHITECTURES[self.architecture], self.config)
        expected = max(2, config.num_logits)
        if len(self.class_names) != expected:
            raise ModelError(
                f"class_names has {len(self.class_names)} entries; num_logits = "
                f"{config.num_logits} means {expected} classes, background first"
            )
        if len(set(self.class_names)) < expected:
            raise ModelError(f"class_names has a name twice: {', '.join(self.class_names)}")
        return config


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bundle:
    """A model ready to explain: pure `predict`, its `variables`, and its card."""

    name: str
    card: ModelCard
    predict: FlaxPredict
    variables: Any


def bundled_models() -> dict[str, Path]:
    """Names and folders of the trained models that come with the package."""
    root = Path(str(importlib.resources.files("jaxseg_xai"))) / "weights"
    return {card.parent.name: card.parent for card in sorted(root.glob(f"*/{_CARD}"))}


def load_model(name: str | Path, **options: Any) -> Bundle:
    """Load a model by the name of a bundled one, or from a folder.

    Args:
      name: a key of `bundled_models()`, or a folder with `model.json`.
      **options: `pad` and `dtype` of `FlaxPredict`.

    Raises:
      ModelError: no such model, a damaged card or weights, or weights of another architecture.
    """
    bundled = bundled_models()
    folder = bundled.get(str(name), Path(name))
    card = read_card(folder) if (folder / _CARD).is_file() else None
    if card is None:
        raise ModelError(
            f"{name}: no such model; use {', '.join(bundled)}, or a folder with {_CARD} in it"
        )
    config = card.architecture_config()
    # Only its shapes: drawing initial weights that are overwritten anyway takes seconds.
    model = nnx.eval_shape(lambda: config.build(nnx.Rngs(0)))
    arrays = weights.read_weights(folder / card.weights)
    names = config.torch_names() if card.name_map is None else card.name_map
    try:
        weights.load_weights(model, arrays, names)
    except ModelError as error:
        raise ModelError(f"{folder / card.weights}: {error}") from None
    predict, variables = from_nnx(model, stride=config.stride, **options)
    return Bundle(name=folder.name, card=card, predict=predict, variables=variables)


def read_card(folder: Path) -> ModelCard:
    """Read and validate `model.json`."""
    path = folder / _CARD
    try:
        return from_table(ModelCard, json.loads(path.read_text()))
    except (OSError, ValueError, ConfigError) as error:
        raise ModelError(f"{path}: {error}") from None


def save_model(folder: Path, model: nnx.Module, card: ModelCard) -> None:
    """Write a model folder that `load_model` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    weights.write_weights(folder / card.weights, model)
    (folder / _CARD).write_text(json.dumps(dataclasses.asdict(card), indent=2) + "\n")
