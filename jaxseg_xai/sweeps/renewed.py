"""Images whose files were rewritten since a sweep explained them."""

import logging

import numpy as np

from jaxseg_xai.core.errors import JaxsegError
from jaxseg_xai.data.checks import read_item
from jaxseg_xai.data.stamps import Stamps, content_of, is_same
from jaxseg_xai.store import ZarrStore
from jaxseg_xai.store.base import PENDING
from jaxseg_xai.sweeps.work import Work


def forget_changed(work: Work, store: ZarrStore) -> None:
    """Make the rows of images pending that are others than they were, and say so.

    Size and time of their files are looked at first; only what was rewritten is read. What cannot
    be read any longer stays as it is.

    Args:
      work: the sweep.
      store: of it, with what was explained.
    """
    changed = changed_images(work, store)
    if not changed:
        return
    rows = {}
    # Of all labels: those that this run does not ask for are of the image that was, too.
    for label in store.labels:
        index, statuses = store.columns(label)["image_index"], store.statuses(label)
        rows[label] = np.flatnonzero(np.isin(index, changed) & (statuses != PENDING))
    store.make_pending(rows)
    count = sum(map(len, rows.values()))
    name = store.image_columns()["id"][changed[0]]
    logging.getLogger(__name__).warning(
        f"{store.path}: images that changed since they were explained: {len(changed)} (the first: "
        f"{name}); {count} rows are to be computed again"
    )


def changed_images(work: Work, store: ZarrStore) -> list[int]:
    """Positions of the images of a store that are others than they were, ascending."""
    known, stamps = store.image_columns(), Stamps(work.source)
    changed = []
    for position, (stamp, content) in enumerate(zip(known["stamp"], known["content"], strict=True)):
        index = work.chosen[position]
        if not stamp or stamps.of(index) == stamp:
            continue
        try:
            if not is_same(content, content_of(read_item(work.source, index))):
                changed.append(position)
        except JaxsegError as error:
            logging.getLogger(__name__).warning(
                f"{store.path}: {known['id'][position]} is explained as it was; now it cannot be "
                f"read ({error})"
            )
    return changed
