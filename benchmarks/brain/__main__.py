"""`python -m benchmarks.brain [FAMILY ...] --out FOLDER`: train them, one after the other; a table.

Each is what `jaxseg-xai train --config benchmarks/brain/FAMILY.toml --out FOLDER/FAMILY` trains.
"""

import dataclasses
import shlex
import sys
import time
from pathlib import Path

import tyro

from jaxseg_xai.cli.command import read_toml
from jaxseg_xai.core.errors import JaxsegError
from jaxseg_xai.devices.mesh import use_cpu_cores
from jaxseg_xai.models.folder import load_model
from jaxseg_xai.models.summary import num_parameters
from jaxseg_xai.training.config import TrainConfig
from jaxseg_xai.training.loop import train

_HERE = Path(__file__).parent
_COLUMNS = ("network", "parameters", "steps", "core minutes")


def known() -> tuple[str, ...]:
    """The families that have a file here."""
    return tuple(sorted(path.stem for path in _HERE.glob("*.toml")))


def path_of(name: str) -> Path:
    """The settings of a family's training run."""
    return _HERE / f"{name}.toml"


def train_one(name: str, out: Path) -> str:
    """Train a family's small network; its row of the table."""
    path = path_of(name)
    config = dataclasses.replace(read_toml(path, TrainConfig), out=out / name)
    place = path.relative_to(_HERE.parents[1])
    start = time.process_time()
    dices = train(config, shlex.join(["jaxseg-xai", "train", "--config", str(place)]))
    minutes = (time.process_time() - start) / 60
    size = num_parameters(load_model(config.out).variables)
    numbers = [f"{dice:.3f}" for dice in dices.values()]
    return row(name, f"{size:,}", str(config.steps), f"{minutes:.1f}", *numbers)


def row(*cells: str) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def main(names: tyro.conf.Positional[tuple[str, ...]] = (), out: Path = Path("runs/brain")) -> int:
    """Train small networks on brain slices and print their Dice on held-out slices.

    Args:
      names: families; all that have a file beside this one where empty.
      out: folder of the model folders.
    """
    use_cpu_cores()
    columns = (*_COLUMNS, "csf", "grey matter", "white matter", "mean")
    print(row(*columns), row(*["---"] * len(columns)), sep="\n", flush=True)
    try:
        for name in names or known():
            print(train_one(name, out), flush=True)
    except JaxsegError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
