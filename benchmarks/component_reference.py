"""The frozen reference of a network's parts."""

import dataclasses
from pathlib import Path

import numpy as np

from benchmarks.peers.results import ComponentResult
from benchmarks.reference_file import (
    FOLDER,
    arrays_of,
    from_u8,
    load,
    path_of,
    save,
    settings_of,
    targets_of,
    to_u8,
)
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.explainers.parts.components import ComponentAte

NAME = "components"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComponentReference:
    """Effects of all parts of a network on N images.

    Attributes:
      model: name of the bundled model.
      settings: of the method.
      images: float32 [N, H, W, C].
      targets: [N, ...].
      others: float32 [N, R, H, W, C], whose activations are put in.
      result: of all.
    """

    model: str
    settings: ComponentAte
    images: np.ndarray
    targets: SegmentTarget
    others: np.ndarray
    result: ComponentResult


def save_components(folder: Path, reference: ComponentReference) -> None:
    """Write to its .npz file; images are multiples of 1/255."""
    save(
        path_of(folder, NAME),
        reference,
        ("intervention", "outcome"),
        others_u8=to_u8(reference.others),
        **arrays_of(reference.targets),
        parts=np.array(reference.result.parts),
        effects=reference.result.effects,
        first_order=reference.result.first_order,
    )


def load_components(folder: Path = FOLDER) -> ComponentReference:
    """Read what `save_components` wrote."""
    file = load(path_of(folder, NAME))
    return ComponentReference(
        model=str(file["model"]),
        settings=ComponentAte(**settings_of(file)),
        images=from_u8(file["images_u8"]),
        targets=targets_of(file),
        others=from_u8(file["others_u8"]),
        result=ComponentResult(
            parts=tuple(file["parts"].tolist()),
            effects=file["effects"],
            first_order=file["first_order"],
        ),
    )
