"""Images of many sizes, compiling included: padded to common sizes against images of one size."""

import contextlib
import dataclasses
import importlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np
from jax.sharding import Mesh

import jaxseg_xai
from benchmarks.agree.verdict import Bound, judge
from benchmarks.harness.machine import peak_memory
from benchmarks.harness.record import Measurement, Row, Timing
from benchmarks.harness.settings import Settings
from benchmarks.harness.timing import phase
from benchmarks.methods.base import Case
from benchmarks.methods.inputs import name_of_model
from jaxseg_xai.core.types import Sample
from jaxseg_xai.explainers import Explainer
from jaxseg_xai.explainers.ate.ate import Ate
from jaxseg_xai.explainers.cam.grad_cam import GradCam
from jaxseg_xai.explainers.gradient.integrated_gradients import IntegratedGradients
from jaxseg_xai.explainers.misure.search import Misure
from jaxseg_xai.explainers.perturbation.occlusion import Occlusion
from jaxseg_xai.explainers.uncertainty.confidence import Confidence
from jaxseg_xai.sweeps.sizes import Sizes

_IMAGES, _QUICK_IMAGES = 50, 3
#: The eight sizes for which compiling took 40 times as long as explaining.
_EIGHT = tuple((round(64 + 48 * step / 7), 64) for step in range(8))
#: The most programs of a method.
_PROGRAMS = 4
#: What a sweep does once, whatever the number of images.
_LOOKS = (
    "jaxseg_xai.facade.sweep.with_common_sizes",
    "jaxseg_xai.sweeps.stored.effect_of_padding",
)
_Methods = tuple[Explainer, ...]
_MAPS: _Methods = (Confidence(), GradCam(), IntegratedGradients(), Occlusion(block_size=16))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SizesCase(Case):
    """Triangle images of sides from a quarter of the size to all of it, each with its own.

    Nothing is compiled beforehand, and nothing is kept from one run to the next.

    Attributes:
      methods: what is computed.
      quick_methods: the same with --quick.
    """

    methods: _Methods
    quick_methods: _Methods

    def run(self, settings: Settings, mesh: Mesh) -> Measurement:
        """See `Case.run`."""
        count = _QUICK_IMAGES if settings.quick else _IMAGES
        methods = self.quick_methods if settings.quick else self.methods
        sides = np.random.default_rng(0).choice(
            np.arange(settings.size // 4, settings.size + 1), count, replace=False
        )
        many = [(int(side), int(side)) for side in sides]
        # In the middle, and of a size that the model takes.
        middle = 16 * round(statistics.median(map(int, sides)) / 16)
        wanted: list[tuple[str, list[tuple[int, int]], Sizes]] = [
            ("many sizes", many, "bucket"),
            ("one size", [(middle, middle)] * count, "native"),
        ]
        if not settings.quick:
            wanted.append(("eight sizes", list(_EIGHT), "bucket"))
        rows: list[Row] = []
        for explainer in methods:
            for name, sizes, policy in wanted:
                row: Row = {"method": explainer.name, "images": name}
                rows.append(row | _cold(settings, explainer, sizes, policy))
        bounds = [
            Bound("programs of a method", max(_numbers(rows, "many sizes", "programs")), _PROGRAMS),
            Bound("explanations that failed", sum(float(row["failed"] or 0) for row in rows), 0.0),
        ]
        for row in rows:
            one = next(r for r in rows if (r["method"], r["images"]) == (row["method"], "one size"))
            for column in ("seconds", "seconds_warm"):
                row[f"{column}_over_one_size"] = float(row[column] or 0) / float(one[column] or 0)
        return Measurement(
            compile_seconds=sum(float(row["compile_seconds"] or 0) for row in rows),
            timings={"ours": Timing.of([sum(_numbers(rows, "many sizes", "seconds"))])},
            work={"explanations": float(count * len(methods))},
            flops=None,
            flops_of="not counted",
            memory=peak_memory(None, mesh),
            validation=judge(*bounds, why="few programs explain images of many sizes"),
            series={"sizes": rows},
        )


def _numbers(rows: Sequence[Row], images: str, column: str) -> list[float]:
    return [float(row[column] or 0) for row in rows if row["images"] == images]


class _Source:
    """Triangle images of given sizes."""

    class_names = ("background", "triangle")

    def __init__(self, sizes: Sequence[tuple[int, int]]) -> None:
        self._sizes = sizes
        self.ids = tuple(f"triangle-{number:03d}" for number in range(len(sizes)))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        height, width = self._sizes[index]
        triangles = jaxseg_xai.open_dataset("triangle", size=max(height, width), num=index + 1)
        sample = triangles[index]
        image, labels = (np.asarray(x)[:height, :width] for x in (sample.image, sample.labels))
        return Sample(id=self.ids[index], image=image, labels=labels)


def _cold(
    settings: Settings, explainer: Explainer, sizes: Sequence[tuple[int, int]], policy: Sizes
) -> Row:
    """A sweep with one method, from nothing."""
    phase(f"{explainer.name} of {len(set(sizes))} sizes")
    jaxseg_xai.clear_caches()
    jax.clear_caches()
    with tempfile.TemporaryDirectory() as folder:
        model = name_of_model(settings, Path(folder))
        with _looking() as looking:
            start = time.perf_counter()
            result = jaxseg_xai.sweep(
                model=model,
                data=_Source(sizes),
                explain=[explainer],
                out=Path(folder) / "store",
                classes="triangle",
                batch_size=settings.lanes,
                sizes=policy,
                progress=False,
            )
            seconds = time.perf_counter() - start
    compiling = result.times.compile_seconds
    return {
        "seconds": seconds,
        "compile_seconds": compiling,
        "looking_seconds": sum(looking),
        "seconds_warm": seconds - compiling - sum(looking),
        "programs": float(len(result.sizes.get("padded_to", [0]))),
        "failed": float(result.num_failed),
    }


@contextlib.contextmanager
def _looking() -> Iterator[list[float]]:
    """Seconds in which a sweep looks at its images' sizes, and what padding changes: once."""
    seconds: list[float] = []

    def timed(function: Callable) -> Callable:
        def call(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            found = function(*arguments, **options)
            seconds.append(time.perf_counter() - start)
            return found

        return call

    with contextlib.ExitStack() as stack:
        for place in _LOOKS:
            module, _, name = place.rpartition(".")
            home = importlib.import_module(module)
            stack.enter_context(mock.patch.object(home, name, timed(getattr(home, name))))
        yield seconds


def _case(name: str, about: str, methods: _Methods, quick_methods: _Methods) -> SizesCase:
    return SizesCase(
        name=name,
        about=f"{about} of 50 images of 50 sizes padded to common ones, cold, against one size",
        defaults=Settings(model="reference", size=384, lanes=8),
        quick=Settings(model="triangle", size=64, lanes=4),
        has_peers=False,
        all_devices=True,
        methods=methods,
        quick_methods=quick_methods,
    )


SIZES = (
    _case("sizes", "MiSuRe", (Misure(),), (Misure(num_iterations=2, max_dilations=4),)),
    # Larger blocks than usual: less to explain beside what is compiled, and done in minutes.
    _case(
        "sizes-ate",
        "the ATE",
        (Ate(block_size=16),),
        (Ate(block_size=32, num_screen=1, num_patches=2),),
    ),
    _case("sizes-maps", "quicker methods", _MAPS, _MAPS),
)
