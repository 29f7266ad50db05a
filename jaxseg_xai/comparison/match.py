"""Which maps of several models can be compared, and why others cannot."""

import collections
import dataclasses
from collections.abc import Callable, Sequence

from jaxseg_xai.comparison.maps import BlockMap, ModelMaps
from jaxseg_xai.core.errors import ConfigError, DataError

#: Names in a note before it says how many more there are.
_MOST_NAMES = 3


def common_threshold(models: Sequence[ModelMaps], threshold: float | None) -> float:
    """Below it an effect counts as none: the given one, or that of the models.

    Raises:
      ConfigError: the models have several and none is given, or the given one is smaller: what is
        below a model's own was set to 0 already.
    """
    own = {model.name: model.threshold for model in models if model.threshold is not None}
    if threshold is None:
        if len(set(own.values())) > 1:
            said = ", ".join(f"{value:g} ({name})" for name, value in own.items())
            largest = max(own.values())
            raise ConfigError(f"thresholds {said}; choose one for all (--threshold {largest:g})")
        return next(iter(own.values()), 0.02)
    for name, value in own.items():
        if threshold < value:
            raise ConfigError(
                f"threshold is {threshold:g}, but {name} has no effects below {value:g}; choose at "
                f"least {value:g}, or sweep with a smaller one"
            )
    return threshold


def check_alike(models: Sequence[ModelMaps]) -> list[str]:
    """Notes on settings in which the models differ.

    Raises:
      DataError: blocks of several sizes, or effects in several units.
    """
    kinds: tuple[tuple[str, Callable[[ModelMaps], object]], ...] = (
        ("blocks of side", lambda model: model.block_size),
        ("effects in", lambda model: model.unit),
    )
    for what, of in kinds:
        if len({of(model) for model in models}) > 1:
            raise DataError(f"{what} {_listed(models, of)}; compare maps of one kind (--labels)")
    notes = []
    for name in dict.fromkeys(name for model in models for name in model.settings):
        known = [model for model in models if model.settings]  # published results do not say
        if len({repr(model.settings.get(name)) for model in known}) > 1:
            told = _listed(known, lambda model, name=name: model.settings.get(name))
            notes.append(f"the models were explained with another {name}: {told}")
    return notes


def with_one_class(models: Sequence[ModelMaps]) -> list[ModelMaps]:
    """Where some do not say which class they explain, and the others have only one: that one."""
    known = {one.class_name for model in models for one in model.maps} - {""}
    if len(known) != 1:
        return list(models)
    (name,) = known
    return [
        dataclasses.replace(
            model, maps=[dataclasses.replace(one, class_name=name) for one in model.maps]
        )
        for model in models
    ]


def common_maps(models: Sequence[ModelMaps]) -> tuple[list[ModelMaps], list[str]]:
    """The models with only those maps that all of them have, and notes on the others.

    A map is had by all if its image, class and region have the same name and its blocks, its
    region's pixels and the image's are the same.

    Raises:
      DataError: there is none; the message says why.
    """
    of_model = [{one.key: one for one in model.maps} for model in models]
    keys = list(dict.fromkeys(key for maps in of_model for key in maps))
    left_out: dict[str, list[str]] = collections.defaultdict(list)
    kept = []
    for key in keys:
        reason = _difference(models, [maps.get(key) for maps in of_model])
        if not reason:
            kept.append(key)
        else:
            name = next(maps[key].name for maps in of_model if key in maps)
            left_out[reason].append(name)
    notes = [f"left out, {reason}: {_some(names)}" for reason, names in left_out.items()]
    notes += [
        f"{model.name} has no map of some: {_counted(model)}" for model in models if model.not_ok
    ]
    if not kept:
        raise DataError(
            f"{', '.join(model.name for model in models)} have no map in common: "
            f"{'; '.join(notes) or 'there is none at all'}; sweep the same images and classes with "
            "one region (labels, --roi.corner or --roi.file)"
        )
    found = [
        dataclasses.replace(model, maps=[maps[key] for key in kept])
        for model, maps in zip(models, of_model, strict=True)
    ]
    return found, notes


def _difference(models: Sequence[ModelMaps], maps: Sequence[BlockMap | None]) -> str:
    """Why maps of one key cannot be compared; "" where they can."""
    first = next(one for one in maps if one is not None)
    for model, one in zip(models, maps, strict=True):
        if one is None:
            return f"no map of {model.name}"
        if one.effects.shape != first.effects.shape:
            sizes = (" x ".join(map(str, x.effects.shape)) for x in (one, first))
            return f"{model.name} has {' blocks, '.join(sizes)} blocks {models[0].name}"
        if one.region_sum != first.region_sum:
            return f"another region for {model.name} than for {models[0].name}"
        known = None not in (one.picture_sum, first.picture_sum)
        if known and one.picture_sum != first.picture_sum:
            return f"another image for {model.name} than for {models[0].name}"
    if first.outside.sum() < 2:
        return "fewer than two blocks outside the region"
    return ""


def _listed(models: Sequence[ModelMaps], of: Callable[[ModelMaps], object]) -> str:
    return ", ".join(f"{of(model)} ({model.name})" for model in models)


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _counted(model: ModelMaps) -> str:
    return ", ".join(f"{number} {status}" for status, number in model.not_ok.items())
