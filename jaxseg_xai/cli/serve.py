"""`jaxseg-xai serve STORE`: look at any number of explanations in a browser."""

import contextlib
import dataclasses
import functools
from pathlib import Path
from typing import Annotated

import tyro

from jaxseg_xai.cli.command import EXIT_OK, Command
from jaxseg_xai.core.fields import check, setting
from jaxseg_xai.store import ZarrStore


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Look at the explanations of a store in a browser; pictures are made when they are asked for.

    Attributes:
      store: made by `sweep` or `explain`, also while the sweep is still running.
      host: where to listen; by default only this machine can see the page.
      port: of the address; 0 takes a free one.
    """

    store: Annotated[Path, tyro.conf.Positional] = Path("runs/sweep.zarr")
    host: str = "127.0.0.1"
    port: int = setting(8600, at_least=0, at_most=65535)


def run(config: ServeConfig, command: str) -> int:
    """Serve until interrupted."""
    del command
    from jaxseg_xai.report.serve import serve

    check(config)
    say = functools.partial(print, flush=True)
    with contextlib.suppress(KeyboardInterrupt):  # how one ends it
        serve(lambda: ZarrStore.open(config.store), host=config.host, port=config.port, say=say)
    return EXIT_OK


COMMAND = Command(config=ServeConfig, run=run, example="jaxseg-xai serve runs/sweep.zarr")
