"""What a sweep explains, as objects: checked, with its plan, before the first image is read."""

import dataclasses
import functools
import logging
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg_xai.core.errors import ConfigError, DataError, JaxsegError, ModelError
from jaxseg_xai.core.inputs import prepare
from jaxseg_xai.core.output_spec import OutputSpec
from jaxseg_xai.core.types import Source
from jaxseg_xai.data.checks import read_item
from jaxseg_xai.data.pdcr import read_regions
from jaxseg_xai.data.pool import build_patch_pool, read_patch_pool
from jaxseg_xai.explainers import Explainer
from jaxseg_xai.explainers.runner import check_method, check_output
from jaxseg_xai.models import Bundle
from jaxseg_xai.ops.patches import PatchPool
from jaxseg_xai.store.records import PlanRow
from jaxseg_xai.sweeps.config import Job, RoiConfig, check_jobs
from jaxseg_xai.sweeps.regions import Region
from jaxseg_xai.sweeps.targets import Reference, check_mistakes
from jaxseg_xai.sweeps.tiles import MAX_PIXELS, Tiling, is_too_large, largest_tile, make_tiling

#: A model that takes none of so many images is wrong.
_MAX_TRIED = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """A model, images, classes and methods.

    Attributes:
      bundle: the model.
      source: the images.
      chosen: which of them.
      jobs: the methods.
      classes: numbers of the classes to explain.
      roi: the region of methods that explain a region.
      corners: name of an image -> where its region begins, on the model's grid; {}: as `roi` says.
      others: where patches and other images come from; None: from `source`.
      num_patches: size of a pool of patches.
      patches: folder of patches that are such a pool; None: they are cut from images.
      batch_size: explanations at a time, over all devices.
      readers: processes that read images ahead; 0: a thread of this one.
      seed: of all draws.
      keep_labels: whether ground truth is read and stored where no method needs it.
      tile: whether every target is explained on a tile around it, not only those of images of more
        than `max_pixels`.
      max_pixels: of what goes through the model at once; None: 2**22, or whatever an image has
        where the model itself cuts images up or takes one size only.
    """

    bundle: Bundle
    source: Source
    chosen: tuple[int, ...]
    jobs: tuple[Job, ...]
    classes: tuple[int, ...]
    roi: RoiConfig = dataclasses.field(default_factory=RoiConfig)
    corners: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    others: Source | None = None
    num_patches: int = 1000
    patches: Path | None = None
    batch_size: int = 8
    readers: int = 0
    seed: int = 0
    keep_labels: bool = False
    tile: bool = False
    max_pixels: int | None = None

    def check(self) -> None:
        """Raise `JaxsegError` for what cannot be explained, whatever the images."""
        least_of = {"batch_size": 1, "num_patches": 2, "seed": 0}
        if self.max_pixels is not None:
            least_of["max_pixels"] = 1
        for name, least in least_of.items():
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or not least <= value < 2**32:
                raise ConfigError(f"{name} is {value!r}; it must be an integer in [{least}, 2**32)")
        check_jobs(self.jobs)
        for job in self.jobs:
            check_mistakes(job.label, job.explainer, self.region_of(job), self.reference_of(job))
        if self.tile and self.bundle.segmenter.input.fixed_size is not None:
            raise ConfigError(
                "sizes is tile, and the model takes images of one size only, to which all are "
                "resized; leave sizes out"
            )
        if not self.chosen:
            raise DataError("the data set has no image to explain")
        check_classes(self.bundle, self.source, needed=self.needs_labels)
        segmenter, shape = self.bundle.segmenter, self.image_shape
        if shape is None:
            return
        for job in self.jobs:
            check_method(job.explainer, segmenter, self.bundle.variables, shape)

    def is_too_large(self, size: tuple[int, ...]) -> bool:
        """Whether an image of a prepared size goes through the model tile by tile."""
        return is_too_large(self.bundle.segmenter, size, self.max_pixels)

    @functools.cached_property
    def tiling(self) -> Tiling:
        """The tiles."""
        bundle = self.bundle
        return make_tiling(bundle.segmenter, bundle.variables, self.max_pixels or MAX_PIXELS)

    @functools.cached_property
    def image_shape(self) -> tuple[int, ...] | None:
        """(*S, C) of the first image that the model takes, as it takes it; None: none can be read.

        Models and methods are tried on it, for a description need not say which sizes are too
        small.

        Raises:
          ModelError: the model takes none of the first images: it is wrong, not they.
        """
        segmenter = self.bundle.segmenter
        refused: dict[tuple[int, ...], ModelError] = {}
        for number, index in enumerate(self.chosen):
            if refused and number >= _MAX_TRIED:
                break
            try:
                shape = prepare(read_item(self.source, index), segmenter.input).image.shape
            except JaxsegError:  # its rows say why
                continue
            if self.is_too_large(shape[:-1]):
                size = largest_tile(segmenter.input, self.max_pixels or MAX_PIXELS)
                shape = (*map(min, size, shape[:-1]), shape[-1])
            if shape in refused:
                continue
            try:
                check_output(segmenter, self.bundle.variables, shape)
            except ModelError as error:
                refused[shape] = error
                continue
            return shape
        for error in refused.values():
            raise error
        return None

    @property
    def needs_labels(self) -> bool:
        """Whether ground truth is looked at, or kept."""
        return self.keep_labels or look_at_labels(self.jobs, self.roi)

    def region_of(self, job: Job) -> Region:
        """The region that a job explains."""
        if job.region is not None and job.region.kind != "roi":
            return job.region
        return self.roi.region() if _by_roi(job) else Region()

    def region_in(self, job: Job, image_id: str) -> Region:
        """The region that a job explains in an image."""
        region = self.region_of(job)
        if not self._is_listed(job):
            return region
        return dataclasses.replace(region, corner=self.corners[image_id], seen=True)

    def _is_listed(self, job: Job) -> bool:
        return bool(self.corners) and _by_roi(job)

    def reference_of(self, job: Job) -> Reference:
        """Which pixels a job explains; "truth" stands for the prediction where there is none."""
        return reference_of(job, self.roi)

    def explainer_of(self, job: Job) -> Explainer:
        """The job's explainer; one that knows how to need not look beyond the region's box."""
        region = self.region_of(job)
        # A box counts the sample's pixels: what it measures in a resized image differs by image.
        own = self._is_listed(job) or not self.bundle.segmenter.input.resizes
        known = region.kind == "box" and own
        return job.explainer.in_box(region.side) if known else job.explainer

    def plan(self) -> dict[str, list[PlanRow]]:
        """Label -> its rows: every image x class, in order."""
        return {
            job.label: [
                PlanRow(
                    image_index=position,
                    image_id=self.source.ids[index],
                    class_index=class_index,
                    region_name=self.region_of(job).name,
                )
                for position, index in enumerate(self.chosen)
                for class_index in self.classes
            ]
            for job in self.jobs
        }

    def patch_sides(self) -> tuple[int, ...]:
        """Sides of the patches that are drawn, ascending."""
        explainers = [job.explainer for job in self.jobs]
        return tuple(sorted({e.patch_side for e in explainers if "patches" in e.needs}))

    def make_pool(self, side: int) -> PatchPool:
        """Patches of a side; DataError where there are not enough images to cut them from."""
        if self.patches is not None:
            spec = self.bundle.segmenter.input
            pool = read_patch_pool(self.patches, spec, block_size=side, source=self.source)
            pool.check([self.source.ids[index] for index in self.chosen])
            return pool
        try:
            pool = build_patch_pool(
                self.others or self.source,
                self.bundle.segmenter.input,
                block_size=side,
                num_patches=self.num_patches,
                seed=self.seed,
                fewest=2 if self.others is None else 1,
            )
            pool.check([self.source.ids[index] for index in self.chosen])
        except DataError as error:
            raise DataError(
                f"{error} (others= or others_source names images that give patches; "
                'perturbation="zero" needs none)'
            ) from error
        return pool


