"""From stores, folders or arrays to a comparison."""

import dataclasses
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxseg_xai.comparison import parts
from jaxseg_xai.comparison.maps import BlockMap, ModelMaps, checksum
from jaxseg_xai.comparison.match import (
    check_alike,
    common_maps,
    common_threshold,
    with_one_class,
)
from jaxseg_xai.comparison.result import Comparison
from jaxseg_xai.comparison.sources import read_models
from jaxseg_xai.core.errors import ConfigError, DataError
from jaxseg_xai.store import Store

Source = str | os.PathLike[str] | Store


def compare_models(
    sources: Mapping[str, Source] | Sequence[Source],
    *,
    labels: Sequence[str] = (),
    threshold: float | None = None,
) -> Comparison:
    """Compare models by the effects of blocks that sweeps found; see `Comparison`.

        jaxseg_xai.compare_models({"ours": "runs/a.zarr", "theirs": "runs/b.zarr"}).save("runs/ab")

    Args:
      sources: stores of sweeps of the same images and classes with one region, open or by their
        paths, or folders of PdCR's results; or name of a model -> its store. A store with several
        entries of effects counts as several models.
      labels: the only entries to compare.
      threshold: effects below it count as none; that of the sweeps where left out.

    Raises:
      JaxsegError: a store cannot be read or has no effects of blocks; blocks, units or thresholds
        differ; or the models have no image in common.
    """
    named = isinstance(sources, Mapping)
    given = list(sources.items()) if named else [("", source) for source in sources]
    if not given:
        raise ConfigError("no store to compare; name those of two models or more")
    found: list[tuple[str, ModelMaps]] = []
    for name, source in given:
        models = read_models(source, labels)
        for model in models:
            if named:
                entry = f" {model.name}" if len(models) > 1 else ""
                model = dataclasses.replace(model, name=f"{name}{entry}")
            found.append((_stem(source), model))
    counts = Counter(model.name for _, model in found)
    return _compare(
        [
            dataclasses.replace(model, name=f"{model.name} ({stem})")
            if counts[model.name] > 1
            else model
            for stem, model in found
        ],
        threshold,
    )


def compare_effects(
    effects: Mapping[str, np.ndarray],
    *,
    where: np.ndarray | None = None,
    image_ids: Sequence[str] | None = None,
    threshold: float = 0.02,
    unit: str = "points",
) -> Comparison:
    """Compare models by arrays of effects, one number a block.

    Args:
      effects: name of a model -> [N, *G], the effects of the blocks of N images.
      where: bool [*G] or [N, *G], the blocks outside the region; default: all.
      image_ids: N names; default: numbers.
      threshold: effects below it count as none.
      unit: of the effects.

    Raises:
      DataError: arrays of several shapes, or effects that are not finite.
    """
    arrays = {name: np.asarray(values, np.float64) for name, values in effects.items()}
    shapes = {name: values.shape for name, values in arrays.items()}
    shape = next(iter(shapes.values()), ())
    if len(shape) < 2 or len(set(shapes.values())) > 1:
        said = ", ".join(f"{shape} ({name})" for name, shape in shapes.items())
        raise DataError(
            f"effects of {said or 'no model'}; give [images, *blocks] of one shape each"
        )
    outside = np.broadcast_to(True if where is None else np.asarray(where, bool), shape)
    ids = [str(number) for number in range(shape[0])] if image_ids is None else image_ids
    for name, values in arrays.items():
        if not np.isfinite(values[outside]).all():
            raise DataError(f"{name}: effects are not all finite; leave them out with `where`")
    models = [
        ModelMaps(
            name=name,
            maps=[
                BlockMap(
                    image_id=image_id,
                    class_name="",
                    region="",
                    effects=np.where(blocks, one, 0),
                    outside=blocks,
                    grid=shape[1:],
                    region_sum=checksum(blocks) or 0,
                )
                for image_id, one, blocks in zip(ids, values, outside, strict=True)
            ],
            block_size=1,
            threshold=None,
            unit=unit,
        )
        for name, values in arrays.items()
    ]
    return _compare(models, threshold)


def _compare(models: Sequence[ModelMaps], threshold: float | None) -> Comparison:
    notes = check_alike(models)
    found, left_out = common_maps(with_one_class(models))
    comparison = Comparison(
        models=tuple(found),
        threshold=common_threshold(found, threshold),
        unit=found[0].unit,
        notes=(*notes, *left_out),
    )
    notes = [*comparison.notes, *_undefined(comparison), *parts.notes(found)]
    return dataclasses.replace(comparison, notes=tuple(notes))


def _undefined(comparison: Comparison) -> list[str]:
    """Notes on what cannot be computed."""
    if len(comparison.models) == 1:
        return [f"one model only ({comparison.names[0]}): there is no agreement to compute"]
    count = len(comparison.models) * (len(comparison.models) - 1) // 2
    return [
        f"rank correlation of {row['model_a']} and {row['model_b']} is not defined on "
        f"{row['num_maps'] - row['num_spearman']} of {row['num_maps']} maps: all blocks of one "
        "have the same effect"
        for row in comparison.pairs[:count]
        if row["num_spearman"] < row["num_maps"]
    ]


def _stem(source: Source) -> str:
    name = source.name if isinstance(source, Store) else Path(source).resolve().name
    return name.removesuffix(".zarr")
