"""The demonstration: real brain MRI slices, a bundled model, both explainers, one report."""

import dataclasses
import time
from pathlib import Path

from jaxseg_xai.explainers import Ate, Misure
from jaxseg_xai.store.store import ExplanationStore
from jaxseg_xai.sweep.config import DataConfig, SweepConfig
from jaxseg_xai.sweep.run import SweepResult, run_sweep


@dataclasses.dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Explain held-out slices of the MNI152 brain with MiSuRe and ATE, and write a report.

    Attributes:
      out: folder to write: `demo.zarr` and `report.html`.
      quick: two slices, one class, fewer iterations and interventions, to see that all works.
    """

    out: Path = Path("runs/demo")
    quick: bool = False

    def sweep(self) -> SweepConfig:
        """The sweep it stands for."""
        full = not self.quick
        return SweepConfig(
            out=self.out / ("demo.zarr" if full else "quick.zarr"),
            data=DataConfig(limit=3 if full else 2),
            classes=("grey matter", "white matter") if full else ("white matter",),
            misure=Misure() if full else Misure(num_iterations=20),
            ate=Ate(block_size=16, num_patches=50 if full else 10),
            batch_size=2,
        )


def run_demo(config: DemoConfig) -> SweepResult:
    """Run the sweep, write the report, say where the time went."""
    from jaxseg_xai.report.gallery import write_report

    sweep = config.sweep()
    start = time.perf_counter()
    result = run_sweep(sweep)
    swept = time.perf_counter()
    report = write_report(ExplanationStore.open(sweep.out), config.out / "report.html")
    done = time.perf_counter()
    compute = sum(result.compute_seconds.values())
    print(
        f"compile {result.compile_seconds:.1f} s, compute {compute:.1f} s, "
        f"data and store {swept - start - compute - result.compile_seconds:.1f} s, "
        f"report {done - swept:.1f} s"
    )
    for name, count in result.computed.items():
        if count:
            print(f"{name}: {count / result.compute_seconds[name]:.2f} explanations/s")
    print(f"report: {report.resolve()}")
    return result
