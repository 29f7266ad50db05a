"""The frozen references in `benchmarks/reference`: inputs, settings and what the peers found."""

import dataclasses
from pathlib import Path

import numpy as np

from benchmarks.peers.results import AteResult, AttributionResult, MisureResult
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
from jaxseg_xai.explainers import (
    Ate,
    AteGradient,
    Confidence,
    GradCam,
    IntegratedGradients,
    Misure,
    MisurePaper,
)
from jaxseg_xai.explainers.ate.ate import Draws

#: Settings that a reference fixes: what the peers know. Others are left at their defaults.
ATE_SETTINGS = ("threshold", "block_size", "perturbation", "num_screen", "num_patches")
_STAGE_1 = ("tau", "max_dilations", "element_size")
_PUBLISHED_LOSS = (
    "weight_decay",
    "foreground_weight",
    "background_weight",
    "l1_weight",
    "tv_weight",
    "tv_power",
    "cut",
    "mask_stride",
)
_STAGE_2 = ("learning_rate", "num_iterations")
#: Forms of MiSuRe, and the settings of each.
MISURE_METHODS = {cls.name: cls for cls in (Misure, MisurePaper)}
MISURE_SETTINGS = {
    Misure.name: (*_STAGE_1, *_STAGE_2, "multiplier_rate", "max_misses", "patience"),
    MisurePaper.name: (*_STAGE_1, *_STAGE_2, *_PUBLISHED_LOSS),
}
#: Methods that look at one image, the settings of each that a reference fixes, and its scores.
MAP_METHODS = {cls.name: cls for cls in (GradCam, IntegratedGradients, Confidence)}
MAP_SETTINGS = {
    GradCam.name: (),
    IntegratedGradients.name: ("num_nodes",),
    Confidence.name: ("band_width", "rotate"),
}
MAP_SCORES = {
    GradCam.name: (),
    IntegratedGradients.name: (),
    Confidence.name: (
        "confidence",
        "entropy",
        "confidence_band",
        "entropy_band",
        "soft_dice_confidence",
        "tta_disagreement",
        "tta_pairwise",
    ),
}
#: Names of the two forms of the ATE's gradient, and their numbers of nodes.
GRADIENT_FORMS = {AteGradient.name: 1, f"{AteGradient.name}_path": 3}
_GRADIENT_SETTINGS = ("block_size", "num_fields", "num_nodes")


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
      stable: int32 [N], leading iterations that rounding leaves alone.
    """

    model: str
    settings: Misure | MisurePaper
    images: np.ndarray
    class_indices: np.ndarray
    result: MisureResult
    stable: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class MapReference:
    """A method of `MAP_METHODS` of N images, the whole image being the region.

    Attributes:
      model: name of the bundled model.
      settings: of the method.
      images: float32 [N, H, W, C].
      class_indices: int32 [N].
      result: of all.
    """

    model: str
    settings: GradCam | IntegratedGradients | Confidence
    images: np.ndarray
    class_indices: np.ndarray
    result: AttributionResult


@dataclasses.dataclass(frozen=True, kw_only=True)
class GradientReference:
    """The gradient form of the ATE of N images.

    Attributes:
      model: name of the bundled model.
      settings: of the method.
      images: float32 [N, H, W, C].
      targets: [N, ...].
      patches: float32 [P, b, b, C], the pool.
      patch_of: int32 [N, blocks, fields], the patch in each block of each field: what
        `jax.random.key(0)` draws for images numbered from 0 from a pool that none of them is in.
      result: of all.
    """

    model: str
    settings: AteGradient
    images: np.ndarray
    targets: SegmentTarget
    patches: np.ndarray
    patch_of: np.ndarray
    result: AttributionResult


def save_ate(folder: Path, name: str, reference: AteReference) -> None:
    """Write to the .npz file of a name; images and patches are multiples of 1/255."""
    save(
        path_of(folder, name),
        reference,
        ATE_SETTINGS,
        patches_u8=to_u8(reference.draws.patches),
        screen=reference.draws.screen.astype(np.int16),
        full=reference.draws.full.astype(np.int16),
        **arrays_of(reference.targets),
        ate=np.stack([result.ate for result in reference.results]),
        base_dice=np.array([result.base_dice for result in reference.results]),
        num_interventions=np.array([result.num_interventions for result in reference.results]),
    )


def save_misure(folder: Path, reference: MisureReference) -> None:
    """Write to the .npz file of the method; images are multiples of 1/255."""
    name = reference.settings.name
    save(
        path_of(folder, name),
        reference,
        MISURE_SETTINGS[name],
        class_index=reference.class_indices,
        stable=reference.stable,
        **vars(reference.result),
    )


def save_map(folder: Path, reference: MapReference) -> None:
    """Write to the .npz file of the method; images are multiples of 1/255."""
    name = reference.settings.name
    save(
        path_of(folder, name),
        reference,
        MAP_SETTINGS[name],
        class_index=reference.class_indices,
        attribution=reference.result.attribution,
        segment=reference.result.segment,
        **reference.result.scores,
    )


def save_gradient(folder: Path, name: str, reference: GradientReference) -> None:
    """Write to the .npz file of a name in `GRADIENT_FORMS`."""
    save(
        path_of(folder, name),
        reference,
        _GRADIENT_SETTINGS,
        patches_u8=to_u8(reference.patches),
        patch_of=reference.patch_of.astype(np.int16),
        **arrays_of(reference.targets),
        attribution=reference.result.attribution,
        segment=reference.result.segment,
    )


def load_ate(name: str = "ate", folder: Path = FOLDER) -> AteReference:
    """Read what `save_ate` wrote under a name: "ate", or "occlusion" by 0."""
    file = load(path_of(folder, name))
    outcomes = zip(file["ate"], file["base_dice"], file["num_interventions"], strict=True)
    return AteReference(
        model=str(file["model"]),
        settings=Ate(**settings_of(file)),
        images=from_u8(file["images_u8"]),
        targets=targets_of(file),
        draws=Draws(
            from_u8(file["patches_u8"]),
            file["screen"].astype(np.int32),
            file["full"].astype(np.int32),
        ),
        results=tuple(
            AteResult(ate=ate, base_dice=float(base), num_interventions=int(count))
            for ate, base, count in outcomes
        ),
    )


def load_misure(method: str, folder: Path = FOLDER) -> MisureReference:
    """Read what `save_misure` wrote of a method, a key of `MISURE_METHODS`."""
    file = load(path_of(folder, method))
    names = [field.name for field in dataclasses.fields(MisureResult)]
    return MisureReference(
        model=str(file["model"]),
        settings=MISURE_METHODS[method](**settings_of(file)),
        images=from_u8(file["images_u8"]),
        class_indices=file["class_index"],
        result=MisureResult(**{name: file[name] for name in names}),
        stable=file["stable"],
    )


def load_map(method: str, folder: Path = FOLDER) -> MapReference:
    """Read what `save_map` wrote of a method, a key of `MAP_METHODS`."""
    file = load(path_of(folder, method))
    return MapReference(
        model=str(file["model"]),
        settings=MAP_METHODS[method](**settings_of(file)),
        images=from_u8(file["images_u8"]),
        class_indices=file["class_index"],
        result=AttributionResult(
            attribution=file["attribution"],
            segment=file["segment"],
            scores={name: file[name] for name in MAP_SCORES[method]},
        ),
    )


def load_gradient(name: str, folder: Path = FOLDER) -> GradientReference:
    """Read what `save_gradient` wrote under a name."""
    file = load(path_of(folder, name))
    return GradientReference(
        model=str(file["model"]),
        settings=AteGradient(**settings_of(file)),
        images=from_u8(file["images_u8"]),
        targets=targets_of(file),
        patches=from_u8(file["patches_u8"]),
        patch_of=file["patch_of"].astype(np.int32),
        result=AttributionResult(attribution=file["attribution"], segment=file["segment"]),
    )
