"""What a sweep will take, measured: a batch of each of its programs is compiled and run."""

import dataclasses
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxseg_xai.core.version import VERSION
from jaxseg_xai.ops.patches import PatchPool
from jaxseg_xai.store import ZarrStore
from jaxseg_xai.store.layout import IMAGES
from jaxseg_xai.store.precision import Storage
from jaxseg_xai.sweeps.config import Job
from jaxseg_xai.sweeps.cost import Cost
from jaxseg_xai.sweeps.engine import Engine, batch_size
from jaxseg_xai.sweeps.run import entry_of
from jaxseg_xai.sweeps.times import Times
from jaxseg_xai.sweeps.work import Work

#: Size of an image as the model takes it -> positions among the chosen ones of some that have it.
Sizes = Mapping[tuple[int, ...], Sequence[int]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """A batch of one method on images of one size, into a store that is thrown away.

    Attributes:
      label: of the entry.
      size: S of the images.
      num_programs: that were compiled.
      compile_seconds: what that took.
      seconds: of an explanation, where there is something to explain.
      share: of the rows, in which there is.
      image_seconds: of reading, predicting and writing, for an image with its rows.
      row_bytes: of a row on disk.
      image_bytes: of an image on disk, with its labels and prediction.
    """

    label: str
    size: tuple[int, ...]
    num_programs: int
    compile_seconds: float
    seconds: float
    share: float
    image_seconds: float
    row_bytes: float
    image_bytes: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a whole sweep will take, as far as it was measured.

    Attributes:
      trials: what was measured.
      missing: labels of which nothing was measured, the time being over.
      num_programs: to compile.
      compile_seconds: what that takes.
      explain_seconds: of all explanations.
      other_seconds: of reading, predicting and writing.
      num_bytes: on disk.
    """

    trials: tuple[Trial, ...]
    missing: tuple[str, ...]
    num_programs: int
    compile_seconds: float
    explain_seconds: float
    other_seconds: float
    num_bytes: float

    @property
    def hours(self) -> float:
        """Of everything, one after another."""
        return (self.compile_seconds + self.explain_seconds + self.other_seconds) / 3600


def warm_up(
    work: Work, sizes: Sizes, *, storage: Storage, costs: Mapping[str, Cost], seconds: float
) -> Forecast:
    """Measure every method on every size, the commonest size first, and say what all will take.

    Args:
      work: the sweep, checked.
      sizes: of some images, evenly spaced; those of the others are taken to be the same.
      storage: how maps are stored.
      costs: label -> what is known without a trial; a batch that would take longer than the time
        that is left is not begun.
      seconds: after which no trial begins.

    Raises:
      JaxsegError: what the sweep itself would be refused for.
    """
    begin, rows = time.perf_counter(), len(work.chosen) * len(work.classes)
    at_a_time, trials = batch_size(work), []
    for size in sorted(sizes, key=lambda size: -len(sizes[size])):
        for job in work.jobs:
            left = seconds - (time.perf_counter() - begin)
            known = costs.get(job.label)
            a_batch = 0.0 if known is None else 3600 * known.hours / rows * at_a_time
            if left > a_batch:
                some = _positions(work, sizes, size, at_a_time)
                trials.append(_try(work, job, size, some, storage, at_a_time))
    return _forecast(work, sizes, trials)


def _positions(work: Work, sizes: Sizes, size: tuple[int, ...], at_a_time: int) -> Sequence[int]:
    """Images that fill a batch; where sizes differ, only those are known that were looked at."""
    number = -(-at_a_time // len(work.classes))
    if len(sizes) > 1:
        return sizes[size][:number]
    step = max(1.0, len(work.chosen) / number)
    return [int((i + 0.5) * step) for i in range(int(len(work.chosen) / step))]


def _try(
    work: Work,
    job: Job,
    size: tuple[int, ...],
    positions: Sequence[int],
    storage: Storage,
    at_a_time: int,
) -> Trial:
    some = dataclasses.replace(work, chosen=tuple(work.chosen[n] for n in positions), jobs=(job,))
    pools = {side: work.make_pool(side) for side in some.patch_sides()}
    one = _run(some, job, storage, pools, at_a_time)
    compiling, took = one.times.compile_seconds, one.times.compute_seconds[job.label]
    if not job.explainer.traceable:  # it compiles as it computes: once more, to tell them apart
        one = _run(some, job, storage, pools, at_a_time)
        again = one.times.compute_seconds[job.label]
        compiling, took = compiling + max(0.0, took - again), again
    rows, number = len(positions) * len(work.classes), one.times.computed[job.label]
    other = max(0.0, one.seconds - one.times.compile_seconds - took)
    return Trial(
        label=job.label,
        size=size,
        num_programs=one.times.num_programs,
        compile_seconds=compiling,
        seconds=took / max(1, number),
        share=number / rows,
        image_seconds=other / len(positions),
        row_bytes=one.row_bytes / rows,
        image_bytes=one.image_bytes / len(positions),
    )


@dataclasses.dataclass(frozen=True)
class _Run:
    times: Times
    seconds: float
    row_bytes: int
    image_bytes: int


def _run(
    work: Work, job: Job, storage: Storage, pools: dict[int, PatchPool], at_a_time: int
) -> _Run:
    with tempfile.TemporaryDirectory() as folder:
        store = ZarrStore.create_or_resume(
            Path(folder) / "s.zarr",
            entries=[entry_of(work, job)],
            plan=work.plan(),
            config={},
            attrs=storage.attributes(),
            rank=work.bundle.segmenter.input.rank,
            version=VERSION,
        )
        begin = time.perf_counter()
        times = Engine(work, store, pools, progress=False, size=at_a_time).run()
        store.close()
        seconds = time.perf_counter() - begin
        return _Run(times, seconds, *(_bytes(store.path / name) for name in (job.label, IMAGES)))


def _bytes(folder: Path) -> int:
    """Of the chunks of a group; what else it holds does not grow."""
    return sum(path.stat().st_size for path in folder.rglob("c.*"))


def _forecast(work: Work, sizes: Sizes, trials: Sequence[Trial]) -> Forecast:
    found = {(one.label, one.size): one for one in trials}
    total = sum(map(len, sizes.values()))
    missing = [job.label for job in work.jobs if not any(job.label == t.label for t in trials)]
    labels = [job.label for job in work.jobs if job.label not in missing]
    programs, sums = 0, dict.fromkeys(("compile", "explain", "other", "bytes"), 0.0)
    for size, some in sizes.items():
        images = len(work.chosen) * len(some) / total
        for label in labels:
            one = found.get((label, size)) or next(t for t in trials if t.label == label)
            # Another size that was not tried: as many times as long as it has pixels.
            scale = math.prod(size) / math.prod(one.size)
            rows = images * len(work.classes)
            programs += one.num_programs
            sums["compile"] += one.compile_seconds
            sums["explain"] += rows * one.share * one.seconds * scale
            sums["bytes"] += rows * one.row_bytes * scale
            if label == labels[0]:  # an image is read, predicted and kept once for all methods
                sums["bytes"] += images * one.image_bytes * scale
                sums["other"] += images * one.image_seconds * scale
    return Forecast(
        trials=tuple(trials),
        missing=tuple(missing),
        num_programs=programs,
        compile_seconds=sums["compile"],
        explain_seconds=sums["explain"],
        other_seconds=sums["other"],
        num_bytes=sums["bytes"],
    )
