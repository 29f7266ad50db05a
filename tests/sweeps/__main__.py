"""Sweeps whose processes are killed.

python -m tests.sweeps --workers 4 --kills 20 --rows 512        (--workers 0: one process)
python -m tests.sweeps --workers 2 --kills 20 --rows 512 --ray
"""

import argparse
import tempfile
from pathlib import Path

from tests.sweeps.kills import compare, disturb, disturb_on_ray


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--programs", default=str(Path(tempfile.gettempdir()) / "kills-xla"))
    parser.add_argument("--ray", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        told = given.workers, given.kills, given.rows, given.programs, given.seed
        how = disturb_on_ray if given.ray else disturb
        for line in compare(Path(folder), *told, disturb=how):
            print(line, flush=True)


if __name__ == "__main__":
    main()
