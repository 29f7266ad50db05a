"""`python -m benchmarks.workers`: two workers of this machine against one process with all cores.

Both begin with starting Python and loading JAX and the model, and find their programs compiled on
disk; a worker has half of the cores, and half of the images at a time. By turns, several times.
"""

import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import tyro

from benchmarks.methods.inputs import REFERENCE
from jaxseg_xai.core.fields import check, setting
from jaxseg_xai.explainers.ate.ate import Ate
from jaxseg_xai.store import ZarrStore
from jaxseg_xai.sweeps.config import DataConfig, Job, SweepConfig
from jaxseg_xai.sweeps.launch import launch

_ATE = Ate(block_size=16, num_screen=2, num_patches=8)
#: Explanations at a time, and the side of the images.
_BATCH, _SIDE = 8, 128
#: Of the same interventions, in batches of another shape.
_TOLERANCE = 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Time a sweep by one process and by two workers, and compare what they store.

    Attributes:
      rows: explanations.
      repetitions: of either.
      workers: instead of two.
    """

    rows: int = setting(256, at_least=1)
    repetitions: int = setting(3, at_least=1)
    workers: int = setting(2, at_least=2, at_most=_BATCH)


def sweep(out: Path, rows: int, workers: int) -> float:
    """Seconds of a sweep by so many processes."""
    config = SweepConfig(
        out=out,
        model=str(REFERENCE),
        data=DataConfig(source="triangle", size=_SIDE, num=rows),
        explain=(Job(label="ate", explainer=_ATE),),
        batch_size=_BATCH // workers,
        workers=workers,
    )
    start = time.perf_counter()
    launch(config)
    return time.perf_counter() - start


def largest_difference(one: Path, other: Path) -> float:
    """Between the maps of two stores."""
    maps = [
        np.stack([np.asarray(store.read(row).attribution) for row in store.rows()])
        for store in map(ZarrStore.open, (one, other))
    ]
    return float(np.max(np.abs(maps[0] - maps[1])))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; exit code 1 where the maps differ."""
    config = tyro.cli(Config, args=arguments, prog="python -m benchmarks.workers")
    check(config)
    with tempfile.TemporaryDirectory() as name:
        folder, numbers = Path(name), (1, config.workers)
        # The workers take it over, so that what one has compiled the next one finds.
        jax.config.update("jax_compilation_cache_dir", str(folder / "programs"))
        outs = [folder / f"first-{number}.zarr" for number in numbers]
        for out, number in zip(outs, numbers, strict=True):
            sweep(out, config.rows, number)
        worst = largest_difference(*outs)
        ratios = []
        for turn in range(config.repetitions):
            one, several = (sweep(folder / f"{turn}-{n}.zarr", config.rows, n) for n in numbers)
            ratios.append(one / several)
            print(f"one process {one:.2f} s, {config.workers} workers {several:.2f} s", flush=True)
    low, high = min(ratios), max(ratios)
    print(
        f"speed of {config.workers} workers over one process, {config.rows} explanations: "
        f"{statistics.median(ratios):.3f} ({low:.3f} to {high:.3f})\n"
        f"largest difference of the maps: {worst:.2g} (at most {_TOLERANCE:g})"
    )
    return int(worst > _TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
