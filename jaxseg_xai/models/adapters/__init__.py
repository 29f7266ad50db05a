"""Python objects as models, one kind a file; a further one is a line in `models.registry`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from jaxseg_xai.core.errors import ConfigError

#: Pure function (variables, inputs [B, *S, C]) -> raw output, hashable.
Apply = Callable[[Any, Any], Any]


class Adapter:
    """Base of all adapters: turns objects of one kind into a pure function and its weights.

    Attributes:
      general: whether it takes objects that another adapter may know better.
      usual: what such models' descriptions have unless they say otherwise, by the part that takes
        it: {"output": {"channels_first": True}}.
      marker: name of a file that shows that a folder without model.json is such a model; "": none.
    """

    general: ClassVar[bool] = False
    usual: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    marker: ClassVar[str] = ""

    @staticmethod
    def matches(model: Any) -> bool:
        """Whether the object is of this kind. It imports nothing heavy to find out."""
        raise NotImplementedError

    @classmethod
    def describe(cls, model: Any) -> Mapping[str, Mapping[str, Any]]:
        """What such a model's description has unless it says otherwise, like `usual`.

        Args:
          model: an object that matches; some know their own channels and sizes.
        """
        del model
        return cls.usual

    @staticmethod
    def adapt(model: Any, variables: Any) -> tuple[Apply, Any]:
        """The model in evaluation mode.

        Args:
          model: the object.
          variables: its weights, or None where the object holds them.

        Returns:
          (apply, variables). A frozen dataclass for `apply` says that equal ones compute the same,
          so that two models of one architecture share compiled programs; anything else is equal
          to itself only.

        Raises:
          ConfigError: the weights are missing, or given twice.
        """
        raise NotImplementedError

    @staticmethod
    def open(place: Any, folder: Path, weights: Path | None) -> tuple[Any, Any]:
        """The model that a `model.json` names by this adapter: {"name of the adapter": place}.

        Args:
          place: where it is: "package.module:factory", a file beside the card, or whatever JSON the
            adapter understands.
          folder: the card's.
          weights: the weight file that the card names; None: it names none.

        Returns:
          (model, variables) as `as_model` takes them; a `Bundle` and None where the place says all
          that a description does.

        Raises:
          ConfigError: this kind of model cannot be opened, or not from there.
          ModelError: its files are absent or damaged.
        """
        del place, folder, weights
        raise ConfigError("such models cannot be opened from a folder; use as_model in Python")
