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
from jaxseg_xai.core.input_spec import Grey, InputSpec, Pad
from jaxseg_xai.core.output_spec import OutputSpec
from jaxseg_xai.core.parse import from_table
from jaxseg_xai.core.segmenter import Dtype, Segmenter
from jaxseg_xai.models import weights
from jaxseg_xai.models.adapters.nnx import NNXAdapter
from jaxseg_xai.models.architecture import Architecture
from jaxseg_xai.models.registry import MODELS

_CARD, _WEIGHTS = "model.json", "weights.safetensors"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What `model.json` says.

    Attributes:
      architecture: a name of `MODELS`; "" of a model that is a Python object.
      config: the fields of its settings.
      class_names: one per class; of a softmax model the first is the background.
      input: fields of `InputSpec` that are not the architecture's usual ones, {"mean": [...]}.
      output: fields of `OutputSpec` beside the class names, {"activation": "sigmoid"}.
      weights: name of the weight file, relative to the card.
      name_map: module of the weight file -> module of the model; {} means that the names are ours,
        None that they are the architecture's usual PyTorch names.
      about: free text or numbers: data, command, seed, held-out Dice, licence.
    """

    architecture: str
    config: dict[str, Any]
    class_names: tuple[str, ...]
    input: dict[str, Any] = dataclasses.field(default_factory=dict)
    output: dict[str, Any] = dataclasses.field(default_factory=dict)
    weights: str = _WEIGHTS
    name_map: dict[str, str] | None = None
    about: dict[str, Any] = dataclasses.field(default_factory=dict)

    def architecture_config(self) -> Architecture:
        """The checked settings of the architecture.

        Raises:
          ModelError: it is a Python object and has none.
          ConfigError: an unknown architecture or setting, or a value out of its bounds.
        """
        if not self.architecture:
            raise ModelError("the model is a Python object, not one of our architectures")
        return from_table(MODELS.get(self.architecture), self.config)

    def input_spec(self) -> InputSpec:
        """What the model takes: the architecture's own, and what the card says otherwise.

        Raises:
          ModelError: the card contradicts the architecture, or itself.
        """
        config = self.architecture_config()
        usual = config.input_spec()
        spec = _with_fields(InputSpec, dataclasses.asdict(usual), "input", self.input)
        for name in ("rank", "channels"):
            found, wanted = getattr(spec, name), getattr(usual, name)
            if found != wanted:
                raise ModelError(
                    f"input.{name} is {found}, the architecture takes {wanted}; leave it out"
                )
        return spec

    def output_spec(self) -> OutputSpec:
        """What the output means.

        Raises:
          ModelError: the number of class names is not that of the output's channels.
        """
        if "class_names" in self.output:
            raise ModelError("output.class_names: name the classes in class_names, not in output")
        num_logits = self.architecture_config().num_logits
        names = {"class_names": self.class_names}
        spec = _with_fields(OutputSpec, names, "output", self.output)
        expected = num_logits if spec.overlapping else max(2, num_logits)
        if len(self.class_names) != expected:
            background = "" if spec.overlapping else ", background first"
            raise ModelError(
                f"class_names has {len(self.class_names)} entries; num_logits = {num_logits} and "
                f"{spec.activation} mean {expected}{background}"
            )
        return spec


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bundle:
    """A model ready to explain.

    Attributes:
      name: what tables and figures call it.
      card: where it comes from.
      segmenter: the pure function and its description.
      variables: its weights.
    """

    name: str
    card: ModelCard
    segmenter: Segmenter
    variables: Any

    @property
    def class_names(self) -> tuple[str, ...]:
        """One per class; of a softmax model the first is the background."""
        return self.segmenter.output.class_names


def bundle_of(card: ModelCard, model: nnx.Module, name: str = "model") -> Bundle:
    """A network that was built from a card's architecture and has its weights.

    Raises:
      ModelError: the card contradicts the architecture, or itself.
      ConfigError: an unknown architecture or setting, or a value out of its bounds.
    """
    apply, variables = NNXAdapter.adapt(model, None)
    segmenter = Segmenter(
        apply=apply,
        input=card.input_spec(),
        output=card.output_spec(),
        sites=card.architecture_config().sites(),
    )
    return Bundle(name=name, card=card, segmenter=segmenter, variables=variables)


def bundled_models() -> dict[str, Path]:
    """Names and folders of the trained models that come with the package."""
    root = Path(str(importlib.resources.files("jaxseg_xai"))) / "weights"
    return {card.parent.name: card.parent for card in sorted(root.glob(f"*/{_CARD}"))}


def load_model(
    name: str | Path, *, pad: Pad | None = None, grey: Grey | None = None, dtype: Dtype = "float32"
) -> Bundle:
    """Load a model by the name of a bundled one, or from a folder.

    Args:
      name: a key of `bundled_models()`, or a folder with `model.json`.
      pad: what to do with sizes that the model does not take, see `InputSpec`; None: as the card
        says.
      grey: what to do with images of one channel, see `InputSpec`; None: as the card says.
      dtype: what the model computes in.

    Raises:
      ModelError: no such model, a damaged card or weights, or weights of another architecture.
    """
    bundled = bundled_models()
    folder = bundled.get(str(name), Path(name))
    if not (folder / _CARD).is_file():
        raise ModelError(
            f"{name}: no such model; use {', '.join(bundled)}, or a folder with {_CARD} in it"
        )
    card = read_card(folder)
    try:
        config = card.architecture_config()
        # A card that contradicts itself is told before weights that do not fit.
        card.input_spec()
        card.output_spec()
    except (ModelError, ConfigError) as error:
        raise ModelError(f"{folder / _CARD}: {error}") from None
    arrays, names = weights.read_weights(folder / card.weights), card.name_map
    try:
        if names is None:
            config = config.for_weights(arrays)
            card = dataclasses.replace(card, config=dataclasses.asdict(config))
            arrays, names = config.translate(arrays), config.torch_names()
        model = weights.build_with_weights(config.build, arrays, names)
    except ModelError as error:
        raise ModelError(f"{folder / card.weights}: {error}") from None
    bundle = bundle_of(card, model, folder.name)
    changes = {"pad": pad, "grey": grey, "dtype": dtype}
    segmenter = bundle.segmenter.replace(**{k: v for k, v in changes.items() if v is not None})
    return dataclasses.replace(bundle, segmenter=segmenter)


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
    write_card(folder, card)


def write_card(folder: Path, card: ModelCard) -> None:
    """Write `model.json`."""
    (folder / _CARD).write_text(json.dumps(dataclasses.asdict(card), indent=2) + "\n")


def _with_fields(cls: Any, usual: dict[str, Any], label: str, changes: dict[str, Any]) -> Any:
    try:
        return from_table(cls, usual | changes)
    except ConfigError as error:
        raise ModelError(f"{label}: {error}") from None
