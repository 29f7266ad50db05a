"""A model ready to explain, and what is said about it."""

import dataclasses
from typing import Any, TypeVar

from flax import nnx

from jaxseg_xai.core.errors import ConfigError, ModelError
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.core.output_spec import OutputSpec
from jaxseg_xai.core.parse import from_table
from jaxseg_xai.core.segmenter import Segmenter
from jaxseg_xai.models.adapters.nnx import NNXAdapter
from jaxseg_xai.models.architecture import Architecture
from jaxseg_xai.models.registry import MODELS

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What `model.json` says.

    Attributes:
      architecture: a name of `MODELS`; "" of a model that an adapter takes.
      adapter: instead, a name of `ADAPTERS` and where the model is, as that adapter's `open` takes
        it: ("nnx", "package.module:factory"). In the file it is a key: {"nnx": "package..."}.
      config: the fields of the architecture's settings.
      class_names: one per class; of a softmax model the first is the background.
      input: fields of `InputSpec` that are not the architecture's usual ones, {"mean": [...]}.
      output: fields of `OutputSpec` beside the class names, {"activation": "sigmoid"}.
      weights: name of the weight file, relative to the card; "": the model has its weights, as an
        adapter's usually has.
      name_map: module of the weight file -> module of the model, or None: left out; {} means that
        the names are ours, None that they are the architecture's usual PyTorch names, and so does a
        map that only leaves out.
      about: free text or numbers: data, command, seed, held-out Dice, licence.
    """

    architecture: str = ""
    adapter: tuple[str, Any] | None = None
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    input: dict[str, Any] = dataclasses.field(default_factory=dict)
    output: dict[str, Any] = dataclasses.field(default_factory=dict)
    weights: str = "weights.safetensors"
    name_map: dict[str, str | None] | None = None
    about: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if "class_names" in self.output:
            raise ConfigError("output.class_names: name the classes in class_names, not in output")

    def architecture_config(self) -> Architecture:
        """The checked settings of the architecture.

        Raises:
          ConfigError: an unknown architecture or setting, or a value out of its bounds.
        """
        return from_table(MODELS.get(self.architecture), self.config)

    def input_spec(self) -> InputSpec:
        """What the model takes: the architecture's own, and what the card says otherwise.

        Raises:
          ModelError: the card contradicts the architecture, or itself.
        """
        config = self.architecture_config()
        usual = config.input_spec()
        spec = with_fields(InputSpec, dataclasses.asdict(usual), "input", self.input)
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
        num_logits = self.architecture_config().num_logits
        names = {"class_names": self.class_names}
        spec = with_fields(OutputSpec, names, "output", self.output)
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


def with_fields(cls: type[T], usual: dict[str, Any], label: str, changes: dict[str, Any]) -> T:
    """A description out of usual fields and others.

    Raises:
      ModelError: an unknown field, or a value of another type; the message starts with the label.
    """
    try:
        return from_table(cls, usual | changes)
    except ConfigError as error:
        raise ModelError(f"{label}: {error}") from None
