"""`jaxseg-xai judge`: methods x models x metrics on a data set: which explanation to believe."""

import sys

from jaxseg_xai.cli.command import EXIT_OK, Command, show_result
from jaxseg_xai.cli.dry_run import show_plan
from jaxseg_xai.cli.sweep_flags import parse_sweep
from jaxseg_xai.core.fields import check
from jaxseg_xai.judging.config import JudgeConfig

_MOST_NOTES = 10


def run(config: JudgeConfig, command: str) -> int:
    """Explain, score, print the tables, say on standard error what was left out."""
    del command
    from jaxseg_xai.judging import judge_stores
    from jaxseg_xai.sweeps.run import run_sweep

    check(config)
    sweeps = [] if config.stores else config.sweeps()
    if config.dry_run:
        return max(map(show_plan, sweeps), default=EXIT_OK)
    code = EXIT_OK
    for sweep in sweeps:
        print(f"{sweep.model}: {sweep.out}")
        code = max(code, show_result(run_sweep(sweep)))
    found = judge_stores(
        config.stores or [sweep.out for sweep in sweeps],
        config.out,
        metrics=config.judges(),
        num_resamples=config.num_resamples,
        seed=config.seed,
        published=config.published,
    )
    page = found.save(config.out, parquet=config.parquet)
    for note in found.notes[:_MOST_NOTES]:
        print(f"note: {note}", file=sys.stderr)
    if len(found.notes) > _MOST_NOTES:
        more = len(found.notes) - _MOST_NOTES
        print(f"note: {more} more; the page has them all", file=sys.stderr)
    print(found)
    print(f"page and tables: {page}")
    return code


COMMAND = Command(
    config=JudgeConfig,
    run=run,
    parse=parse_sweep,
    example="jaxseg-xai judge --models brain brain-unext --data.source brain --data.limit 30 "
    "--explain misure grad_cam --metrics deletion --out runs/judge",
)
