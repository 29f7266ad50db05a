"""`jaxseg-xai components`: which parts of a model carry which class; a table and a picture."""

import dataclasses
from pathlib import Path

from jaxseg_xai.cli.command import Command, show_result
from jaxseg_xai.cli.dry_run import show_plan
from jaxseg_xai.cli.sweep_flags import parse_sweep
from jaxseg_xai.core.errors import DataError, JaxsegError
from jaxseg_xai.core.fields import setting
from jaxseg_xai.core.types import Status
from jaxseg_xai.explainers.parts.table import write_csv
from jaxseg_xai.store import ZarrStore
from jaxseg_xai.sweeps.config import Job, SweepConfig, make_job
from jaxseg_xai.sweeps.data import DataConfig
from jaxseg_xai.sweeps.run import run_sweep

_OUT = Path("runs/components")
#: Statuses of images that cannot be explained, whatever the class.
_UNREAD = (Status.FAILED, Status.EMPTY_IMAGE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComponentsConfig(SweepConfig):
    """Effects of a model's channels, layers and skip connections: a CSV and a PNG per class.

    It is a sweep with the one method `components`, and a table and pictures of what it found.

    Attributes:
      out: folder to write: `components.zarr`, `components.csv` and `components-CLASS.png`.
    """

    out: Path = setting(_OUT, idle=True)
    data: DataConfig = dataclasses.field(default_factory=lambda: DataConfig(limit=4))
    explain: tuple[Job, ...] = dataclasses.field(default_factory=lambda: (make_job("components"),))


def run(config: ComponentsConfig, command: str) -> int:
    """Run the sweep, write the table and the pictures."""
    del command
    if config.dry_run:
        return show_plan(config)
    from jaxseg_xai.report.files import file_name
    from jaxseg_xai.report.panels import to_png
    from jaxseg_xai.report.parts import components_figure, tables_of

    path = config.out / "components.zarr"
    code = show_result(run_sweep(dataclasses.replace(config, out=path)))
    store = ZarrStore.open(path)
    tables = {
        f"{label} {name}" if len(store.labels) > 1 else name: table
        for label in store.labels
        for name, table in tables_of(store, label).items()
    }
    if not tables:
        if all(row.status in _UNREAD for row in store.rows()):
            raise DataError("no image can be explained; see why above, or choose others with data")
        raise DataError("no image has any of the classes; choose others with data or classes")
    try:
        for name, table in tables.items():
            picture = config.out / f"components-{file_name(name)}.png"
            title = f"{store.attrs['model']}: the parts that carry {name}"
            picture.write_bytes(to_png(components_figure(table, title)))
    except OSError as error:
        raise JaxsegError(f"{config.out}: cannot be written ({error.strerror})") from error
    write_csv(config.out / "components.csv", tables)
    print(f"table and pictures: {config.out}")
    return code


COMMAND = Command(
    config=ComponentsConfig,
    run=run,
    parse=parse_sweep,
    example="jaxseg-xai components --model brain --data.source brain --data.limit 2 "
    "--classes 'white matter'",
)
