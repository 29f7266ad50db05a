"""A bar that says how far a long work is, for a person who watches."""

import sys
from typing import Any

from tqdm.auto import tqdm


def progress_bar(*of: Any, shown: bool = True, **options: Any) -> tqdm:
    """tqdm's bar in a terminal or a notebook; in a log file it would be one endless line.

    Args:
      *of: what is gone through, as for `tqdm`.
      shown: False hides it in any case.
      **options: as for `tqdm`.
    """
    watched = sys.stderr is not None and (sys.stderr.isatty() or "ipykernel" in sys.modules)
    return tqdm(*of, disable=not (shown and watched), **options)
