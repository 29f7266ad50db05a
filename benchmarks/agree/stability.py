"""How far MiSuRe's region is that of the image, and what a reproducible one costs.

    python -m benchmarks.agree.stability                     # the bundled brain model
    python -m benchmarks.agree.stability --real FOLDER       # and the retina U-Net, see `published`

Every image is explained `--runs` times, each of its values moved by its own 2^-20 (as the metric
`rounding_stability` does). Each explanation searches `--starts` times, and of the regions that the
searches keep all forms of the table are made, so that they are compared on the same searches:

    search        of the first start alone: `misure`
    half of n     what at least half of n starts keep: `stable_misure` with `num_starts` n
    any of n      what at least one of them keeps: with `share` 0, too
    loss          the published loss: `misure_paper`, its pixels above 0.5

and the columns are the median over the images of the mean IoU of every two runs' regions, and the
smallest; the area over that of the single search; hard Dice, the smallest; cost in explanations.
"""

import argparse
import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.agree.published import load_retina
from jaxseg_xai.core.types import Explanation, SegmentTarget
from jaxseg_xai.data import open_dataset
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers import Batch, Explainer, Problem, explain
from jaxseg_xai.explainers.misure.paper import MisurePaper
from jaxseg_xai.explainers.misure.stable import StableMisure
from jaxseg_xai.explainers.misure.stages import Found, Job, MaskedModel
from jaxseg_xai.models import Bundle, load_model
from jaxseg_xai.ops.dice import hard_dice
from jaxseg_xai.ops.random import make_key
from jaxseg_xai.ops.ranking import mean_of_pairs, overlaps

#: The retina net was trained on patches of 48 pixels.
_PATCH = 48


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class EveryStart(StableMisure):
    """`StableMisure` that also tells what every search keeps: maps `start_0`, `start_1`, ..."""

    name: ClassVar[str] = "every_start"

    def together(self, model: MaskedModel, job: Job, found: Found) -> Found:
        """See `Stage2.together`."""
        all_of_them = super().together(model, job, found)
        each = {f"start_{i}": found.mask[i] > 0.5 for i in range(self.num_starts)}
        return all_of_them._replace(maps=all_of_them.maps | each)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """A model, images [N, H, W, C] and the class that is explained."""

    bundle: Bundle
    images: np.ndarray
    class_index: int

    @functools.cached_property
    def targets(self) -> SegmentTarget:
        """The model's own segments, leaves [N, ...]."""
        segmenter = self.bundle.segmenter
        logits = jax.jit(segmenter.logits)(self.bundle.variables, self.images)
        segments = [segmenter.output.segment_of(each, self.class_index) for each in logits]
        reference = np.stack([np.asarray(segment) for segment in segments])
        classes = np.full(len(reference), self.class_index, np.int32)
        return SegmentTarget(
            class_index=classes, region=np.ones(reference.shape, bool), reference=reference
        )

    def explain(self, method: Explainer, runs: int) -> Explanation:
        """Every image explained so many times; leaves [runs, N, ...]."""
        rng = np.random.default_rng(0)
        signs = rng.choice(np.array([-1, 1], np.float32), (runs, *self.images.shape))
        images = (self.images * (1 + np.float32(2**-20) * signs)).reshape(-1, *signs.shape[2:])
        tile = lambda leaf: np.tile(leaf, (runs, *[1] * (leaf.ndim - 1)))  # noqa: E731
        ids = np.stack([np.zeros(len(images)), np.arange(len(images))], axis=1)
        batch = Batch(
            images=images,
            targets=jax.tree.map(tile, self.targets),
            image_ids=ids.astype(np.uint32),
            valid=np.ones(len(images), bool),
        )
        problem = Problem(
            segmenter=self.bundle.segmenter, variables=self.bundle.variables, key=make_key(0)
        )
        found = explain(method, problem, batch, mesh=device_mesh(jax.devices()[:1]))
        return jax.tree.map(lambda leaf: np.asarray(leaf).reshape(runs, -1, *leaf.shape[1:]), found)

    def dices(self, regions: np.ndarray) -> np.ndarray:
        """Hard Dice of what is segmented from regions bool [runs, N, H, W]; [runs, N]."""
        return np.array([self._dices(each) for each in regions])

    @functools.cached_property
    def _dices(self) -> Callable[[np.ndarray], jax.Array]:
        segmenter, reference = self.bundle.segmenter, self.targets.reference

        def of_one(example: tuple) -> jax.Array:
            region, image, reference = example
            logits = segmenter.logits(self.bundle.variables, (image * region[..., None])[None])[0]
            return hard_dice(segmenter.output.segment_of(logits, self.class_index), reference)

        return jax.jit(lambda regions: jax.lax.map(of_one, (regions, self.images, reference)))


