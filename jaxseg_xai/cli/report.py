"""`jaxseg-xai report`: one HTML page from a store."""

import dataclasses
from pathlib import Path

from jaxseg_xai.cli.command import EXIT_OK, Command
from jaxseg_xai.core.fields import check, setting
from jaxseg_xai.store import ZarrStore


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """One self-contained HTML page from a store.

    Attributes:
      store: made by `sweep` or `explain`.
      out: the page to write; beside the store where empty.
      max_items: show at most so many figures, evenly spaced.
    """

    store: Path = Path("runs/sweep.zarr")
    out: Path | None = None
    max_items: int = setting(200, at_least=0)


def run(config: ReportConfig, command: str) -> int:
    """Write the page and print its path."""
    del command
    from jaxseg_xai.report.gallery import write_report

    check(config)
    place = config.store.resolve()
    out = config.out or place.with_name(place.name.removesuffix(".zarr") + ".html")
    print(write_report(ZarrStore.open(config.store), out, max_items=config.max_items))
    return EXIT_OK


COMMAND = Command(
    config=ReportConfig,
    run=run,
    example="jaxseg-xai report --store runs/sweep.zarr --out report.html",
)
