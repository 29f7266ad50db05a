"""The order of a network's parts in results, and their effects in this order."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxseg_xai.core.types import Array
from jaxseg_xai.program.sites import Site


def parts_of(sites: Sequence[Site]) -> dict[str, list[Any]]:
    """The U parts, as JSON values: every layer, then its channels, then the skip connections.

    Returns:
      `names` (of the layer or skip connection), `kinds` ("layer", "channel" or "skip") and
      `channels` (number of the channel; None for a layer or a skip connection), each of length U.
    """
    parts: list[tuple[str, str, int | None]] = []
    for site in sites:
        parts.append((site.name, site.kind, None))
        if site.kind == "layer":
            parts += [(site.name, "channel", channel) for channel in range(site.num_channels)]
    names, kinds, channels = (list(column) for column in zip(*parts, strict=True))
    return {"names": names, "kinds": kinds, "channels": channels}


def effects_of(
    sites: Sequence[Site],
    base: float,
    outcomes: Sequence[np.ndarray],
    first_order: Sequence[np.ndarray],
) -> dict[str, Array]:
    """The effects of all parts on one image.

    Args:
      sites: layers and skip connections.
      base: outcome without intervention.
      outcomes: per site, [channels + 1, samples] of replacing each channel and, in the last row,
        the whole tensor; or [1, samples], only that.
      first_order: per site, [channels].

    Returns:
      `ate`, the mean over the samples (NaN for channels that were not intervened on);
      `standard_error` of it (NaN with one sample); `first_order`: each float32 [U].
    """
    count = sum(1 + (site.num_channels if site.kind == "layer" else 0) for site in sites)
    effects, errors, linear = (np.full(count, np.nan) for _ in range(3))
    position = 0
    for site, found, slopes in zip(sites, outcomes, first_order, strict=True):
        # The whole tensor first, then its channels.
        found = np.concatenate([found[-1:], found[:-1]]).astype(np.float64) - base
        rows = slice(position, position + len(found))
        effects[rows] = found.mean(axis=1)
        if found.shape[1] > 1:
            errors[rows] = found.std(axis=1, ddof=1) / np.sqrt(found.shape[1])
        linear[position] = np.sum(slopes, dtype=np.float64)
        position += 1
        if site.kind == "layer":
            linear[position : position + site.num_channels] = slopes
            position += site.num_channels
    traces = {"ate": effects, "standard_error": errors, "first_order": linear}
    return {name: values.astype(np.float32) for name, values in traces.items()}
