"""`jaxseg-xai explain`: a few images, one model, one or more methods: pictures."""

import dataclasses
import shutil
from pathlib import Path

from jaxseg_xai.cli.command import Command, show_result
from jaxseg_xai.cli.dry_run import show_plan
from jaxseg_xai.cli.sweep_flags import parse_sweep
from jaxseg_xai.core.fields import setting
from jaxseg_xai.store import ZarrStore
from jaxseg_xai.sweeps.config import SweepConfig
from jaxseg_xai.sweeps.run import run_sweep

_OUT = Path("runs/explain")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExplainConfig(SweepConfig):
    """A few images, one model, one or more methods: PNG figures (and a small store).

    Attributes:
      out: folder to write: `figures/` and the store `explanations.zarr`.
    """

    out: Path = setting(_OUT, idle=True)


def run(config: ExplainConfig, command: str) -> int:
    """Run a sweep into the folder and draw what it found."""
    del command
    if config.dry_run:
        return show_plan(config)
    from jaxseg_xai.report.files import save_figures

    store, figures = config.out / "explanations.zarr", config.out / "figures"
    result = run_sweep(dataclasses.replace(config, out=store))
    if config.overwrite:
        shutil.rmtree(figures, ignore_errors=True)
    code = show_result(result)
    for path in save_figures(ZarrStore.open(store), figures):
        print(path)
    return code


COMMAND = Command(
    config=ExplainConfig,
    run=run,
    parse=parse_sweep,
    example="jaxseg-xai explain --model brain --data.source brain --data.limit 2 --explain misure",
)
