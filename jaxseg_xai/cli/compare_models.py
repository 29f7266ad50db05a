"""`jaxseg-xai compare-models`: maps of effects of several models; a page, pictures, tables."""

import dataclasses
import sys
from pathlib import Path

import tyro

from jaxseg_xai.cli.command import EXIT_OK, Command
from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.fields import check, setting

_MOST_NOTES = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareModelsConfig:
    """Compare models by the effects of blocks: PdCR's analysis (arXiv 2602.20511).

    Shares of positive, negative and zero blocks with pies, histograms in nine bins, agreement and
    rank correlation of each two models' maps, and parts of the networks where the stores have them.
    Writes a page (HTML), its pictures (PNG) and tables (CSV, JSON).

    Attributes:
      stores: of sweeps of the same images and classes with one region, a store a model; or folders
        of PdCR's results (with heatmap_np/ in them). Several entries of a store count as several
        models.
      out: folder to write.
      labels: the only entries to compare.
      threshold: effects below it count as none; None: that of the sweeps.
      max_items: draw so many maps, evenly spaced.
      pdcr: folder for the maps as PdCR's code writes them, with statistics and the list of regions;
        None writes none.
    """

    stores: tyro.conf.Positional[tuple[Path, ...]] = ()
    out: Path = Path("runs/comparison")
    labels: tuple[str, ...] = ()
    threshold: float | None = setting(None, at_least=0)
    max_items: int = setting(4, at_least=0)
    pdcr: Path | None = None

    def check_together(self) -> None:
        """Raise `ConfigError` where no store is named."""
        if not self.stores:
            raise ConfigError(
                "name the stores of two models or more: jaxseg-xai compare-models runs/a.zarr "
                "runs/b.zarr"
            )


def run(config: CompareModelsConfig, command: str) -> int:
    """Compare, print the tables, say on standard error what was left out, write everything."""
    del command
    from jaxseg_xai.comparison import compare_models
    from jaxseg_xai.comparison.pdcr import write_pdcr

    check(config)
    found = compare_models(config.stores, labels=config.labels, threshold=config.threshold)
    folders = [] if config.pdcr is None else write_pdcr(found, config.pdcr)
    page = found.save(config.out, max_items=config.max_items)
    for note in found.notes[:_MOST_NOTES]:
        print(f"note: {note}", file=sys.stderr)
    if len(found.notes) > _MOST_NOTES:
        more = len(found.notes) - _MOST_NOTES
        print(f"note: {more} more; the page has them all", file=sys.stderr)
    print(found)
    print(f"\npage, pictures and tables: {page}")
    for folder in folders:
        print(f"PdCR's files: {folder}")
    return EXIT_OK


COMMAND = Command(
    config=CompareModelsConfig,
    run=run,
    example="jaxseg-xai compare-models runs/unet.zarr runs/segformer.zarr --out runs/comparison",
)
