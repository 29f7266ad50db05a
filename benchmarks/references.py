"""The frozen references in `benchmarks/reference`: inputs, settings and what the peers found."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.results import AteResult, MisureResult
from jaxseg_xai.explainers import Ate, MisurePaper
from jaxseg_xai.explainers.ate import Draws
from jaxseg_xai.types import SegmentTarget

#: Settings that a reference fixes: what the peers know. Others are left at their defaults.
ATE_SETTINGS = ("threshold", "block_size", "perturbation", "num_screen", "num_patches")
MISURE_SETTINGS = (
    "tau",
    "learning_rate",
    "weight_decay",
    "foreground_weight",
    "background_weight",
    "l1_weight",
    "tv_weight",
    "tv_power",
    "cut",
    "max_dilations",
    "num_iterations",
    "element_size",
    "mask_stride",
)

FOLDER = Path(__file__).resolve().parent / "reference"


@dataclasses.dataclass(frozen=True, kw_only=True)
class AteReference:
    """ATE of N images.

    Attributes:
      model: name of the bundled model.
      settings: of the method.
      images: float32 [N, H, W, C].
      targets: [N, ...].
      draws: [N, blocks, ...].
      results: one per image.
    """

    model: str
    settings: Ate
    images: np.ndarray
    targets: SegmentTarget
    draws: Draws
    results: tuple[AteResult, ...]

    def one(self, index: int) -> tuple[np.ndarray, SegmentTarget, Draws]:
        """Image `index` [H, W, C], its target, and its draws with a batch axis of one."""
        targets, draws, few = self.targets, self.draws, slice(index, index + 1)
        target = SegmentTarget(
            class_index=targets.class_index[index],
            region=targets.region[index],
            reference=targets.reference[index],
        )
        first = Draws(draws.patches, draws.screen[few], draws.full[few])
        return self.images[index], target, first


@dataclasses.dataclass(frozen=True, kw_only=True)
class MisureReference:
    """MiSuRe of N images, the whole image being the region.

    Attributes:
      model: name of the bundled model.
      settings: of the method.
      images: float32 [N, H, W, C].
      class_indices: int32 [N].
      result: of all.
    """

    model: str
    settings: MisurePaper
    images: np.ndarray
    class_indices: np.ndarray
    result: MisureResult


def save_ate(path: Path, reference: AteReference) -> None:
    """Write to an .npz file; images and patches are multiples of 1/255."""
    _save(
        path,
        reference,
        patches_u8=_to_u8(reference.draws.patches),
        screen=reference.draws.screen.astype(np.int16),
        full=reference.draws.full.astype(np.int16),
        class_index=reference.targets.class_index,
        region=reference.targets.region,
        reference=reference.targets.reference,
        ate=np.stack([result.ate for result in reference.results]),
        base_dice=np.array([result.base_dice for result in reference.results]),
        num_interventions=np.array([result.num_interventions for result in reference.results]),
    )


def save_misure(path: Path, reference: MisureReference) -> None:
    """Write to an .npz file; images are multiples of 1/255."""
    _save(path, reference, class_index=reference.class_indices, **vars(reference.result))


def load_ate(path: Path = FOLDER / "ate_triangle.npz") -> AteReference:
    """Read what `save_ate` wrote."""
    file = _load(path)
    outcomes = zip(file["ate"], file["base_dice"], file["num_interventions"], strict=True)
    return AteReference(
        model=str(file["model"]),
        settings=Ate(**json.loads(str(file["settings"]))),
        images=_from_u8(file["images_u8"]),
        targets=SegmentTarget(
            class_index=file["class_index"], region=file["region"], reference=file["reference"]
        ),
        draws=Draws(
            _from_u8(file["patches_u8"]),
            file["screen"].astype(np.int32),
            file["full"].astype(np.int32),
        ),
        results=tuple(
            AteResult(ate=ate, base_dice=float(base), num_interventions=int(count))
            for ate, base, count in outcomes
        ),
    )


def load_misure(path: Path = FOLDER / "misure_triangle.npz") -> MisureReference:
    """Read what `save_misure` wrote."""
    file = _load(path)
    names = [field.name for field in dataclasses.fields(MisureResult)]
    return MisureReference(
        model=str(file["model"]),
        settings=MisurePaper(**json.loads(str(file["settings"]))),
        images=_from_u8(file["images_u8"]),
        class_indices=file["class_index"],
        result=MisureResult(**{name: file[name] for name in names}),
    )


def _save(path: Path, case: AteReference | MisureReference, **arrays: Any) -> None:
    names = ATE_SETTINGS if isinstance(case, AteReference) else MISURE_SETTINGS
    np.savez_compressed(
        path,
        model=case.model,
        settings=json.dumps({name: getattr(case.settings, name) for name in names}),
        images_u8=_to_u8(case.images),
        **arrays,
    )


def _load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def _to_u8(values: np.ndarray) -> np.ndarray:
    return np.rint(values * 255).astype(np.uint8)


def _from_u8(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32) / np.float32(255)
