"""`from_nnunet`: a results folder of nnU-Net v2 as a model."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxseg_xai.core.errors import ConfigError, ModelError
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.core.parse import from_table, json_of
from jaxseg_xai.core.segmenter import Segmenter
from jaxseg_xai.models.bundle import Bundle, ModelCard
from jaxseg_xai.models.folder import in_file, with_weights
from jaxseg_xai.models.nnunet.plans import read_plan
from jaxseg_xai.models.weights import pickled, read_weights
from jaxseg_xai.ops.sliding import SlidingWindow

Fold = int | str


def from_nnunet(
    folder: str | Path,
    fold: Fold | Sequence[Fold] = 0,
    configuration: str | None = None,
    checkpoint: str = "checkpoint_final.pth",
    *,
    mirror: bool = False,
    prepared: bool = False,
) -> Bundle:
    """A network that nnU-Net v2 has trained, with all that it does to images and logits.

        model = jaxseg_xai.from_nnunet("Dataset501_Toy/nnUNetTrainer__nnUNetPlans__2d")

    Images are normalised and resampled as its plans say, outside the model; the model itself
    is the sliding window. The configuration "2d" takes whole volumes, too, slice by slice, since
    nnU-Net normalises volumes; with `prepared` it takes the slices themselves.

    Volumes are [z, y, x, C] in the order in which SimpleITK reads them, with the spacing (z, y, x)
    in their `Sample`, and the numbers of the file. Pictures are in [0, 1], as our sources give
    them.

    Args:
      folder: the one with plans.json, dataset.json and fold_0.
      fold: which fold, or several, whose logits are averaged; "all" for the one of that name.
      configuration: "2d", "3d_fullres", ...; None: the one that the folder's name ends with.
      checkpoint: name of the file in the folder of the fold.
      mirror: average over mirrored images, as nnU-Net does unless told otherwise: 4 or 8 times
        the work.
      prepared: whether images are prepared already, by nnU-Net's own preprocessing say.

    Raises:
      ModelError: files are missing or damaged, do not belong together, or need what is not
        supported.
    """
    folder = Path(folder)
    plans, dataset = (_read_json(folder, name) for name in ("plans.json", "dataset.json"))
    name = configuration or folder.resolve().name.rpartition("__")[2]
    try:
        plan = read_plan(plans, dataset, name)
    except (ModelError, ConfigError) as error:
        raise ModelError(f"{folder}: {error}") from error
    folds = (fold,) if isinstance(fold, Fold) else tuple(fold)
    if not folds:
        raise ModelError("fold is empty; give the number of a fold, or several")
    card = ModelCard(
        architecture=plan.network.name,
        config=dataclasses.asdict(plan.network),
        class_names=plan.output.class_names,
        output={"activation": plan.output.activation},
    )
    rank, networks = len(plan.patch), []
    paths = [_checkpoint(folder, one, checkpoint) for one in folds]
    for path in paths:
        arrays = read_weights(path)
        try:
            networks.append(with_weights(card, plan.network, arrays))
        except ModelError as error:
            raise in_file(path, error) from error
    mirrored = _mirrored(paths[-1], rank) if mirror else ()
    apply = SlidingWindow(
        network=networks[0].segmenter.apply,
        patch=plan.patch,
        axes=tuple(range(rank)) if prepared else plan.axes,
        mirror=mirrored,
        num_folds=len(folds),
    )
    given = from_table(InputSpec, {"rank": rank, "channels": plan.input.channels, "raw": True})
    segmenter = Segmenter(
        apply=apply,
        input=given if prepared else plan.input,
        output=plan.output,
        sites=plan.network.sites(),
    )
    weights = tuple(network.variables for network in networks)
    return Bundle(
        name=str(plans.get("dataset_name", folder.name)),
        card=ModelCard(
            class_names=plan.output.class_names, weights="", about={"results": str(folder)}
        ),
        segmenter=segmenter,
        variables=weights if len(folds) > 1 else weights[0],
    )


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    if not path.is_file():
        raise ModelError(
            f"{folder}: no {name}, so it is no results folder of nnU-Net v2; give the one that "
            "training wrote, nnUNetTrainer__nnUNetPlans__2d for instance"
        )
    try:
        table = json_of(path)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: damaged ({error}); copy it again") from error
    if not isinstance(table, dict):
        raise ModelError(f"{path}: holds a {type(table).__name__}, no table; copy it again")
    return table


def _checkpoint(folder: Path, fold: Fold, checkpoint: str) -> Path:
    inside = folder / f"fold_{fold}"
    if not inside.is_dir():
        found = sorted(path.name.removeprefix("fold_") for path in folder.glob("fold_*"))
        raise ModelError(
            f"{folder}: no fold {fold}; it has {', '.join(found) or 'none, so train first'}"
        )
    if not (inside / checkpoint).is_file():
        found = sorted(path.name for path in inside.glob("*.pth"))
        raise ModelError(
            f"{inside}: no {checkpoint}; it has {', '.join(found) or 'none, so train first'}"
        )
    return inside / checkpoint


def _mirrored(path: Path, rank: int) -> tuple[int, ...]:
    """Axes along which training mirrored; not all of them where sides matter."""
    axes = pickled.read(path).root.get("inference_allowed_mirroring_axes", range(rank))
    return tuple(axes or ())