def _by_roi(job: Job) -> bool:
    """Whether the sweep's `roi` says which region a job explains."""
    if job.region is None:
        return job.explainer.meta.target != "prediction"
    return job.region.kind == "roi"


def listed(
    roi: RoiConfig, source: Source, chosen: Sequence[int]
) -> tuple[tuple[int, ...], dict[str, tuple[int, ...]]]:
    """Those of the chosen images that the list of regions names, and where their boxes begin.

    All of them, and nothing, where there is no list.

    Raises:
      DataError: the list cannot be read, names an image twice, or none of the images.
    """
    if roi.file is None:
        return tuple(chosen), {}
    corners: dict[str, tuple[int, ...]] = {}
    for row in read_regions(roi.file):
        if row.image in corners:
            raise DataError(f"{roi.file}: {row.image} twice; a sweep explains one region an image")
        corners[row.image] = (row.top, row.left)
    found = tuple(index for index in chosen if source.ids[index] in corners)
    if not found:
        names = ", ".join(source.ids[index] for index in chosen[:3])
        raise DataError(
            f"{roi.file}: no region for any of the images ({names}, ...); name them as these are"
        )
    known = set(source.ids)
    if missing := [name for name in corners if name not in known]:
        logging.getLogger(__name__).warning(
            f"{roi.file}: {len(missing)} of {len(corners)} images are not in the data set and are "
            f"left out (the first: {missing[0]})"
        )
    return found, corners


