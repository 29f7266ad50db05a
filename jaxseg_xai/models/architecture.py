"""What every family of models says of itself: the base of their settings."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np
from flax import nnx

from jaxseg_xai.core.fields import check
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.core.segmenter import Sites


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture:
    """Base of the settings of all families: a frozen dataclass of `core.fields.setting`s.

    A family says how its network is built, what it takes, and how the usual PyTorch code of it
    names its weights. What its output means (classes, activation) is the card's, not the family's.

    Attributes:
      name: of its line in the registry.
      in_channels: channels of the input.
      num_logits: channels of the raw output; 1 is one foreground class (logits are then (0, z)).
    """

    name: ClassVar[str]
    in_channels: int
    num_logits: int

    def __post_init__(self) -> None:
        """Raise `ConfigError` for a setting out of its bounds, or settings that do not match."""
        check(self)

    def build(self, rngs: nnx.Rngs) -> nnx.Module:
        """The network, randomly initialised; it maps inputs [B, *S, C] to its raw output."""
        raise NotImplementedError(f"{type(self).__name__} has no build")

    def input_spec(self) -> InputSpec:
        """Rank, channels and sizes that the network takes."""
        raise NotImplementedError(f"{type(self).__name__} has no input_spec")

    def sites(self) -> Sites:
        """Names of layers that methods ask for."""
        return Sites()

    def for_weights(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """The settings that a PyTorch state dict has, as far as its names and shapes show them.

        Called before `translate`, where a family has several published forms; the default shows
        none.
        """
        del arrays
        return self

    def torch_names(self) -> Mapping[str, str]:
        """Module of the usual PyTorch state dict -> module of the network ("d1" -> "encoder/1").

        A name stands for all below it, and the longest that fits counts. Names of several PyTorch
        versions of the family may stand side by side. What is not named keeps its name.
        """
        return {}

    def translate(self, arrays: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """The usual PyTorch state dict with all that is special about the family put straight.

        Called before `torch_names` and the rules of `weights.load_weights`, which turn kernels of
        any rank. Here arrays may be split ("kv.weight" into "k.weight" and "v.weight"), joined,
        reshaped, renamed, or left out (an auxiliary head). Arrays keep PyTorch's names and layout,
        or take the network's own: leaf "kernel" instead of "weight", say, in its layout.

        Args:
          arrays: name -> array, all of the weight file.

        Returns:
          The same with changes; the default changes nothing.
        """
        return arrays
