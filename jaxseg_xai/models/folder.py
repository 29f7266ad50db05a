"""A model on disk: a folder with `model.json` and, often, a weight file beside it.

`model.json` holds the fields of `ModelCard`. A PyTorch state dict needs no conversion: put it
beside a card that names the architecture (and, for other module names, a `name_map`). A model that
is Python code, or a file of another library, is named by its adapter.
"""

import dataclasses
import importlib.resources
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from jaxseg_xai.core.errors import ConfigError, MismatchError, ModelError
from jaxseg_xai.core.input_spec import Grey, Pad
from jaxseg_xai.core.parse import from_table, json_of
from jaxseg_xai.core.segmenter import Dtype
from jaxseg_xai.models import weights
from jaxseg_xai.models.architecture import Architecture
from jaxseg_xai.models.bundle import Bundle, ModelCard, bundle_of
from jaxseg_xai.models.registry import ADAPTERS
from jaxseg_xai.models.wrap import wrap

_CARD = "model.json"


def bundled_models() -> dict[str, Path]:
    """Names and folders of the trained models that come with the package."""
    root = Path(str(importlib.resources.files("jaxseg_xai"))) / "weights"
    return {card.parent.name: card.parent for card in sorted(root.glob(f"*/{_CARD}"))}


def load_model(
    name: str | Path,
    *,
    pad: Pad | None = None,
    grey: Grey | None = None,
    resize: tuple[int, ...] | None = None,
    dtype: Dtype = "float32",
) -> Bundle:
    """Load a model by the name of a bundled one, or from a folder.

    Args:
      name: a key of `bundled_models()`, or a folder with `model.json`, or a results folder of
        nnU-Net v2.
      pad: what to do with sizes that the model does not take, see `InputSpec`; None: as the card
        says.
      grey: what to do with images of one channel, see `InputSpec`; None: as the card says.
      resize: size to which all images are resized, one number per axis, and maps brought back;
        None: as the card says.
      dtype: what the model computes in.

    Raises:
      ModelError: no such model, a damaged card or weights, or weights of another architecture
        (`MismatchError`, whose `details` list all names that do not fit).
    """
    bundled = bundled_models()
    folder = bundled.get(str(name), Path(name))
    card = read_card(folder) if (folder / _CARD).is_file() else _card_of(folder)
    if card is None:
        raise ModelError(
            f"{name}: no such model; use {', '.join(bundled)}, or a folder with {_CARD} in it"
        )
    bundle = _adapted(folder, card) if card.adapter else _built(folder, card)
    changes = {"pad": pad, "grey": grey, "fixed_size": resize, "dtype": dtype}
    segmenter = bundle.segmenter.replace(**{k: v for k, v in changes.items() if v is not None})
    return dataclasses.replace(bundle, name=folder.name, segmenter=segmenter)


def _card_of(folder: Path) -> ModelCard | None:
    """The card of a folder that needs none: another library's, told by a file in it."""
    for kind, adapter in ADAPTERS.usable():
        if adapter.marker and (folder / adapter.marker).is_file():
            return ModelCard(adapter=(kind, "."), weights="")
    return None


def _built(folder: Path, card: ModelCard) -> Bundle:
    """A model of one of our architectures."""
    try:
        config = card.architecture_config()
        # A card that contradicts itself is told before weights that do not fit.
        card.input_spec()
        card.output_spec()
    except (ModelError, ConfigError) as error:
        raise ModelError(f"{folder / _CARD}: {error}") from None
    path = folder / card.weights
    arrays = weights.read_weights(path)
    try:
        return with_weights(card, config, arrays)
    except ModelError as error:
        raise in_file(path, error) from None


def with_weights(card: ModelCard, config: Architecture, arrays: Mapping[str, np.ndarray]) -> Bundle:
    """A network of one of our architectures with the weights of a file.

    Args:
      card: of the model; in what is returned it has the settings that the weights show.
      config: its settings.
      arrays: what the file holds.

    Raises:
      MismatchError: they are another network's.
      ModelError: the card contradicts itself, or values are not finite.
    """
    name_map = card.name_map or {}
    names = {theirs: ours for theirs, ours in name_map.items() if ours is not None}
    left_out = [theirs for theirs, ours in name_map.items() if ours is None]
    usual = card.name_map is None or (bool(left_out) and not names)
    errors = []
    for reading in weights.readings(arrays, left_out):
        try:
            if not usual:
                return bundle_of(card, weights.build_with_weights(config.build, reading, names))
            shown = config.for_weights(reading)
            model = weights.build_with_weights(
                shown.build, shown.translate(reading), shown.torch_names()
            )
            return bundle_of(dataclasses.replace(card, config=dataclasses.asdict(shown)), model)
        except MismatchError as error:
            errors.append(error)
    raise min(errors, key=lambda error: error.details.count("\n"))


def _adapted(folder: Path, card: ModelCard) -> Bundle:
    """A model that an adapter opens."""
    kind, place = card.adapter or ("", None)
    path = folder / card.weights if card.weights else None
    try:
        model, variables = ADAPTERS.get(kind).open(place, folder, path)
        return wrap(model, variables, card, {"input": card.input, "output": card.output})
    except (ModelError, ConfigError) as error:
        raise in_file(f"{folder / _CARD}: {kind}", error) from error


def in_file(place: Path | str, error: Exception) -> ModelError:
    """An error that says where it is."""
    text = f"{place}: {error}"
    return (
        MismatchError(text, error.details) if isinstance(error, MismatchError) else ModelError(text)
    )


def read_card(folder: Path) -> ModelCard:
    """Read and validate `model.json`."""
    path = folder / _CARD
    try:
        table = json_of(path)
        return from_table(ModelCard, _with_adapter(table) if isinstance(table, dict) else table)
    except (OSError, ValueError, ConfigError) as error:
        raise ModelError(f"{path}: {error}") from None


def save_model(folder: Path, model: nnx.Module, card: ModelCard, dtype: str = "float32") -> None:
    """Write a model folder that `load_model` reads; its weight file has numbers of a dtype."""
    folder.mkdir(parents=True, exist_ok=True)
    weights.write_weights(folder / card.weights, model, dtype)
    write_card(folder, card)


def write_card(folder: Path, card: ModelCard) -> None:
    """Write `model.json`."""
    (folder / _CARD).write_text(json.dumps(dataclasses.asdict(card), indent=2) + "\n")


def _with_adapter(table: dict[str, Any]) -> dict[str, Any]:
    """A card in whose file the name of an adapter is a key: {"nnx": "package.module:factory"}."""
    kinds = [key for key in ADAPTERS.names() if key in table]
    found = kinds + [key for key in ("architecture", "adapter") if table.get(key)]
    if len(found) != 1:
        raise ConfigError(
            f"names {' and '.join(found) or 'no model'}; give either architecture or one of "
            f"{', '.join(ADAPTERS.names())}"
        )
    for kind in kinds:
        rest = {key: value for key, value in table.items() if key != kind}
        return {"weights": ""} | rest | {"adapter": [kind, table[kind]]}
    return table
