"""Results folders of nnU-Net v2, from the command line."""

import dataclasses
from pathlib import Path
from typing import Any

from jaxseg_xai.core.parse import from_table
from jaxseg_xai.models.adapters import Adapter
from jaxseg_xai.models.nnunet.load import Fold, from_nnunet


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Place:
    """The arguments of `from_nnunet`; the folder relative to the card's."""

    folder: str = "."
    fold: Fold | tuple[Fold, ...] = 0
    configuration: str | None = None
    checkpoint: str = "checkpoint_final.pth"
    mirror: bool = False
    prepared: bool = False


class NNUNetAdapter(Adapter):
    """The folder that training wrote; it has no Python object."""

    marker = "plans.json"

    @staticmethod
    def matches(model: Any) -> bool:
        """Never: see `from_nnunet`."""
        del model
        return False

    @staticmethod
    def open(place: Any, folder: Path, weights: Path | None) -> tuple[Any, Any]:
        """A folder, relative to the card's, or a table {"folder": ..., "fold": [0, 1], ...}.

        The table's keys are the arguments of `from_nnunet`.
        """
        del weights
        given = _Place(folder=place) if isinstance(place, str) else from_table(_Place, place)
        bundle = from_nnunet(
            folder / given.folder,
            given.fold,
            given.configuration,
            given.checkpoint,
            mirror=given.mirror,
            prepared=given.prepared,
        )
        return bundle, None
