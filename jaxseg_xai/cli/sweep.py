"""`jaxseg-xai sweep`: a data set x classes x methods into a store."""

from jaxseg_xai.cli.command import Command, show_result
from jaxseg_xai.cli.dry_run import show_plan
from jaxseg_xai.cli.sweep_flags import parse_sweep
from jaxseg_xai.sweeps.config import SweepConfig
from jaxseg_xai.sweeps.run import run_sweep


def run(config: SweepConfig, command: str) -> int:
    """Run the sweep and say what came of it."""
    del command
    if config.dry_run:
        return show_plan(config)
    code = show_result(run_sweep(config))
    print(f"store: {config.out}")
    return code


COMMAND = Command(
    config=SweepConfig,
    run=run,
    computes=lambda config: not config.starts_others or config.dry_run,
    parse=parse_sweep,
    example="jaxseg-xai sweep --config sweep.toml --data.limit 100 --out runs/sweep.zarr",
)