def rows(subject: Subject, runs: int, starts: int, loss: bool) -> Iterator[str]:
    """The lines of the table."""
    found = subject.explain(EveryStart(num_starts=starts), runs)
    kept = np.stack([found.maps[f"start_{i}"] for i in range(starts)])  # [starts, runs, N, H, W]
    single = kept.sum((3, 4)).mean((0, 1))
    yield _row("search", 1, subject, kept[0], single)
    number = 2
    while number <= starts:
        # Starts of a smaller number are every second of those of a larger one.
        some = kept[:: starts // number]
        yield _row(f"any of {number}", number, subject, _together(subject, some, 1), single)
        if number > 2:
            half = _together(subject, some, number // 2)
            yield _row(f"half of {number}", number, subject, half, single)
        number *= 2
    if loss:
        region = subject.explain(MisurePaper(), runs).attribution > 0.5
        yield _row("loss", 1, subject, region, single)


def _together(subject: Subject, kept: np.ndarray, needed: int) -> np.ndarray:
    """What so many searches keep, of regions bool [starts, runs, N, H, W]; see `StableMisure`."""
    region = np.take_along_axis(kept, kept.sum((3, 4)).argmin(0)[None, ..., None, None], 0)[0]
    for k in range(1, needed + 1):
        by_k = kept.sum(0) >= k
        enough = subject.dices(by_k) >= StableMisure.tau
        region = np.where(enough[..., None, None], by_k, region)
    return region


def _row(name: str, cost: int, subject: Subject, regions: np.ndarray, single: np.ndarray) -> str:
    """A line about regions bool [runs, N, H, W], beside the mean area [N] of single searches."""
    pairs = jax.jit(lambda each: mean_of_pairs(overlaps(each)))
    ious = np.array([float(pairs(jnp.asarray(regions[:, i]))) for i in range(regions.shape[1])])
    area = (regions.sum((2, 3)) / single).mean()
    dice = subject.dices(regions)
    numbers = (np.median(ious), ious.min(), area, dice.min())
    return f"| {name} | " + " | ".join(f"{number:.3f}" for number in numbers) + f" | {cost} |"


def brain(count: int, millimetres: int, class_name: str) -> Subject:
    """The bundled model on slices of the template that it sees the class in, of the test split
    first.
    """
    bundle = load_model("brain")
    splits = ("test", "validation", "train")
    sources = [open_dataset("brain", split=name, resolution_mm=millimetres) for name in splits]
    slices = np.stack([source[i].image for source in sources for i in range(len(source))])
    classes = bundle.segmenter.output.class_names
    every = Subject(bundle=bundle, images=slices, class_index=classes.index(class_name))
    has = every.targets.reference.any((1, 2))
    return dataclasses.replace(every, images=slices[has][:count])


def retina(folder: Path, count: int) -> Subject:
    """The public retina U-Net on patches in the middle of photographs."""
    with np.load(folder / "retina10.npz") as file:
        photos = (file["images_u8"] / 255).astype(np.float32)
    corners = [(180, 360), (180, 140)]  # where there are vessels
    patches = [
        photos[i % len(photos), y : y + _PATCH, x : x + _PATCH, None]
        for i in range(count)
        for y, x in [corners[i // len(photos)]]
    ]
    return Subject(bundle=load_retina(folder), images=np.stack(patches), class_index=1)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--real", type=Path, help="folder of the retina's files")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--starts", type=int, default=4, help="a power of two")
    parser.add_argument("--millimetres", type=int, default=2, help="resolution of the brain")
    parser.add_argument("--class-name", default="white matter", help="of the brain")
    parser.add_argument("--loss", action="store_true", help="the published loss, too")
    options = parser.parse_args()
    if options.real:
        subject = retina(options.real, options.images)
    else:
        subject = brain(options.images, options.millimetres, options.class_name)
    count, *size, _ = subject.images.shape
    print(f"{count} images of {size}, {options.runs} runs", flush=True)
    print("| region | IoU | smallest | area | smallest Dice | cost |\n|---|---|---|---|---|---|")
    for row in rows(subject, options.runs, options.starts, options.loss):
        print(row, flush=True)


if __name__ == "__main__":
    main()
