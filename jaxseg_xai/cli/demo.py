"""`jaxseg-xai demo`: a real brain MRI, a bundled model, two methods, one report."""

import dataclasses
import time
from pathlib import Path

from jaxseg_xai.cli.command import EXIT_OK, EXIT_SOME_FAILED, Command
from jaxseg_xai.store import ZarrStore
from jaxseg_xai.sweeps.config import RoiConfig, SweepConfig, make_job
from jaxseg_xai.sweeps.data import DataConfig
from jaxseg_xai.sweeps.run import run_sweep


@dataclasses.dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Explain held-out slices of the MNI152 brain with MiSuRe and ATE, and write a report.

    Attributes:
      out: folder to write: `demo.zarr` (`volume.zarr`) and `report.html`.
      quick: two slices, one class, fewer iterations and interventions, to see that all works.
      volume: instead the held-out front of the brain as a volume, each class in a cube of 24 mm,
        with the ATE in windows and Seg-Grad-CAM.
    """

    out: Path = Path("runs/demo")
    quick: bool = False
    volume: bool = False

    def sweep(self) -> SweepConfig:
        """The sweep it stands for."""
        return self._of_a_volume() if self.volume else self._of_slices()

    def _of_a_volume(self) -> SweepConfig:
        ate = {"method": "ate", "block_size": 16 if self.quick else 8}
        return SweepConfig(
            out=self.out / ("quick-volume.zarr" if self.quick else "volume.zarr"),
            model="brain-volume",
            data=DataConfig(source="brain-volume"),
            classes=("grey matter",) if self.quick else ("grey matter", "white matter"),
            roi=RoiConfig(kind="box", side=24, reference="prediction"),
            explain=(make_job(ate), make_job({"method": "grad_cam", "region": "roi"})),
            batch_size=1,
        )

    def _of_slices(self) -> SweepConfig:
        full = not self.quick
        misure = {"method": "misure"} | ({} if full else {"num_iterations": 20})
        ate = {"method": "ate", "block_size": 16, "num_patches": 50 if full else 10}
        return SweepConfig(
            out=self.out / ("demo.zarr" if full else "quick.zarr"),
            model="brain",
            data=DataConfig(source="brain", limit=3 if full else 2),
            classes=("grey matter", "white matter") if full else ("white matter",),
            explain=(make_job(misure), make_job(ate)),
            batch_size=2,
        )


def run(config: DemoConfig, command: str) -> int:
    """Run the sweep, write the report, say where the time went."""
    del command
    from jaxseg_xai.report.gallery import write_report

    sweep = config.sweep()
    start = time.perf_counter()
    result = run_sweep(sweep)
    swept = time.perf_counter()
    report = write_report(ZarrStore.open(sweep.out), config.out / "report.html")
    done = time.perf_counter()
    times = result.times
    compute = sum(times.compute_seconds.values())
    print(
        f"compile {times.compile_seconds:.1f} s, compute {compute:.1f} s, "
        f"data and store {swept - start - compute - times.compile_seconds:.1f} s, "
        f"report {done - swept:.1f} s"
    )
    for label, count in times.computed.items():
        if count:
            print(f"{label}: {count / times.compute_seconds[label]:.2f} explanations/s")
    print(f"report: {report.resolve()}")
    return EXIT_SOME_FAILED if result.num_failed else EXIT_OK


COMMAND = Command(config=DemoConfig, run=run, example="jaxseg-xai demo")
