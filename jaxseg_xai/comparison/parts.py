"""Parts of several networks: their effects, shares, and the agreement of networks built alike."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxseg_xai.comparison.maps import ModelMaps
from jaxseg_xai.core.errors import DataError
from jaxseg_xai.explainers.parts.table import ComponentTable
from jaxseg_xai.metrics.agreement import Shares, shares
from jaxseg_xai.metrics.parts import compare_parts

Record = dict[str, Any]
_KINDS = ("layer", "channel", "skip")


def effects(models: Sequence[ModelMaps]) -> list[Record]:
    """A row for each part of each network and class: model, class_name, and the table's columns."""
    return [
        {"model": model.name, "class_name": name} | record
        for model, name, table in _tables(models)
        for record in table.records()
    ]


def shares_of_kinds(models: Sequence[ModelMaps], threshold: float) -> list[Record]:
    """Shares of positive, negative and zero parts: networks of any architecture have these.

    Keys: model, class_name, kind, num_parts, positive, negative, zero. Channels that were not
    intervened on are left out.
    """
    found = []
    for model, name, table in _tables(models):
        for kind in _KINDS:
            of_kind = np.array([other == kind for other in table.kinds], bool)
            values = table.ate[of_kind & np.isfinite(table.ate)]
            if values.size:
                split: Shares = shares(values, threshold=threshold)
                record = {"model": model.name, "class_name": name, "kind": kind}
                record |= {"num_parts": values.size, "positive": split.positive}
                found.append(record | {"negative": split.negative, "zero": split.zero})
    return found


def agreement(models: Sequence[ModelMaps], threshold: float) -> list[Record]:
    """Agreement of each two networks with the same layers and skip connections.

    Keys: model_a, model_b, class_name, num_parts, same_sign, same_sign_nonzero, pearson, spearman.
    """
    found = []
    for a, b in itertools.combinations(models, 2):
        for name in [name for name in a.parts if name in b.parts]:
            try:
                one = compare_parts(a.parts[name], b.parts[name], threshold=threshold)
            except DataError:  # of another architecture, or without a usable image
                continue
            record = {"model_a": a.name, "model_b": b.name, "class_name": name}
            record |= {"num_parts": one.num_effects, "same_sign": one.same_sign}
            record |= {"same_sign_nonzero": one.same_sign_nonzero}
            found.append(record | {"pearson": one.pearson, "spearman": one.spearman})
    return found


def notes(models: Sequence[ModelMaps]) -> list[str]:
    """Which models have no effects of parts, where others do."""
    without = [model.name for model in models if not model.parts]
    if not without or len(without) == len(models):
        return []
    return [f"no parts of the network in the store of {', '.join(without)}"]


def _tables(models: Sequence[ModelMaps]) -> Iterator[tuple[ModelMaps, str, ComponentTable]]:
    for model in models:
        for name, table in model.parts.items():
            yield model, name, table
