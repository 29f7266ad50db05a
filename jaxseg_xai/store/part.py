"""A part of a store, as one of many processes writes it."""

import os
import uuid
from collections.abc import Mapping
from typing import Any

from jaxseg_xai.store import layout
from jaxseg_xai.store.journal import Journal
from jaxseg_xai.store.leases import Lease
from jaxseg_xai.store.place import Place, io_errors
from jaxseg_xai.store.zarr_store import ZarrStore


class Part(ZarrStore):
    """The store for who holds the lease of some images: it writes journals of these, and no more.

    The process that has the right to write the store takes over what a part made, once it is done
    (`SharedStore.adopt`). Journals have names that no other process gives: one that lost its lease
    and does not know yet destroys nothing.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        part: str,
        lease: Lease,
        *,
        settings: Mapping[str, Any],
        run: str,
        version: str,
    ) -> None:
        """Open it; what earlier holders of the lease made is there.

        Args:
          path: of the store.
          part: its name.
          lease: of it.
          settings: label -> settings of the method.
          run: name of this run, for the rows that it writes.
          version: of the package, for the rows that it writes.
        """
        self._part, self._lease = part, lease
        place = Place(path, writes=True)
        with io_errors(place):
            super().__init__(place, "r")
            self._journal.check(part)
            self._reopen()
        self.check_writer = lease.check
        self.run, self.version = run, version
        self.settings = {label: layout.plain(found) for label, found in settings.items()}

    def set_description(self, label: str, describe: Mapping[str, Any]) -> None:
        """See `Store.set_description`."""
        self._journal.attributes[label] = {"describe": layout.plain(describe)}

    def set_attribute(self, name: str, value: Any) -> None:
        """See `Store.set_attribute`; kept with the next rows."""
        self._journal.attributes.setdefault("", {})[name] = layout.plain(value)

    def flush(self) -> None:
        """Write a journal, as long as the lease holds; `LeaseLost` where it does not."""
        with io_errors(self._place):
            self._keep()

    def close(self) -> None:
        """`flush`, and say that the part is done."""
        self.flush()
        with io_errors(self._place):
            self._lease.finish()

    def _open_journal(self) -> Journal:
        return Journal(self._place, self._part, f"_{uuid.uuid4().hex[:8]}")
