"""How far two models agree about which of their parts carry a class."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from jaxseg_xai.core.errors import DataError
from jaxseg_xai.metrics.agreement import Agreement, compare_maps


class PartEffects(Protocol):
    """Mean effects of a network's U parts, such as a `ComponentTable`."""

    @property
    def names(self) -> Sequence[str]:
        """Layer or skip connection of each part."""
        ...

    @property
    def kinds(self) -> Sequence[str]:
        """ "layer", "channel" or "skip"."""
        ...

    @property
    def channels(self) -> Sequence[int | None]:
        """Number of the channel, None for a layer or a skip connection."""
        ...

    @property
    def ate(self) -> np.ndarray:
        """Effects, [U]."""
        ...


def compare_parts(
    effects_a: PartEffects,
    effects_b: PartEffects,
    *,
    kinds: Sequence[str] = ("layer", "skip"),
    threshold: float = 0.02,
) -> Agreement:
    """Compare two models of one architecture part by part, see `compare_maps`.

    Channels are left out unless `kinds` names them: two networks trained apart number theirs
    differently.

    Args:
      effects_a: of one model.
      effects_b: of the other.
      kinds: of the parts to compare.
      threshold: smaller effects count as zero, in units of the outcome.

    Raises:
      DataError: the two have other parts, or parts without an effect.
    """
    chosen = [
        [
            (part, effect)
            for *part, effect in zip(e.names, e.kinds, e.channels, e.ate, strict=True)
            if part[1] in kinds
        ]
        for e in (effects_a, effects_b)
    ]
    parts_a, parts_b = ([part for part, _ in rows] for rows in chosen)
    if parts_a != parts_b:
        raise DataError("the tables have other parts; compare models of one architecture")
    return compare_maps(*(np.array([e for _, e in rows]) for rows in chosen), threshold=threshold)
