"""The store of a sweep of many processes, for the one that has the right to write it."""

from typing import Any, Self

import numpy as np

from jaxseg_xai.store.layout import IMAGES
from jaxseg_xai.store.place import io_errors
from jaxseg_xai.store.zarr_store import ZarrStore


class SharedStore(ZarrStore):
    """A store whose rows come in by `adopt`, in parts that other processes made (`store.part`).

    What they have not finished is not read.
    """

    #: Images that are written, or will not come.
    _images: np.ndarray

    @classmethod
    def create_or_resume(cls, *arguments: Any, **options: Any) -> Self:
        """See `ZarrStore.create_or_resume`."""
        store = super().create_or_resume(*arguments, **options)
        with io_errors(store._place):
            store._compaction.run(everything=True)  # the other processes look into shards
            store._images = store._table(IMAGES).column("height") > 0
        return store

    def adopt(self, part: str, images: range) -> bool:
        """Take over the rows of a part that is done; whether all of its images are here by now.

        Args:
          part: which.
          images: of the part.
        """
        with io_errors(self._place):
            found = self._journal.open(part)
            self._journal.check(part)
        for group in found.keys() & self._tables.keys():
            for row, values in self._journal.rows(group).items():
                self._tables[group].set(row, values)
        for group, attributes in self._journal.attributes.items():
            for name, value in attributes.items():
                if group:
                    self.set_description(group, value)
                elif self.attrs.get(name) != value:
                    self.set_attribute(name, value)
        whole = not any(self._is_pending(label, images) for label in self.settings)
        if whole:
            self._images[images.start : images.stop] = True
        return whole

    def _compact(self, *, everything: bool = False) -> None:
        self._compaction.run(everything=everything, images=self._images, check=self.check_writer)

    def _parts(self) -> list[str]:
        return []

    def _is_pending(self, label: str, images: range) -> bool:
        index = self._table(label).column("image_index")[self.pending(label)]
        return bool(((images.start <= index) & (index < images.stop)).any())