def reference_of(job: Job, roi: RoiConfig) -> Reference:
    """Which pixels a job explains, with the usual region of a sweep."""
    if job.target is not None:
        return job.target
    usual = job.explainer.meta.target == "prediction" and not _by_roi(job)
    return "prediction" if usual else roi.reference


def look_at_labels(jobs: Sequence[Job], roi: RoiConfig) -> bool:
    """Whether one of the jobs looks at ground truth."""
    return any(reference_of(job, roi) != "prediction" for job in jobs)


def class_indices(names: Any, output: OutputSpec, model: str) -> tuple[int, ...]:
    """Numbers of the classes to explain.

    Args:
      names: one or several, names or numbers; where empty, all classes but the background.
      output: of the model.
      model: its name, for the message.

    Raises:
      ConfigError: a class that the model does not know.
    """
    known = output.class_names
    found = []
    for name in [names] if isinstance(names, str) or not np.iterable(names) else names:
        if isinstance(name, int | np.integer) and 0 <= name < len(known):
            found.append(int(name))
        elif name in known:
            found.append(known.index(name))
        else:
            raise ConfigError(f"unknown class {name}; {model} knows {', '.join(known)}")
    return tuple(dict.fromkeys(found)) or output.foreground


def check_classes(bundle: Bundle, source: Source, *, needed: bool) -> None:
    """Label maps are compared with predictions by number: the numbers must mean the same."""
    ours, theirs = bundle.segmenter.output.class_names, tuple(source.class_names)
    # A label map of classes that may overlap still has a background.
    same = theirs in ((), ours) or (bundle.segmenter.output.overlapping and theirs[1:] == ours)
    if needed and not same:
        raise ConfigError(
            f"the images are labelled {', '.join(theirs)}, but {bundle.name} segments "
            f"{', '.join(ours)}; set roi.reference to prediction (and leave out store_labels), or "
            "choose another model"
        )


def checksum(tree: Any) -> int:
    """crc32 of arrays: weights trained anew must not continue a store."""
    found = 0
    for leaf in jax.tree.leaves(tree):
        if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)  # of a dropout layer, say
        found = zlib.crc32(np.ascontiguousarray(jax.device_get(leaf)).tobytes(), found)
    return found
